"""What calling a sidecar may come to, sorted by what the caller can do about it."""

from __future__ import annotations


class SidecarError(Exception):
    """A call of a sidecar did not give what was asked for."""


class UnreachableError(SidecarError):
    """No answer, or none of use, now (connection refused, timeout, 5xx): the same call is to be repeated. It may have
    had its effect all the same."""


class NotFoundError(SidecarError):
    """The sidecar does not know the index or the operation (404)."""


class UnauthorizedError(SidecarError):
    """The sidecar wants a token, or another one (401); the message says why. It may only not know yet that the
    operator's key has changed. ``audience``: who it is, where the token is for somebody else."""

    def __init__(self, message: str, audience: str | None = None) -> None:
        super().__init__(message)
        self.audience = audience


class FencedError(SidecarError):
    """The call's epoch does not count on that pod (409): it is over, or too far ahead of the pod's clock. The message
    is what the pod says."""

    def __init__(self, message: str, epoch: int, seen: int) -> None:
        super().__init__(message)
        self.epoch = epoch
        self.seen = seen

    @property
    def is_over(self) -> bool:
        """Has the pod been called with a higher epoch?"""
        return self.epoch < self.seen


class RefusedError(SidecarError):
    """The sidecar refuses the call as it is (4xx); the message is what it says. Repeating does not help."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


class OtherRequestError(RefusedError):
    """The operation exists already, with another request (409)."""
