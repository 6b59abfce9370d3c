"""The keyed queue: one at a time for each key, at the earliest time that was wished for, with back-off."""

from __future__ import annotations

import random

import pytest

from vectorindex.reconcile.keys import Key, Work
from vectorindex.reconcile.queue import Backoff, Done, Failed, KeyedQueue

A, B = (Key(Work.INDEX, "default", name) for name in "ab")
ERROR = Failed(RuntimeError("broken"))


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(clock: Clock) -> KeyedQueue:
    return KeyedQueue(clock, random.Random(0), Backoff(first=1.0, longest=60.0))


def test_a_key_is_taken_once_however_often_it_is_entered(queue: KeyedQueue) -> None:
    for _ in range(3):
        queue.enter(A)
    assert queue.take() == A
    assert queue.take() is None


def test_the_one_that_is_due_longest_comes_first(queue: KeyedQueue, clock: Clock) -> None:
    queue.enter(A, after=2)
    queue.enter(B, after=1)
    assert (queue.take(), queue.next_due()) == (None, 101)
    clock.now += 5
    assert (queue.take(), queue.take()) == (B, A)


def test_the_earliest_wish_stands(queue: KeyedQueue, clock: Clock) -> None:
    queue.enter(A, after=10)
    queue.enter(A, after=1)
    queue.enter(A, after=5)
    assert queue.next_due() == 101
    clock.now = 101
    assert queue.take() == A
    queue.finish(A, Done())
    clock.now = 200
    assert queue.take() is None


def test_a_key_that_is_being_reconciled_is_not_taken_but_comes_again(queue: KeyedQueue) -> None:
    queue.enter(A)
    assert queue.take() == A
    queue.enter(A)
    assert (queue.take(), queue.next_due()) == (None, None)
    queue.finish(A, Done(again=30))
    assert queue.take() == A


def test_a_wish_from_within_stands_beside_the_next_look(queue: KeyedQueue) -> None:
    queue.enter(A)
    queue.take()
    queue.enter(A, after=50)
    queue.finish(A, Done(again=7))
    assert queue.next_due() == 107


def test_a_key_that_is_done_is_forgotten(queue: KeyedQueue) -> None:
    queue.enter(A)
    queue.take()
    queue.finish(A, Done())
    assert (len(queue), queue.next_due()) == (0, None)


def test_one_success_ends_the_back_off(queue: KeyedQueue, clock: Clock) -> None:
    for outcome, longest in ((ERROR, 1.0), (ERROR, 2.0), (Done(again=0), 0.0), (ERROR, 1.0)):
        queue.enter(A)
        queue.take()
        queue.finish(A, outcome)
        due = queue.next_due()
        assert due is not None
        assert longest / 2 <= due - clock.now <= longest
        clock.now = due


def test_keys_that_failed_together_do_not_come_back_together() -> None:
    rng = random.Random(0)
    assert len({Backoff().delay(3, rng) for _ in range(100)}) == 100


def test_the_delay_doubles_up_to_its_limit(queue: KeyedQueue, clock: Clock) -> None:
    queue.enter(A)
    for failures in range(1, 12):
        assert queue.take() == A
        queue.finish(A, ERROR)
        due = queue.next_due()
        assert due is not None
        full = min(60.0, 2.0 ** (failures - 1))
        assert full / 2 <= due - clock.now <= full
        clock.now = due


def test_an_event_does_not_wait_for_the_back_off(queue: KeyedQueue) -> None:
    queue.enter(A)
    queue.take()
    queue.finish(A, ERROR)
    assert queue.take() is None
    queue.enter(A)
    assert queue.take() == A


def test_many_failures_do_not_overflow() -> None:
    assert Backoff().delay(10_000, random.Random(0)) <= 120.0


def test_keys_that_wait_long_together_come_back_at_different_times(queue: KeyedQueue, clock: Clock) -> None:
    keys = [Key(Work.INDEX, "default", str(number)) for number in range(100)]
    for key in keys:
        queue.enter(key)
        assert queue.take() == key
        queue.finish(key, Done(again=300))
    came = []
    while (due := queue.next_due()) is not None:
        clock.now = due
        assert queue.take() is not None
        came.append(due - 100)
    assert (240 <= came[0] < 250, 290 < came[-1] <= 300, len(set(came))) == (True, True, 100)


def test_a_short_wait_is_as_long_as_it_was_said_to_be(queue: KeyedQueue) -> None:
    queue.enter(A)
    assert queue.take() == A
    queue.finish(A, Done(again=59))
    assert queue.next_due() == 159
