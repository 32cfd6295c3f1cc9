"""Places: how many sends are under way, by how quickly the destination answers."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Self, TypeVar

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors import places as module
from actors.places import FEWEST, FIRST, LATE, LATE_IN_THE_WAY, MEMORY, QUIET, Places

if TYPE_CHECKING:
    from collections.abc import Coroutine

T = TypeVar("T")
MOST = 100


class Clock:
    """A monotonic clock that stands still until it is told."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        """The time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """The clock of `actors.places`."""
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def run(play: Coroutine[object, object, T]) -> T:
    """Play it on a loop of its own."""
    return asyncio.run(play)


class Crowd:
    """More senders than there are places, all of whose answers take equally long."""

    def __init__(self, places: Places, clock: Clock) -> None:
        self._places = places
        self._clock = clock
        self._under_way: list[asyncio.Future[tuple[float, bool]]] = []

    async def __aenter__(self) -> Self:
        self._members = [asyncio.create_task(self._send_for_ever()) for _ in range(MOST + 50)]
        return self

    async def __aexit__(self, *_: object) -> None:
        for member in self._members:
            member.cancel()

    async def _send_for_ever(self) -> None:
        while True:
            await self._places.take()
            answer = asyncio.get_running_loop().create_future()
            self._under_way.append(answer)
            seconds, is_success = await answer
            self._places.answered(seconds, is_success=is_success)
            self._places.give_back()

    async def round(self, seconds: float, *, is_success: bool = True) -> int:
        """Let all that are under way have their answers; how many places there are then."""
        for _ in range(5):
            await asyncio.sleep(0)
        answers, self._under_way = self._under_way, []
        assert answers
        self._clock.now += seconds
        for answer in answers:
            answer.set_result((seconds, is_success))
        for _ in range(5):
            await asyncio.sleep(0)
        return self._places.number


def test_a_lane_that_answers_in_time_has_more_places_until_it_has_the_most(clock: Clock) -> None:
    async def play() -> list[int]:
        async with Crowd(Places(MOST), clock) as crowd:
            return [await crowd.round(0.1) for _ in range(12)]

    seen = run(play())

    assert seen[0] == FIRST + FIRST // 4
    assert seen == sorted(seen)
    assert seen[-1] == MOST


def test_a_slow_destination_that_is_always_as_slow_has_as_many(clock: Clock) -> None:
    async def play() -> list[int]:
        async with Crowd(Places(MOST), clock) as crowd:
            return [await crowd.round(2) for _ in range(12)]

    assert run(play())[-1] == MOST


def test_what_comes_late_halves_them_once_for_all_that_were_under_way(clock: Clock) -> None:
    async def play() -> list[int]:
        async with Crowd(Places(MOST), clock) as crowd:
            for _ in range(12):
                await crowd.round(0.1)
            return [await crowd.round(0.1 + LATE + 0.01) for _ in range(5)]

    assert run(play()) == [50, 25, 12, FEWEST, FEWEST]


def test_while_it_makes_way_it_keeps_what_causes_no_delay_and_has_more_again_afterwards(clock: Clock) -> None:
    is_urgent = True

    async def play() -> list[int]:
        nonlocal is_urgent
        async with Crowd(Places(MOST, lambda: is_urgent), clock) as crowd:
            await crowd.round(0.1)
            # Given a lane that has grown, whose answers come as quickly as ever
            for _ in range(40):
                grown = await crowd.round(0.1 + LATE_IN_THE_WAY / 2)
            # When they take longer, by what is no matter at other times
            for _ in range(8):
                small = await crowd.round(0.1 + 1.5 * LATE_IN_THE_WAY)
            is_urgent = False
            for _ in range(12):
                again = await crowd.round(0.1 + 1.5 * LATE_IN_THE_WAY)
            return [grown, small, again]

    assert run(play()) == [MOST, FEWEST, MOST]


def test_a_destination_that_never_answered_is_late_when_its_deadline_ends(clock: Clock) -> None:
    async def play() -> int:
        async with Crowd(Places(MOST), clock) as crowd:
            return await crowd.round(15, is_success=False)

    assert run(play()) == FEWEST


def test_refusals_that_come_at_once_tell_nothing(clock: Clock) -> None:
    async def play() -> list[int]:
        async with Crowd(Places(MOST), clock) as crowd:
            # Nor is a later answer measured by them
            return [await crowd.round(0.001, is_success=False), await crowd.round(0.001 + 2 * LATE)]

    assert run(play()) == [FIRST, FIRST + FIRST // 4]


def test_places_that_nobody_waited_for_are_no_reason_for_more(clock: Clock) -> None:
    async def play() -> int:
        places = Places(MOST)
        for _ in range(200):
            await places.take()
            clock.now += 0.01
            places.answered(0.01, is_success=True)
            places.give_back()
        return places.number

    assert run(play()) == FIRST


def test_a_lane_that_was_quiet_begins_again_and_remembers_how_quick_it_was(clock: Clock) -> None:
    async def play() -> tuple[int, int, int]:
        places = Places(MOST)
        async with Crowd(places, clock) as crowd:
            grown = [await crowd.round(0.1) for _ in range(12)][-1]
        await asyncio.sleep(0)
        for _ in range(grown):
            places.give_back()
        clock.now += QUIET + 0.01
        await places.take()
        begun = places.number
        clock.now += 1
        places.answered(1, is_success=True)
        return grown, begun, places.number

    assert run(play()) == (MOST, FIRST, FEWEST)


def test_a_way_that_became_longer_is_the_usual_one_after_a_while(clock: Clock) -> None:
    async def play() -> tuple[int, int]:
        async with Crowd(Places(MOST), clock) as crowd:
            await crowd.round(0.1)
            seen = [await crowd.round(10) for _ in range(int(2 * MEMORY / 10) + 20)]
            return seen[3], seen[-1]

    assert run(play()) == (FEWEST, MOST)


@given(
    most=st.integers(1, MOST),
    answers=st.lists(st.tuples(st.floats(0, 20), st.booleans(), st.integers(0, 30)), max_size=60),
)
def test_there_are_never_more_under_way_than_places_and_none_is_lost(
    most: int, answers: list[tuple[float, bool, int]]
) -> None:
    async def play() -> None:
        places, under_way = Places(most), 0
        for seconds, is_success, number in answers:
            while under_way < number and not places.are_taken():
                await places.take()
                under_way += 1
            assert under_way <= most
            if under_way:
                places.answered(seconds, is_success=is_success)
                places.give_back()
                under_way -= 1
        for _ in range(under_way):
            places.give_back()
        assert min(FEWEST, most) <= places.number <= most
        # All that are wanted can be taken
        for _ in range(places.number):
            assert not places.are_taken()
            await places.take()
        assert places.are_taken()

    run(play())
