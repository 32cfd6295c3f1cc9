"""Calls that come together are made together, and nobody answers for anybody else."""

from __future__ import annotations

import asyncio
import threading
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from api import gather
from api.gather import Gather

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence


class Maker:
    """Makes calls while its gate is open, and keeps in mind which came together."""

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.groups: list[list[int]] = []

    def __call__(self, given: Sequence[int]) -> list[int | Exception]:
        self.groups.append(list(given))
        assert self.gate.wait(20)
        return [LookupError(each) if each < 0 else each * 10 for each in given]


@pytest.fixture
def threads() -> Iterator[ThreadPoolExecutor]:
    with ThreadPoolExecutor(4) as executor:
        yield executor


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing begins beside what is under way, however long that takes."""
    monkeypatch.setattr(gather, "PATIENCE", 60)


async def called(
    make: Gather[int, int], *numbers: int, size: int = 0, whose: str = ""
) -> list[asyncio.Task[int]]:
    """Calls under way, in this order."""
    tasks = [asyncio.ensure_future(make(number, size, whose)) for number in numbers]
    await asyncio.sleep(0)
    return tasks


async def reached(maker: Maker, groups: int) -> None:
    async with asyncio.timeout(20):
        while len(maker.groups) < groups:  # noqa: ASYNC110  # another thread counts them
            await asyncio.sleep(0.001)


@pytest.mark.usefixtures("patient")
async def test_the_first_is_made_at_once_and_what_comes_meanwhile_together(
    threads: ThreadPoolExecutor,
) -> None:
    # Given a call under way
    maker = Maker()
    make = Gather(threads, maker, at_once=4)
    first = await called(make, 1)
    await reached(maker, 1)
    # When more come, and it is done
    more = await called(make, 2, 3, 4)
    maker.gate.set()
    # Then they were made as one, in their order, and each has what came of it
    assert await asyncio.gather(*first, *more) == [10, 20, 30, 40]
    assert maker.groups == [[1], [2, 3, 4]]
    # And the next is made at once again
    assert await make(5) == 50
    assert maker.groups[2:] == [[5]]


@pytest.mark.usefixtures("patient")
async def test_an_error_is_that_callers_alone_unless_all_failed(threads: ThreadPoolExecutor) -> None:
    maker = Maker()
    maker.gate.set()
    make = Gather(threads, maker, at_once=4)
    found = await asyncio.gather(*await called(make, 1, -2, 3), return_exceptions=True)
    assert [found[0], repr(found[1]), found[2]] == [10, "LookupError(-2)", 30]

    def fail(_given: Sequence[int]) -> list[int | Exception]:
        raise OSError("away")

    refused = await asyncio.gather(
        *await called(Gather(threads, fail, at_once=4), 1, 2, 3), return_exceptions=True
    )
    assert [repr(each) for each in refused] == ["OSError('away')"] * 3


async def test_what_takes_long_keeps_nobody_waiting(threads: ThreadPoolExecutor) -> None:
    # Given three calls, one after the other, that nobody answers
    maker = Maker()
    make = Gather(threads, maker, at_once=4)
    tasks = []
    for number in (1, 2, 3):
        tasks += await called(make, number)
        # Then each of them has begun nevertheless, in a thread of its own
        await reached(maker, number)
    # When they are answered, then all of them are
    maker.gate.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30]


@pytest.mark.usefixtures("patient")
async def test_what_goes_together_is_bounded_in_number_and_bytes(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "MOST", 4)
    monkeypatch.setattr(gather, "LARGEST", 100)
    maker = Maker()
    make = Gather(threads, maker, at_once=4)
    # Given one under way, and behind it one that is too large for any company, some large ones, and many small ones
    tasks = await called(make, 0)
    await reached(maker, 1)
    tasks += await called(make, 1, size=1000)
    tasks += await called(make, 2, 3, 4, size=50)
    tasks += await called(make, 5, 6, 7, 8, 9)
    maker.gate.set()
    assert await asyncio.gather(*tasks) == [each * 10 for each in range(10)]
    assert maker.groups == [[0], [1], [2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.usefixtures("patient")
async def test_who_brings_much_has_one_call_for_each_of_everybody_elses(
    threads: ThreadPoolExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gather, "LARGEST", 100)
    maker = Maker()
    make = Gather(threads, maker, at_once=4)
    # Given a call under way, many large ones of one caller behind it, and behind these two small ones of another
    tasks = await called(make, 0)
    await reached(maker, 1)
    tasks += await called(make, 1, 2, 3, 4, size=80, whose="much")
    tasks += await called(make, 5, 6, size=20, whose="little")
    maker.gate.set()
    # Then the small ones go with the first large ones, and each one's in their order
    assert await asyncio.gather(*tasks) == [each * 10 for each in range(7)]
    assert maker.groups == [[0], [1, 5], [2, 6], [3], [4]]


async def test_what_finds_no_thread_waits_for_its_turn_and_goes_together(threads: ThreadPoolExecutor) -> None:
    # Given as many calls under way as may be, which nobody answers
    maker = Maker()
    make = Gather(threads, maker, at_once=2)
    tasks = []
    for number in (1, 2):
        tasks += await called(make, number)
        await reached(maker, number)
    # When others come, also after everybody's patience is over
    tasks += await called(make, 3, 4)
    await asyncio.sleep(2 * gather.PATIENCE)
    tasks += await called(make, 5)
    assert maker.groups == [[1], [2]]
    # Then they go together once they may
    maker.gate.set()
    assert await asyncio.gather(*tasks) == [10, 20, 30, 40, 50]
    assert maker.groups[2:] == [[3, 4, 5]]


@pytest.mark.usefixtures("patient")
async def test_a_caller_that_gave_up_before_its_turn_is_left_out(threads: ThreadPoolExecutor) -> None:
    maker = Maker()
    make = Gather(threads, maker, at_once=4)
    first = await called(make, 1)
    await reached(maker, 1)
    gone, stays = await called(make, 2, 3)
    gone.cancel()
    first[0].cancel()  # under way: what comes of it is nobody's
    maker.gate.set()
    assert await stays == 30
    assert maker.groups == [[1], [3]]


async def test_after_the_threads_have_ended_each_call_says_so() -> None:
    threads = ThreadPoolExecutor(1)
    make = Gather(threads, Maker(), at_once=1)
    threads.shutdown()
    found = await asyncio.gather(*await called(make, 1, 2), return_exceptions=True)
    assert [type(each) for each in found] == [RuntimeError, RuntimeError]


@given(
    pauses=st.lists(st.integers(0, 3), min_size=1, max_size=40),
    numbers=st.lists(st.integers(-5, 5), min_size=40, max_size=40),
)
def test_each_caller_has_its_own_answer_whoever_else_calls(pauses: list[int], numbers: list[int]) -> None:
    async def run() -> None:
        with ThreadPoolExecutor(2) as threads:
            maker = Maker()
            maker.gate.set()
            make = Gather(threads, maker, at_once=4)
            tasks = []
            for number, pause in zip(numbers, pauses, strict=False):
                tasks.append(asyncio.ensure_future(make(number, whose=pause)))
                for _ in range(pause):
                    await asyncio.sleep(0)
            found = await asyncio.gather(*tasks, return_exceptions=True)
        for number, one in zip(numbers, found, strict=False):
            assert isinstance(one, LookupError) if number < 0 else one == number * 10
        assert sorted(chain.from_iterable(maker.groups)) == sorted(numbers[: len(pauses)])

    asyncio.run(run())
