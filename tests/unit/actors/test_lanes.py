"""Lanes: how long a thread waits, when a lane is full, what happens when slow sends are done."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import Future

from actors.lanes import (
    ALL,
    FIRST_PAUSE,
    FOR_EACH,
    LAST_PAUSE,
    LIMIT,
    PATIENCE,
    QUICK,
    SHARE,
    SLOW_PATIENCE,
    Lanes,
)

SLOW, OTHER = ("webhook", 1), ("webhook", 2)


def nothing() -> None:
    """What there is to finish."""


def test_a_thread_is_impatient_with_a_lane_that_was_slow_of_late() -> None:
    lanes = Lanes()
    sending: Future[None] = Future()
    lanes.go_on(SLOW, 1, sending, nothing)

    assert (lanes.patience(SLOW, 50), lanes.patience(OTHER, 50)) == (SLOW_PATIENCE, PATIENCE + 50 * FOR_EACH)
    assert (lanes.is_idle(SLOW, 50), lanes.is_idle(OTHER, 50)) == (True, False)

    sending.set_result(None)
    assert lanes.wait_until_empty(5)
    assert lanes.patience(SLOW, 50) == SLOW_PATIENCE


def test_what_comes_for_a_full_lane_is_put_off_later_each_time_and_no_longer_when_it_has_room() -> None:
    lanes = Lanes()
    sending: Future[None] = Future()
    lanes.go_on(SLOW, LIMIT, sending, nothing)

    pauses = [lanes.pause(SLOW) for _ in range(8)]

    assert pauses[:3] == [FIRST_PAUSE * 2**n for n in range(3)]
    assert pauses[-1] == LAST_PAUSE
    assert lanes.pause(OTHER) is None
    # And when it has room again, it begins anew
    sending.set_result(None)
    assert lanes.wait_until_empty(5)
    assert lanes.pause(SLOW) is None
    lanes.go_on(SLOW, LIMIT, Future(), nothing)
    assert lanes.pause(SLOW) == FIRST_PAUSE


def test_where_many_lanes_are_slow_each_has_its_share() -> None:
    lanes = Lanes()
    for number in range(3, 3 + ALL // SHARE):
        lanes.go_on(("webhook", number), SHARE, Future(), nothing)

    assert lanes.pause(("webhook", 3)) is not None
    assert lanes.pause(SLOW) is None


def test_what_fails_in_the_end_gives_its_place_back() -> None:
    lanes = Lanes()
    sending: Future[None] = Future()
    called = threading.Event()

    def fail() -> None:
        called.set()
        raise RuntimeError("the database is away")

    lanes.go_on(SLOW, LIMIT, sending, fail)
    assert not lanes.wait_until_empty(0)
    sending.set_exception(ValueError("whatever"))

    assert lanes.wait_until_empty(5)
    assert called.is_set()
    assert lanes.pause(SLOW) is None


def test_places_are_taken_and_given_back_and_nobody_waits_for_one_for_ever() -> None:
    async def play() -> None:
        lanes = Lanes()
        assert all([await lanes.take_place(SLOW, 3, 0) for _ in range(3)])
        # None is left, but elsewhere; one that becomes free goes to who waits
        assert not await lanes.take_place(SLOW, 3, 0)
        assert await lanes.take_place(OTHER, 3, 0)
        waiting = asyncio.create_task(lanes.take_place(SLOW, 3, 5))
        await asyncio.sleep(0)
        lanes.give_place_back(SLOW)
        assert await waiting
        # And who is told to end does not wait
        assert lanes.wait_until_empty(0)
        assert not await lanes.take_place(SLOW, 3, 60)

    asyncio.run(play())


def test_a_lane_that_answers_quickly_moves_and_is_put_off_no_longer_each_time() -> None:
    lanes = Lanes()
    assert not lanes.moves(SLOW)
    lanes.answered(SLOW, QUICK + 0.1, is_success=True)
    assert not lanes.moves(SLOW)
    lanes.answered(SLOW, QUICK, is_success=True)
    assert lanes.moves(SLOW)
    lanes.go_on(SLOW, LIMIT, Future(), nothing)

    assert [lanes.pause(SLOW) for _ in range(3)] == [FIRST_PAUSE] * 3
