"""What the operator's command line means, and what it refuses."""

from __future__ import annotations

import pytest

from vectorindex.cli.operator import candidate
from vectorindex.cli.options import parse_options
from vectorindex.domain.election import Timing

ENVIRONMENT = {"VECTORINDEX_IMAGE": "image", "POD_NAMESPACE": "operators"}


def test_in_its_pod_it_needs_no_option() -> None:
    options = parse_options([], ENVIRONMENT)
    assert (options.operator_namespace, options.lease_name) == ("operators", "vectorindex-operator")
    assert options.timing == Timing(duration=15, renew_deadline=10.0, retry=2.0)
    assert options.namespaces == ()


def test_an_option_counts_more_than_the_environment() -> None:
    options = parse_options(["--operator-namespace", "here", "--default-image", "mine"], ENVIRONMENT)
    assert (options.operator_namespace, options.default_image) == ("here", "mine")


@pytest.mark.parametrize(
    ("arguments", "environment", "complaint"),
    [
        ([], {"VECTORINDEX_IMAGE": "image"}, "the following arguments are required: --operator-namespace"),
        ([], {"POD_NAMESPACE": "operators"}, "give the sidecar's image"),
        (["--renew-deadline", "15"], ENVIRONMENT, "each of these must be shorter than the next"),
        (["--retry-period", "0"], ENVIRONMENT, "each of these must be shorter than the next"),
        (["--lease-duration", "1.5"], ENVIRONMENT, "invalid int value: '1.5'"),
    ],
)
def test_what_is_missing_or_cannot_be_is_said(
    arguments: list[str], environment: dict[str, str], complaint: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        parse_options(arguments, environment)
    assert ended.value.code == 2
    assert complaint in capsys.readouterr().err


def test_no_two_processes_have_the_same_name_and_those_of_one_pod_follow_each_other() -> None:
    pod = {"POD_NAME": "operator-1", "POD_UID": "uid-1"}
    first, second, other = candidate(pod), candidate(pod), candidate({**pod, "POD_UID": "uid-2"})
    assert first.name != second.name
    assert second.replaces(first.name)
    assert not other.replaces(first.name)
    by_hand, beside = candidate({}), candidate({})
    assert not by_hand.replaces(beside.name)
