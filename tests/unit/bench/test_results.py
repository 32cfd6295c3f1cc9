"""Percentiles, slopes and checks, pure."""

from __future__ import annotations

import statistics

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.results import Check, Rate, middle, percentile, ratios, slope, spread, told

numbers = st.floats(min_value=-1e6, max_value=1e6)
samples = st.lists(numbers, min_size=1, max_size=50)


@given(samples, st.integers(0, 100))
def test_a_percentile_is_a_sample_that_enough_samples_do_not_exceed(found: list[float], rank: int) -> None:
    value = percentile(found, rank)
    assert value in found
    assert sum(each <= value for each in found) >= len(found) * rank / 100
    assert sum(each < value for each in found) <= len(found) * rank / 100


def test_percentiles_by_hand() -> None:
    found = [float(number) for number in range(1, 101)]
    assert [percentile(found, rank) for rank in (0, 50, 90, 99, 100)] == [1, 50, 90, 99, 100]
    assert percentile([3.0, 1.0], 50) == 1.0


@pytest.mark.parametrize(("found", "rank"), [([], 50), ([1.0], 101), ([1.0], -1)])
def test_what_has_no_percentile(found: list[float], rank: float) -> None:
    with pytest.raises(ValueError, match=r"sample|rank"):
        percentile(found, rank)


@given(samples)
def test_a_spread_is_in_order(found: list[float]) -> None:
    it = spread("it", found)
    assert it.p50 <= it.p90 <= it.p99 <= it.largest == max(found)
    assert it.count == len(found)


@given(
    st.integers(-100, 100), st.integers(-100, 100), st.lists(st.integers(0, 1000), min_size=2, unique=True)
)
def test_the_slope_of_a_line_is_the_lines(factor: int, base: int, xs: list[int]) -> None:
    assert slope([(float(x), float(factor * x + base)) for x in xs]) == pytest.approx(factor, abs=1e-6)


@given(st.lists(st.tuples(st.integers(0, 100), st.integers(-100, 100)), min_size=3, max_size=20))
def test_the_slope_is_the_least_squares_one(points: list[tuple[int, int]]) -> None:
    found = slope([(float(x), float(y)) for x, y in points])
    if len({x for x, _ in points}) == 1:
        assert found == 0
    else:
        expected = statistics.linear_regression([x for x, _ in points], [y for _, y in points]).slope
        assert found == pytest.approx(expected, abs=1e-9)


def test_a_point_has_no_slope() -> None:
    with pytest.raises(ValueError, match="two points"):
        slope([(1.0, 1.0)])


@pytest.mark.parametrize(
    ("value", "at_most", "holds"),
    [(2.0, True, True), (2.1, True, False), (2.0, False, True), (1.9, False, False)],
)
def test_a_check_holds_up_to_its_limit(value: float, *, at_most: bool, holds: bool) -> None:
    assert Check(claim="it", value=value, limit=2, at_most=at_most).holds is holds


def test_a_rate_by_the_second_and_its_cost_by_the_thousand() -> None:
    rate = Rate(what="it", kind="tocsin", count=500, seconds=2, cpu={"workers": 1.5})
    assert rate.per_second == 250
    assert rate.cpu_per_thousand() == {"workers": 3.0}


def rates(*seconds: float) -> list[Rate]:
    """A hundred notifications each time."""
    return [Rate(what="it", kind="tocsin", count=100, seconds=each, cpu={}) for each in seconds]


def test_of_several_rounds_the_median_counts() -> None:
    assert middle(rates(3, 1, 2)).seconds == 2
    assert middle(rates(1, 2)).seconds == 1
    assert middle(rates(5)).seconds == 5


def test_ratios_are_those_of_rounds_and_not_of_their_medians() -> None:
    assert ratios(rates(2, 4, 8), rates(1, 2, 2)) == [0.5, 0.5, 0.25]
    with pytest.raises(ValueError, match="argument"):
        ratios(rates(1), rates(1, 2))


@pytest.mark.parametrize(
    ("found", "text"), [([0.5], "0.50"), ([0.5, 1], "0.50 and 1.00"), ([1, 2, 3], "1.00, 2.00 and 3.00")]
)
def test_ratios_as_a_text(found: list[float], text: str) -> None:
    assert told(found) == text
