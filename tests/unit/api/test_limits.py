from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from api.limits import REMEMBERED, Buckets


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


def test_a_burst_is_allowed_then_the_rate() -> None:
    clock = Clock()
    buckets = Buckets(rate=2, burst=3, clock=clock)
    assert [buckets.take("a") for _ in range(3)] == [0.0, 0.0, 0.0]
    assert buckets.take("a") == 0.5
    clock.now = 0.5
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0


def test_one_name_does_not_use_up_another_s_bucket() -> None:
    buckets = Buckets(rate=1, burst=1, clock=Clock())
    assert buckets.take("a") == 0.0
    assert buckets.take("a") > 0
    assert buckets.take("b") == 0.0


def test_memory_is_bounded_and_who_is_active_is_remembered() -> None:
    buckets = Buckets(rate=1, burst=1, clock=Clock())
    buckets.take("active")
    for number in range(REMEMBERED - 1):
        buckets.take(number)
    assert buckets.take("active") > 0
    buckets.take("one more")
    assert len(buckets._levels) == REMEMBERED
    assert buckets.take("active") > 0


@given(
    rate=st.floats(0.1, 100),
    burst=st.integers(1, 20),
    pauses=st.lists(st.floats(0, 3), max_size=100),
)
def test_never_more_than_burst_and_rate_allow(rate: float, burst: int, pauses: list[float]) -> None:
    clock = Clock()
    buckets = Buckets(rate, burst, clock=clock)
    taken = 0
    for pause in pauses:
        clock.now += pause
        wait = buckets.take("a")
        taken += wait == 0.0
        assert wait >= 0
        assert taken <= burst + rate * clock.now + 1e-6


@given(rate=st.floats(0.1, 100), burst=st.integers(1, 5))
def test_after_the_wait_that_was_told_there_is_one(rate: float, burst: int) -> None:
    clock = Clock()
    buckets = Buckets(rate, burst, clock=clock)
    while not (wait := buckets.take("a")):
        pass
    clock.now += wait * 1.000001
    assert buckets.take("a") == 0.0
