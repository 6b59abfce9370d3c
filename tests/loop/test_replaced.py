"""The leader stands still at any of its calls, another one takes over, and the first goes on: as if nothing had been.

It goes on with the call that was under way, and makes no other; the world itself watches for that.
"""

from __future__ import annotations

import random

import pytest

from tests.loop.simulation import Fault, Mode
from tests.loop.test_faults import EXHAUSTIVE, STORIES, outcome

ONE_RUN = [title for title, story in STORIES.items() if len(story.ends) == 1]
UNHURRIED = [title for title in STORIES if "deadline" not in title and "too often" not in title]
"""Without a deadline: each time that a leader is replaced costs some seconds."""


@pytest.mark.parametrize("title", ONE_RUN)
def test_a_leader_that_is_replaced_at_any_call_changes_nothing(title: str) -> None:
    """It goes on in the middle of what its successor does, two times out of three, otherwise after all of it."""
    story = STORIES[title]
    without = story.play()
    expected = outcome(without, story)
    calls = range(len(without.calls))
    for call in calls if len(calls) <= EXHAUSTIVE else random.Random(len(calls)).sample(calls, EXHAUSTIVE // 2):
        fault = Fault(call, Mode.PAUSE, others=call * 7 % 40 if call % 3 else None)
        world = story.play((fault,))
        assert outcome(world, story) == expected, f"{without.calls[call]}: {fault}"
        assert len(world.replaced) == 1


@pytest.mark.parametrize("title", UNHURRIED)
def test_leaders_that_replace_each_other_change_nothing(title: str) -> None:
    story = STORIES[title]
    without = story.play()
    expected = outcome(without, story)
    rng = random.Random(20261126)
    replaced = 0
    for attempt in range(15):
        calls = rng.sample(range(2 * len(without.calls)), 3)
        faults = tuple(Fault(call, rng.choice(list(Mode)), rng.choice((None, rng.randrange(40)))) for call in calls)
        world = story.play(faults)
        assert outcome(world, story) == expected, f"attempt {attempt}: {faults}"
        replaced += len(world.replaced)
    assert replaced
