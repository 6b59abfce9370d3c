"""The identity file: which index a pod holds. The operator writes it, the sidecar starts by it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from vectorindex.wire.base import WireModel


class Metric(StrEnum):
    """How two vectors are compared; smaller distance is nearer for all three."""

    COSINE = "Cosine"
    L2 = "L2"
    INNER_PRODUCT = "InnerProduct"


class GraphParameters(WireModel):
    """HNSW parameters by the names of the public API; what is None stays as it is."""

    m: int | None = Field(default=None, alias="M", ge=2, le=512)
    ef_construction: int | None = Field(default=None, ge=1, le=10_000)
    ef_search: int | None = Field(default=None, ge=1, le=10_000)
    rng_seed: int | None = Field(default=None, ge=0, le=2**31 - 1)


class PublicKey(WireModel):
    """A key that tokens are checked with: an Ed25519 key as a JWK (RFC 8037); ``kid`` is its thumbprint (RFC 7638)."""

    kty: Literal["OKP"] = "OKP"
    crv: Literal["Ed25519"] = "Ed25519"
    kid: str
    x: str = Field(pattern="^[A-Za-z0-9_-]{43}$")


class Identity(WireModel):
    """The content of ``identity.json``. A volume belongs to one index: name, dimensions and metric must agree with
    what it holds; the UID may change, so that an index that was created again takes its volumes back. ``public_keys``:
    of whoever may make the operator's calls; the one that signs, and the one that will."""

    namespace: str
    index: str
    uid: str
    dimensions: int = Field(ge=1, le=65_536)
    metric: Metric
    parameters: GraphParameters = GraphParameters()
    public_keys: tuple[PublicKey, ...] = ()
