"""What operator and sidecar agree on: the digest of a request, and the bitmap of what was found."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from vectorindex.wire.operations import (
    DeleteBody,
    DeleteRequest,
    ObjectReference,
    RebuildBody,
    RebuildRequest,
    distinct,
    pack_bitmap,
    request_digest,
    unpack_bitmap,
)

OBJECT = ObjectReference(name="old-animals", uid="c0ffee")


def delete(*ids: str, obj: ObjectReference = OBJECT) -> DeleteBody:
    return DeleteBody(object=obj, request=DeleteRequest(external_ids=ids))


def limited(percent: int, *ids: str) -> DeleteBody:
    return DeleteBody(object=OBJECT, request=DeleteRequest(external_ids=ids, max_delete_percent=percent))


def rebuild(request: dict[str, object]) -> RebuildBody:
    return RebuildBody(object=OBJECT, request=RebuildRequest.model_validate(request))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(delete("a", "b", "a"), delete("a", "b"), id="a repeated ID"),
        pytest.param(limited(5, "a", "b", "a"), limited(5, "a", "b"), id="a repeated ID, with a limit"),
        pytest.param(delete("a"), delete("a", obj=ObjectReference(name="x", uid="y")), id="another object"),
        pytest.param(rebuild({}), rebuild({"params": {}, "verify": {"samples": 200}}), id="a default written out"),
        pytest.param(rebuild({"params": {"M": 8}}), rebuild({"params": {"m": 8}}), id="both names of a field"),
        pytest.param(rebuild({"index_params": {"M": 8}}), rebuild({}), id="the index asks for something else"),
    ],
)
def test_same_request_same_digest(one: DeleteBody | RebuildBody, other: DeleteBody | RebuildBody) -> None:
    assert request_digest(one) == request_digest(other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param(delete("a", "b"), delete("b", "a"), id="another order, which the bitmap follows"),
        pytest.param(delete("a"), delete("b"), id="another ID"),
        pytest.param(delete("a"), limited(50, "a"), id="a limit"),
        pytest.param(limited(0, "a"), limited(50, "a"), id="another limit"),
        pytest.param(delete("ab"), delete("a", "b"), id="IDs that join to the same text"),
        pytest.param(rebuild({}), rebuild({"params": {"M": 8}}), id="a parameter set"),
        pytest.param(rebuild({}), rebuild({"verify": {"min_recall_percent": 90}}), id="a limit set"),
        pytest.param(delete("a"), rebuild({}), id="another kind"),
    ],
)
def test_another_request_another_digest(one: DeleteBody | RebuildBody, other: DeleteBody | RebuildBody) -> None:
    assert request_digest(one) != request_digest(other)


def test_the_digest_is_the_documented_one() -> None:
    """It is compared across versions of operator and sidecar, so it must never change."""
    assert request_digest(delete("é", "b")) == ("1670509793798f122cd5c01f24930e94fd5b9ba82cca1f243cd4cc8cc052909d")


def test_distinct_keeps_the_order_of_first_appearance() -> None:
    assert distinct(["b", "a", "b", "c", "a"]) == ("b", "a", "c")


@given(st.lists(st.booleans(), max_size=70))
def test_bitmap_there_and_back(bits: list[bool]) -> None:
    assert unpack_bitmap(pack_bitmap(bits), len(bits)) == bits


def test_a_bitmap_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match="2 bytes does not describe 3 IDs"):
        unpack_bitmap(pack_bitmap([True] * 9), 3)


def test_a_delete_without_ids_is_refused() -> None:
    with pytest.raises(ValidationError, match="at least 1 item"):
        DeleteRequest(external_ids=())
