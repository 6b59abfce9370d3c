"""Processes that want to lead, and what happens to their Lease."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest

from tests.loop.leases import SimulatedLease
from vectorindex.dataplane.errors import FencedError
from vectorindex.domain.election import Acquire, Candidate, Renew, Timing, Wait
from vectorindex.reconcile.leadership import Leadership, LeadershipLostError
from vectorindex.wire.endpoint import Endpoint
from vectorindex.wire.epoch import HEADER, MAX_AHEAD

TIMING = Timing(duration=15, renew_deadline=10.0, retry=2.0)
WALL = 1_800_000_000_000_000
POD = Endpoint("default", "vi", "vi-0", "10.0.0.1", 8080)


class World:
    """One Lease, one clock; ``wall`` is what the machines take for the time."""

    def __init__(self) -> None:
        self.lease = SimulatedLease()
        self.seconds = 100.0
        self.wall = WALL

    def process(self, name: str, container: str = "") -> Leadership:
        return Leadership(self.lease, Candidate(name, container), TIMING, lambda: self.seconds, self._wall)

    async def leader(self, name: str = "first") -> Leadership:
        leader = self.process(name)
        assert isinstance(await leader.attempt(), Acquire)
        return leader

    def _wall(self) -> int:
        return self.wall + int(1_000_000 * (self.seconds - 100.0))


@pytest.fixture
def world() -> World:
    return World()


def epoch(leader: Leadership) -> int:
    return int(leader.headers(POD)[HEADER])


def refusal(leader: Leadership, seen: int) -> FencedError:
    return FencedError("refused", epoch(leader), seen)


async def test_one_leads_and_the_others_wait(world: World) -> None:
    leader, standby = await world.leader(), world.process("second")
    assert await standby.attempt() == Wait("first", 15.0)
    assert (leader.leads, standby.leads) == (True, False)
    assert (leader.lease_age, standby.lease_age) == (0.0, None)
    with pytest.raises(LeadershipLostError):
        standby.check()
    for _ in range(20):
        world.seconds += 2.0
        assert isinstance(await leader.attempt(), Renew)
        assert await standby.attempt() == Wait("first", 15.0)
    assert epoch(leader) == world.lease.record.acquired == WALL


async def test_of_two_that_write_at_the_same_time_one_leads(world: World) -> None:
    first, second = world.process("first"), world.process("second")
    await asyncio.gather(first.attempt(), second.attempt())
    assert first.leads != second.leads


async def test_a_leader_that_stands_still_stops_before_another_one_begins(world: World) -> None:
    paused, standby = await world.leader(), world.process("second")
    led = []
    while not standby.leads:
        await standby.attempt()
        led.append((paused.leads, standby.leads))
        world.seconds += 0.5
        assert world.seconds < 200
    assert (True, True) not in led
    assert epoch(standby) > WALL
    for _ in range(2):
        with pytest.raises(LeadershipLostError, match="not renewed in time"):
            paused.headers(POD)
        with pytest.raises(LeadershipLostError, match="not renewed in time"):
            await paused.attempt()
    assert world.lease.record.holder == "second"


async def test_what_was_sent_before_a_pause_and_answered_after_it_counts_from_when_it_was_sent(world: World) -> None:
    leader = await world.leader()

    class Slow(SimulatedLease):
        async def write(self, *arguments: object) -> object:  # type: ignore[override]
            world.seconds += 9.0
            return await world.lease.write(*arguments)  # type: ignore[arg-type]

    leader._leases = Slow()  # type: ignore[assignment]
    await leader.attempt()
    assert leader.lease_age == 9.0
    world.seconds += 1.0
    assert not leader.leads


async def test_a_leader_that_is_cut_off_for_less_than_its_deadline_goes_on(world: World) -> None:
    leader = await world.leader()
    world.lease.down = True
    for _ in range(4):
        world.seconds += 2.0
        assert await leader.attempt() is None
        assert (leader.leads, leader.heard) == (True, False)
    world.lease.down = False
    assert isinstance(await leader.attempt(), Renew)
    assert (leader.lease_age, leader.heard) == (0.0, True)


async def test_a_renewal_without_an_answer_may_have_come_through(world: World) -> None:
    leader = await world.leader()
    world.lease.answers_are_lost = True
    world.seconds += 5.0
    await leader.attempt()
    assert leader.lease_age == 5.0
    world.lease.answers_are_lost = False
    assert isinstance(await leader.attempt(), Renew)
    assert leader.lease_age == 0.0


async def test_an_acquisition_without_an_answer_is_made_again(world: World) -> None:
    process = world.process("first")
    world.lease.answers_are_lost = True
    await process.attempt()
    assert not process.leads
    world.lease.answers_are_lost = False
    assert not process.leads
    assert isinstance(await process.attempt(), Acquire)
    assert process.leads


async def test_a_leader_whose_lease_was_deleted_writes_it_again_with_a_higher_epoch(world: World) -> None:
    leader, standby = await world.leader(), world.process("second")
    await standby.attempt()
    world.lease.delete()
    assert await standby.attempt() == Wait("first", 15.0)
    world.wall -= 60_000_000
    assert isinstance(await leader.attempt(), Acquire)
    assert epoch(leader) == world.lease.record.acquired == WALL + 1
    assert await standby.attempt() == Wait("first", 15.0)


async def test_a_leader_whose_lease_was_deleted_and_taken_by_another_one_ends(world: World) -> None:
    leader = await world.leader()
    world.lease.delete()
    other = await world.leader("second")
    assert leader.leads
    with pytest.raises(LeadershipLostError, match="it is held by second"):
        await leader.attempt()
    assert not leader.leads
    assert other.leads


async def test_one_that_was_given_back_is_taken_at_once_and_the_epoch_grows_though_the_clock_was_set_back(
    world: World,
) -> None:
    leader, standby = await world.leader(), world.process("second")
    await standby.attempt()
    await leader.release()
    assert not leader.leads
    with pytest.raises(LeadershipLostError, match="given back"):
        leader.check()
    world.wall -= 60_000_000
    assert isinstance(await standby.attempt(), Acquire)
    assert epoch(standby) == WALL + 1
    await leader.release()
    assert world.lease.record.holder == "second"


@pytest.mark.parametrize("by", [-(10**12), 10**15], ids=["set back", "far ahead"])
async def test_an_epoch_that_was_changed_by_hand_is_not_taken(world: World, by: int) -> None:
    leader = await world.leader()
    world.lease.change(replace(world.lease.record, acquired=WALL + by))
    assert isinstance(await leader.attempt(), Renew)
    assert epoch(leader) == world.lease.record.acquired == WALL


async def test_one_that_was_changed_by_hand_is_not_given_back(world: World) -> None:
    leader = await world.leader()
    world.lease.change(replace(world.lease.record, holder="somebody"))
    await leader.release()
    assert world.lease.record.holder == "somebody"


async def test_the_next_process_of_a_container_takes_over_at_once(world: World) -> None:
    crashed = world.process("pod_1_a", "pod_1_")
    await crashed.attempt()
    restarted = world.process("pod_1_b", "pod_1_")
    assert isinstance(await restarted.attempt(), Acquire)
    assert epoch(restarted) == WALL + 1


async def test_a_pod_that_has_seen_a_higher_epoch_is_outbid_by_the_holder_of_the_lease(world: World) -> None:
    leader = await world.leader()
    seen = WALL + 5_000_000
    assert await leader.outbid(POD, refusal(leader, seen))
    assert epoch(leader) == world.lease.record.acquired == seen + 1
    writes = world.lease.writes
    assert await leader.outbid(POD, FencedError("late", WALL, seen))
    assert await leader.outbid(POD, FencedError("another pod, which has seen ours", WALL, seen + 1))
    assert world.lease.writes == writes
    world.seconds += 2.0
    await leader.attempt()
    assert world.lease.record.acquired == seen + 1


async def test_many_calls_that_are_refused_at_once_outbid_once(world: World) -> None:
    leader = await world.leader()
    refusals = [refusal(leader, WALL + seen) for seen in (50, 90, 70, 90)]
    writes = world.lease.writes
    assert await asyncio.gather(*(leader.outbid(POD, each) for each in refusals)) == [True] * 4
    assert epoch(leader) == WALL + 91
    assert world.lease.writes <= writes + 2


@pytest.mark.parametrize("taken", [True, False], ids=["the Lease is another one's", "no answer"])
async def test_who_cannot_tell_that_it_leads_outbids_nobody(world: World, taken: bool) -> None:
    leader = await world.leader()
    if taken:
        world.lease.change(replace(world.lease.record, holder="second"))
        with pytest.raises(LeadershipLostError, match="it is held by second"):
            await leader.outbid(POD, refusal(leader, WALL + 50))
        assert not leader.leads
    else:
        world.lease.down = True
        assert not await leader.outbid(POD, refusal(leader, WALL + 50))
        assert epoch(leader) == WALL


async def test_clocks_that_differ_too_much_are_not_repaired(world: World) -> None:
    leader = await world.leader()
    writes = world.lease.writes
    assert not await leader.outbid(POD, FencedError("our clock is ahead of the pod's", WALL, 0))
    assert not await leader.outbid(POD, refusal(leader, WALL + 2 * MAX_AHEAD))
    assert world.lease.writes == writes


async def test_acquire_and_keep_take_as_long_as_they_must() -> None:
    lease = SimulatedLease()
    loop = asyncio.get_running_loop()
    quick = Timing(duration=1, renew_deadline=0.3, retry=0.02)

    def process(name: str) -> Leadership:
        return Leadership(lease, Candidate(name), quick, loop.time, lambda: WALL)

    first, second = process("first"), process("second")
    async with asyncio.timeout(10):
        await first.acquire()
        keeping, waiting = asyncio.create_task(first.keep()), asyncio.create_task(second.acquire())
        while lease.writes < 10:
            await asyncio.sleep(0.01)
        assert not waiting.done()
        await first.release()
        await waiting
        with pytest.raises(LeadershipLostError, match="given back"):
            await keeping
        lease.down = True
        with pytest.raises(LeadershipLostError, match="not renewed in time"):
            await second.keep()
