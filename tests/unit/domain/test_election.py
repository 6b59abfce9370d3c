"""Who takes the Lease, keeps it, waits for it, has lost it; and with which epoch."""

from __future__ import annotations

from dataclasses import replace

import pytest

from vectorindex.domain.election import (
    Acquire,
    Candidate,
    Decision,
    Lost,
    Record,
    Renew,
    Timing,
    View,
    Wait,
    claim,
    decide,
    next_epoch,
    outbid,
    released,
    renewed,
)
from vectorindex.wire.epoch import MAX_AHEAD

ME = Candidate("a_1_x", "a_1_")
WALL = 1_800_000_000_000_000
OTHERS = Record("b_2_y", 15, acquired=WALL - 50, renewed=WALL - 10, transitions=3)
MINE = replace(OTHERS, holder=ME.name)
NOW = 1_000.0


def seen(record: Record, since: float = NOW, *, exists: bool = True) -> View:
    return View(record, since, exists)


@pytest.mark.parametrize(
    ("held_until", "view", "decision"),
    [
        pytest.param(None, View(), Acquire(), id="there never was a Lease"),
        pytest.param(None, seen(OTHERS), Wait("b_2_y", 15.0), id="another one leads"),
        pytest.param(None, seen(OTHERS, NOW - 14.5), Wait("b_2_y", 0.5), id="it was not renewed for almost too long"),
        pytest.param(None, seen(OTHERS, NOW - 15.0), Acquire(), id="it was not renewed for too long"),
        pytest.param(None, seen(replace(OTHERS, duration=60), NOW - 15), Wait("b_2_y", 45.0), id="its own duration"),
        pytest.param(None, seen(replace(OTHERS, renewed=0)), Wait("b_2_y", 15.0), id="its times say nothing"),
        pytest.param(None, seen(OTHERS, NOW - 3, exists=False), Wait("b_2_y", 12.0), id="deleted, its holder may act"),
        pytest.param(None, seen(OTHERS, NOW - 15, exists=False), Acquire(), id="deleted long enough ago"),
        pytest.param(None, seen(released(OTHERS, WALL)), Acquire(), id="given back"),
        pytest.param(None, seen(replace(OTHERS, holder="a_1_w")), Acquire(), id="of this container's last process"),
        pytest.param(None, seen(replace(OTHERS, holder="a_11_w")), Wait("a_11_w", 15.0), id="of another container"),
        pytest.param(None, seen(MINE), Acquire(), id="a write of ours without an answer"),
        pytest.param(NOW + 1, seen(MINE), Renew(), id="we lead"),
        pytest.param(NOW, seen(MINE), Lost("it was not renewed in time"), id="we were paused"),
        pytest.param(NOW + 1, seen(OTHERS), Lost("it is held by b_2_y"), id="another one leads though we should"),
        pytest.param(NOW + 1, seen(released(MINE, WALL)), Lost("somebody has taken it away"), id="taken away"),
        pytest.param(NOW + 1, seen(MINE, exists=False), Acquire(), id="we lead, and the Lease was deleted"),
        pytest.param(NOW, seen(MINE, exists=False), Lost("it was not renewed in time"), id="deleted while paused"),
    ],
)
def test_decisions(held_until: float | None, view: View, decision: Decision) -> None:
    assert decide(ME, held_until, view, NOW) == decision


def test_without_a_container_no_other_process_is_replaced() -> None:
    assert decide(Candidate("a_1_x"), None, seen(replace(OTHERS, holder="a_1_w")), NOW) == Wait("a_1_w", 15.0)


def test_only_a_change_starts_the_time_anew() -> None:
    view = View().after(OTHERS, NOW)
    assert view.after(OTHERS, NOW + 5) == view
    gone = view.after(None, NOW + 5)
    assert (gone.record, gone.since, gone.exists) == (OTHERS, NOW, False)
    assert gone.after(OTHERS, NOW + 6) == view
    again = replace(OTHERS, renewed=WALL)
    assert gone.after(again, NOW + 6) == View(again, NOW + 6, exists=True)


def test_the_last_time_to_act_is_before_the_first_to_take_over() -> None:
    """Sent, written, seen: whoever sees it, sees it after it was sent."""
    timing = Timing()
    for delay in (0.0, 3.0, 100.0):
        sent = NOW
        view = View().after(OTHERS, sent + delay)
        last = sent + timing.renew_deadline
        assert isinstance(decide(ME, None, view, last), Wait)
        assert isinstance(decide(ME, None, view, sent + timing.duration - 0.001), Wait)


def test_a_claim_counts_who_held_it_and_raises_the_epoch() -> None:
    timing = Timing(20, 10.0, 2.0)
    assert claim(ME, View(), timing, WALL) == Record(ME.name, 20, WALL, WALL, 0)
    assert claim(ME, seen(OTHERS), timing, WALL) == Record(ME.name, 20, WALL, WALL, 4)
    assert claim(ME, seen(MINE), timing, WALL) == Record(ME.name, 20, WALL, WALL, 3)
    gone = seen(replace(OTHERS, acquired=WALL + 7), exists=False)
    assert claim(ME, gone, timing, WALL).acquired == WALL + 8


def test_the_epoch_when_it_is_renewed_and_given_back() -> None:
    assert renewed(MINE, WALL, MINE.acquired) == replace(MINE, renewed=WALL)
    assert renewed(MINE, WALL, WALL + 9) == replace(MINE, renewed=WALL, acquired=WALL + 9)
    assert released(MINE, WALL) == Record("", 1, MINE.acquired, WALL, MINE.transitions)


@pytest.mark.parametrize(
    ("previous", "epoch"),
    [
        pytest.param(0, WALL, id="the first"),
        pytest.param(WALL - 1, WALL, id="the clock goes on"),
        pytest.param(WALL, WALL + 1, id="in the same microsecond"),
        pytest.param(WALL + 3_000_000, WALL + 3_000_001, id="the clock was set back"),
        pytest.param(WALL + MAX_AHEAD, WALL + MAX_AHEAD + 1, id="as far ahead as pods take it"),
        pytest.param(WALL + MAX_AHEAD + 1, WALL, id="further: it was wrong"),
    ],
)
def test_the_epoch_of_a_new_leader(previous: int, epoch: int) -> None:
    assert next_epoch(previous, WALL) == epoch


@pytest.mark.parametrize(
    ("ahead", "raised"),
    [(-1_000, True), (MAX_AHEAD, True), (MAX_AHEAD + 59_000_000, True), (MAX_AHEAD + 60_000_000, False)],
)
def test_what_a_pod_has_seen_is_outbid_unless_no_pod_would_take_it(ahead: int, raised: bool) -> None:
    assert outbid(WALL + ahead, WALL) == (WALL + ahead + 1 if raised else None)


@pytest.mark.parametrize("times", [(15, 15.0, 2.0), (15, 2.0, 2.0), (15, 10.0, 0.0), (0, -1.0, -2.0)])
def test_times_that_leave_no_room_are_refused(times: tuple[int, float, float]) -> None:
    with pytest.raises(ValueError, match="must be shorter than the next"):
        Timing(*times)
