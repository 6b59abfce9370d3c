"""What the API server's statuses mean for the caller."""

from __future__ import annotations

import pytest

from vectorindex.cluster.errors import (
    ClusterError,
    ConflictError,
    NotFoundError,
    RejectedError,
    UnavailableError,
    error_for,
)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, RejectedError),
        (401, UnavailableError),
        (403, RejectedError),
        (404, NotFoundError),
        (408, UnavailableError),
        (409, ConflictError),
        (410, UnavailableError),
        (422, RejectedError),
        (429, UnavailableError),
        (500, UnavailableError),
        (504, UnavailableError),
    ],
)
def test_statuses(status: int, error: type[ClusterError]) -> None:
    made = error_for(status, "it says why")
    assert type(made) is error
    assert (made.status, str(made)) == (status, "it says why")
