from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.crash.campaign import Crew, Recording, crew, record

tried: dict[str, int] = {}
"""How many points of each kind this run tried; it is printed at the end."""


@pytest.fixture(scope="session")
def team() -> Iterator[Crew]:
    with crew() as team:
        yield team


@pytest.fixture(scope="session")
def recording(team: Crew) -> Recording:
    return record(team)


@pytest.fixture
def count(request: pytest.FixtureRequest) -> dict[str, int]:
    """Where a test writes how many points it tried, by kind."""
    return tried


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if tried:
        terminalreporter.section("crash points tried (all of them: make crash)")
        for what, number in tried.items():
            terminalreporter.write_line(f"{number:6,} {what}")
