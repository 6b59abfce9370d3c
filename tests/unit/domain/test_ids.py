"""The IDs of an IndexDelete, and what is wrong with them."""

from __future__ import annotations

import json

import pytest

from tests.unit.domain.given import delete_run
from vectorindex.api.reasons import Reason
from vectorindex.domain.ids import Missing, read_ids
from vectorindex.domain.verdicts import Verdict

FROM = {"externalIDsFrom": {"configMapKeyRef": {"name": "names", "key": "ids"}}}


@pytest.mark.parametrize(
    ("text", "ids"),
    [
        pytest.param("a\nb\n", ("a", "b"), id="one a line"),
        pytest.param("a\r\n\r\nb", ("a", "b"), id="Windows line ends, an empty line"),
        pytest.param("a b\n c", ("a b", " c"), id="blanks belong to the ID"),
        pytest.param('["a", "b", "a"]', ("a", "b", "a"), id="a JSON array"),
        pytest.param(' \n["ü\\n".trim]'.replace('\\n".trim', '"'), ("ü",), id="a JSON array after blanks"),
        pytest.param("é" * 256, ("é" * 256,), id="512 bytes"),
        pytest.param("\n".join(map(str, range(100_000))), tuple(map(str, range(100_000))), id="100,000 IDs"),
    ],
)
def test_both_forms_are_read(text: str, ids: tuple[str, ...]) -> None:
    assert read_ids(delete_run(**FROM), {"data": {"ids": text}}) == ids


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        pytest.param("", "holds no ID", id="empty"),
        pytest.param("\n\n", "holds no ID", id="empty lines only"),
        pytest.param("[]", "holds no ID", id="an empty array"),
        pytest.param('["hidden", ', "begins like a JSON array, but is none (line 1, column", id="malformed JSON"),
        pytest.param("[" * 100_000, "begins like a JSON array, but is none", id="JSON that is nested too deeply"),
        pytest.param('["hidden", 7]', "element 2 of the array is none", id="a number"),
        pytest.param('["hidden", ""]', "element 2: the ID is empty", id="an empty ID"),
        pytest.param("x\nhidden\tone", "line 2: the ID contains a control character", id="a control character"),
        pytest.param("é" * 257, "line 1: the ID has 514 bytes, at most 512 are allowed", id="too long"),
        pytest.param(json.dumps(["\ud800"]), "element 1: the ID is not valid Unicode", id="a lone surrogate"),
        pytest.param("x\n" * 100_001, "holds 100,001 IDs, at most 100,000 are allowed", id="too many"),
    ],
)
def test_bad_content_is_placed_and_never_quoted(text: str, problem: str) -> None:
    verdict = read_ids(delete_run(**FROM), {"data": {"ids": text}})
    assert isinstance(verdict, Verdict)
    assert verdict.reason is Reason.INVALID_REQUEST
    assert problem in verdict.message
    assert "ConfigMap names" in verdict.message
    assert "hidden" not in verdict.message


@pytest.mark.parametrize(
    ("config_map", "message"),
    [
        pytest.param(None, "ConfigMap names does not exist", id="no ConfigMap"),
        pytest.param({}, "ConfigMap names has no key ids", id="no data"),
        pytest.param({"data": {"other": "a"}}, "ConfigMap names has no key ids", id="no such key"),
    ],
)
def test_what_is_missing_may_come(config_map: dict[str, object] | None, message: str) -> None:
    assert read_ids(delete_run(**FROM), config_map) == Missing(Reason.CONFIG_MAP_NOT_FOUND, message)


def test_binary_data_is_refused() -> None:
    verdict = read_ids(delete_run(**FROM), {"binaryData": {"ids": "AAAA"}})
    assert isinstance(verdict, Verdict)
    assert not isinstance(verdict, Missing)
    assert "binary data" in verdict.message


def test_inline_ids_are_held_to_bytes_too() -> None:
    verdict = read_ids(delete_run(externalIDs=["a", "é" * 300]), None)
    assert isinstance(verdict, Verdict)
    assert verdict.message == "externalIDs[1]: the ID has 600 bytes, at most 512 are allowed"
