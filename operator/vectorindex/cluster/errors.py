"""What the API server may answer instead of what was asked for, sorted by what a caller can do about it."""

from __future__ import annotations


class ClusterError(Exception):
    """A request to the API server failed. ``status`` is the HTTP status, 0 when there was no answer."""

    def __init__(self, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.status = status


class NotFoundError(ClusterError):
    """There is no such object (404)."""


class ConflictError(ClusterError):
    """The object is not what the caller took it for: another UID, or it exists already (409)."""


class OutdatedError(ClusterError):
    """The object has changed since it was read (409): what was decided by it is to be decided anew."""


class RejectedError(ClusterError):
    """The object is not valid, or admission refused it (400, 403, 422): repeating does not help until someone acts."""


class UnavailableError(ClusterError):
    """No answer, or none of use, now (timeouts, 401, 410, 429, 5xx); the request may have had its effect."""


def error_for(status: int, message: str) -> ClusterError:
    """The error for an HTTP status of 400 and above."""
    match status:
        case 404:
            return NotFoundError(message, status)
        case 409:
            return ConflictError(message, status)
        case 401 | 408 | 410 | 429:
            return UnavailableError(message, status)
        case _ if status >= 500:
            return UnavailableError(message, status)
        case _:
            return RejectedError(message, status)
