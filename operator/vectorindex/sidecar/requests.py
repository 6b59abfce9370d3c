"""The bodies and queries of the maintenance and data API, as its existing clients send them.

They are lenient where those clients are: numbers may come as strings, ``params`` as ``build_params`` or null, an
``/optimize`` as a bare name, booleans of a query as ``True``, and a field that nobody knows is ignored.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Any, TypeVar

import numpy as np
from aiohttp import web
from numpy.typing import NDArray
from pydantic import (
    AfterValidator,
    AliasChoices,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationError,
    model_validator,
)

from vectorindex.engine.errors import InvalidInput
from vectorindex.engine.params import MAX_DIMENSIONS, validate_index_name
from vectorindex.engine.session import SessionMode
from vectorindex.sidecar.errors import BadRequest, TooLarge, Unprocessable
from vectorindex.sidecar.limits import MAX_BATCH_ROWS, MAX_BODY_BYTES, MAX_EF, MAX_FETCH, MAX_K
from vectorindex.wire.identity import GraphParameters, Metric


def _check_index_name(name: str) -> str:
    try:
        validate_index_name(name)
    except InvalidInput as error:
        raise ValueError(str(error)) from None
    return name


IndexName = Annotated[str, AfterValidator(_check_index_name)]
Parameters = Annotated[
    GraphParameters,
    BeforeValidator(lambda value: {} if value is None else value),
    Field(default_factory=GraphParameters, validation_alias=AliasChoices("params", "build_params")),
]


class Body(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class IndexBody(Body):
    index_name: IndexName


class CreateBody(IndexBody):
    dim: int = Field(ge=1, le=MAX_DIMENSIONS)
    delta_ratio: float = Field(default=0.10, ge=0, le=0.5)
    metric: Metric = Metric.L2
    params: Parameters


class RebuildBody(IndexBody):
    params: Parameters


class OptimizeBody(IndexBody):
    @model_validator(mode="before")
    @classmethod
    def _name_alone(cls, value: Any) -> Any:
        return {"index_name": value} if isinstance(value, str) else value


class FinalizeBody(IndexBody):
    optimize: bool = False
    params: Parameters


class InitBody(IndexBody):
    mode: SessionMode


class Item(Body):
    external_id: str
    vector: list[float] = Field(max_length=MAX_DIMENSIONS)


class IngestBody(IndexBody, Item):
    pass


class UpsertBody(IndexBody):
    items: list[Item] = Field(min_length=1)


class ItemsBody(IndexBody):
    external_ids: list[str] = Field(min_length=1, max_length=MAX_FETCH)


class SearchBody(IndexBody):
    vectors: list[list[float]] = Field(min_length=1, max_length=MAX_BATCH_ROWS)
    k: int = Field(default=10, ge=1, le=MAX_K)
    ef: int | None = Field(default=None, ge=1, le=MAX_EF)
    exact: bool = False


class DeleteBody(IndexBody):
    external_ids: list[str]
    return_not_found: bool = False


B = TypeVar("B", bound=BaseModel)


async def read(request: web.Request, model: type[B], limit: int = MAX_BODY_BYTES) -> B:
    """The request's body as ``model``. Raises BadRequest if it is no JSON, Unprocessable if it has another shape,
    TooLarge beyond ``limit`` bytes."""
    content = await request.read()
    if len(content) > limit:
        raise TooLarge(f"the body has {len(content):,} bytes, and as JSON at most {limit:,} are read; send it binary")
    return parse(content, model)


def matrix(vectors: Sequence[Sequence[float]], dimensions: int) -> NDArray[np.float32]:
    """(n, dimensions). Raises BadRequest, which names the row."""
    for row, vector in enumerate(vectors):
        if len(vector) != dimensions:
            raise BadRequest(f"vector {row} has {len(vector)} dimensions, the index has {dimensions}")
    return np.array(vectors, np.float32)


def parse(content: bytes, model: type[B]) -> B:
    try:
        return model.model_validate_json(content)
    except ValidationError as error:
        problems = error.errors(include_url=False, include_input=False, include_context=False)
        if any(problem["type"] == "json_invalid" for problem in problems):
            raise BadRequest(f"the body is no JSON: {problems[0]['msg']}") from None
        raise Unprocessable(
            "; ".join(".".join(map(str, problem["loc"])) + ": " + problem["msg"] for problem in problems[:5])
        ) from None


def whole_rows(content: bytes, row_bytes: int, what: str) -> int:
    """How many rows ``content`` holds. Raises BadRequest if it is empty or not whole rows."""
    if not content:
        raise BadRequest("the body is empty")
    if len(content) % row_bytes:
        raise BadRequest(f"the body has {len(content)} bytes, which is not whole rows of {row_bytes} ({what})")
    return len(content) // row_bytes


def integer(request: web.Request, name: str, default: int | None, *, low: int, high: int) -> int | None:
    """An integer of the query. Raises BadRequest if it is none or out of ``low`` … ``high``."""
    text = request.query.get(name)
    if text is None or text == "":
        return default
    try:
        value = int(text)
    except ValueError:
        raise BadRequest(f"{name}={text} is not an integer") from None
    if not low <= value <= high:
        raise BadRequest(f"{name}={value} is not within {low} and {high}")
    return value


def boolean(request: web.Request, name: str, default: bool) -> bool:
    """A boolean of the query: true, false, 1, 0 in any case. Raises BadRequest."""
    text = request.query.get(name, str(default)).lower()
    if text in ("true", "1"):
        return True
    if text in ("false", "0"):
        return False
    raise BadRequest(f"{name}={text} is neither true nor false")


def index_name(request: web.Request) -> str:
    """The path's ``name``, of an index that need not exist. Raises BadRequest."""
    try:
        return _check_index_name(request.match_info["name"])
    except ValueError as error:
        raise BadRequest(str(error)) from None


def required(request: web.Request, name: str) -> str:
    value = request.query.get(name)
    if not value:
        raise BadRequest(f"the query needs {name}=…")
    return value
