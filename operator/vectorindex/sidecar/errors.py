"""What a request can be refused with. Each class is one status code; the message becomes ``{"detail": …}``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from vectorindex.wire.operations import FailureReason


class RequestError(Exception):
    """A request that is answered with ``status`` and changed nothing. ``fields``: what the answer holds beside the
    message, ``headers``: beside those of every answer."""

    status = 400
    fields: Mapping[str, Any] = {}
    headers: Mapping[str, str] = {}


class BadRequest(RequestError):
    status = 400


class Unauthorized(RequestError):
    """The request does not come in the name of one who may make it. ``challenge``: of the header WWW-Authenticate;
    ``audience``: who this pod is, where the token is for another one."""

    status = 401

    def __init__(
        self, message: str, challenge: str = 'Bearer error="invalid_token"', audience: str | None = None
    ) -> None:
        super().__init__(message)
        self.headers = {"WWW-Authenticate": challenge}
        if audience is not None:
            self.fields = {"audience": audience}


class Forbidden(RequestError):
    status = 403


class NotFound(RequestError):
    status = 404


class Conflict(RequestError):
    status = 409


class OutOfEpoch(Conflict):
    """The operator that calls is the leader no more, or its epoch cannot be right."""

    def __init__(self, message: str, epoch: int, seen: int) -> None:
        super().__init__(message)
        self.fields = {"epoch": epoch, "seen": seen}


class TooLarge(RequestError):
    status = 413


class Unprocessable(RequestError):
    status = 422


class PreconditionRequired(RequestError):
    status = 428


class TooManyRequests(RequestError):
    status = 429


class Unavailable(RequestError):
    """Not now: the same request may succeed later without any change."""

    status = 503


class BuildError(Exception):
    """A build gave no result. ``reason`` is the operation's; the message is for the user."""

    def __init__(self, reason: FailureReason, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class StartRefused(Exception):
    """The program must not start like this; the message says why and what to do."""


class CommandFailed(Exception):
    """A command of the command line could not do its work; the message says why."""
