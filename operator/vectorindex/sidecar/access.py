"""Who may call what the operator calls: the maintenance of an index, and what replaces all its items.

In a pod, whoever holds a token that the operator signed for it. By hand, without an identity, everybody: the sidecar
listens on loopback then, unless it was told otherwise.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from aiohttp import web
from aiohttp.typedefs import Handler

from vectorindex.sidecar.errors import Unauthorized
from vectorindex.sidecar.identity import OwnIdentity
from vectorindex.wire.tokens import audience

_NONE_GIVEN = (
    "only the operator may call this, with its token: create an IndexRebuild or an IndexOptimize, load items in mode "
    "upsert, or get a token by `vectorindex-operator token`"
)


class Access:
    def __init__(self, identity: OwnIdentity | None) -> None:
        self._identity = identity
        if identity is not None:
            # Not before: it takes 10 MB, for which a sidecar without an identity has no use.
            from vectorindex.sidecar import tokens

            self._tokens = tokens

    def require_operator(self, request: web.Request) -> None:
        """Raises Unauthorized unless the request comes in the operator's name.

        A file without keys trusts nobody: it may be an older operator's, or have lost them, and neither must open a pod
        that others can reach."""
        if self._identity is None:
            return
        keys, pod = self._identity.says.public_keys, self._identity.pod
        if not keys:
            raise Unauthorized("the identity file has no public_keys, so nobody may call this: update the operator")
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            raise Unauthorized(_NONE_GIVEN, challenge="Bearer")
        own = audience(pod.namespace, pod.index, pod.pod)
        try:
            self._tokens.check(token.strip(), keys, own)
        except self._tokens.ForAnother as why:
            raise Unauthorized(f"the token is not accepted: {why}", audience=own) from None
        except self._tokens.NotAccepted as why:
            raise Unauthorized(f"the token is not accepted: {why}") from None

    def for_operator(self, routes: Iterable[web.RouteDef]) -> list[web.RouteDef]:
        """The routes, each after :meth:`require_operator`."""
        return [web.route(each.method, each.path, self._guarded(each.handler), **each.kwargs) for each in routes]

    def _guarded(self, handler: Any) -> Handler:
        async def guarded(request: web.Request) -> web.StreamResponse:
            self.require_operator(request)
            answer: web.StreamResponse = await handler(request)
            return answer

        return guarded
