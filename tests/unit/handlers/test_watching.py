"""How kopf is told to watch."""

from __future__ import annotations

import inspect

from vectorindex.handlers.watching import build_registry
from vectorindex.reconcile.intake import Intake
from vectorindex.reconcile.seen import Seen
from vectorindex.reconcile.watchlist import Watchlist


def test_every_event_is_taken_in_on_the_event_loop() -> None:
    """kopf calls what is not asynchronous in threads, where nothing that is kept may be touched."""
    intake = Intake(Watchlist(), Seen(), lambda key, after=0.0: None, lambda: None)  # type: ignore[arg-type,return-value]
    handlers = build_registry(intake)._watching.get_all_handlers()
    assert len(handlers) == 9
    assert all(inspect.iscoroutinefunction(handler.fn) for handler in handlers)
