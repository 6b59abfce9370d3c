"""How kopf is told to watch."""

from __future__ import annotations

import inspect
import logging
from itertools import islice

from vectorindex.handlers.watching import build_registry, build_settings, watch_failure
from vectorindex.reconcile.intake import Intake
from vectorindex.reconcile.seen import Seen
from vectorindex.reconcile.watchlist import Watchlist


def test_every_event_is_taken_in_on_the_event_loop() -> None:
    """kopf calls what is not asynchronous in threads, where nothing that is kept may be touched."""
    intake = Intake(Watchlist(), Seen(), lambda key, after=0.0: None, lambda: None)  # type: ignore[arg-type,return-value]
    handlers = build_registry(intake)._watching.get_all_handlers()
    assert len(handlers) == 9
    assert all(inspect.iscoroutinefunction(handler.fn) for handler in handlers)


def test_what_passes_is_waited_for_however_long_it_takes() -> None:
    pauses = build_settings().networking.error_backoffs
    for _ in range(2):  # each request begins anew
        first, *_, last = islice(iter(pauses), 1_000)  # type: ignore[arg-type]
        assert (first, last) == (1.0, 13.0)


async def test_a_watch_that_is_given_up_is_told() -> None:
    failure = watch_failure()
    log = logging.getLogger("kopf._core.reactor.orchestration")
    log.warning("Unprocessed streams left")
    assert not failure.done()
    for kind in ("pods", "services"):
        log.error("Watcher for %s has failed", kind)
    assert failure.result() == "Watcher for pods has failed"
