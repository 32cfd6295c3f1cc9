"""Plots as inline SVG, drawn here: no script, no style attribute, colours by class. Pure.

Each has a title and a description that say the same in words, and the page has the numbers in a table behind it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from markupsafe import Markup

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

#: Units of the drawing: its size, and what the axes take of it.
WIDTH, HEIGHT = 500, 130
LEFT, RIGHT, TOP, BOTTOM = 44, 8, 10, 20

#: What a logarithmic axis begins with at the least.
SMALLEST = 1e-3

#: Labels below the time axis.
TICKS = 4


@dataclass(frozen=True, slots=True)
class Series:
    """One line, or one colour of a stack.

    Attributes:
        tone: the class that colours it.
        values: one a bucket; None is a gap.
    """

    name: str
    tone: str
    values: Sequence[float | None]


def nice(value: float) -> float:
    """The smallest of 1, 2, 5, 10, 20, ... that is not below a value; 1 for nothing."""
    if value <= 1:
        return 1
    size = 10 ** math.floor(math.log10(value))
    return float(next(step * size for step in (1, 2, 5, 10) if step * size >= value))


def short(value: float) -> str:
    """A number as an axis has room for it: "0.5", "250", "2.5k", "20k", "1M"."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def bars(
    name: str, times: Sequence[datetime], series: Sequence[Series], say: Callable[[float], str]
) -> Markup:
    """A stack of bars for each bucket.

    Args:
        name: unique on its page; ids are made of it.
        times: the beginning of each bucket.
        series: from the bottom up, with as many values.
        say: writes a number in words; the axis has the short ones.
    """
    tops = [sum(one.values[index] or 0 for one in series) for index in range(len(times))]
    top = nice(max(tops, default=0))
    step = (WIDTH - LEFT - RIGHT) / max(len(times), 1)
    shapes = []
    for index in range(len(times)):
        base = 0.0
        for one in series:
            value = one.values[index] or 0
            if value:
                y, below = _y(base + value, top), _y(base, top)
                shapes.append(
                    Markup('<rect class="{}" x="{}" y="{}" width="{}" height="{}"/>').format(
                        one.tone,
                        _n(LEFT + index * step + step * 0.1),
                        _n(y),
                        _n(step * 0.8),
                        _n(max(below - y, 0.75)),
                    )
                )
            base += value
    grid = _grid([(_y(value, top), short(value)) for value in (0, top / 2, top)])
    return _framed(name, times, summary(series, say), grid, Markup("").join(shapes))


def lines(
    name: str, times: Sequence[datetime], series: Sequence[Series], say: Callable[[float], str]
) -> Markup:
    """A line for each series on a logarithmic axis, interrupted where there is no value (or none above 0).

    The arguments are those of `bars`, and `say` writes the axis, too. Logarithmic, since one slow value among many
    quick ones would else flatten them.
    """
    known = [value for one in series for value in one.values if value]
    low = math.floor(math.log10(max(min(known, default=1), SMALLEST)))
    high = max(math.ceil(math.log10(max(max(known, default=1), SMALLEST))), low + 1)
    step = (WIDTH - LEFT - RIGHT) / max(len(times), 1)
    shapes = []
    for one in series:
        path: list[str] = []
        pen_down = False
        for index, value in enumerate(one.values):
            if value:
                x, y = _n(LEFT + (index + 0.5) * step), _n(_logarithmic(value, low, high))
                alone = not pen_down and (index + 1 == len(one.values) or not one.values[index + 1])
                path.append(
                    f"{'L' if pen_down else 'M'}{x} {y}" + (f"h{_n(max(step / 2, 2))}" if alone else "")
                )
            pen_down = bool(value)
        shapes.append(Markup('<path class="line {}" d="{}"/>').format(one.tone, "".join(path)))
    grid = _grid([(_logarithmic(10**power, low, high), say(10**power)) for power in range(low, high + 1)])
    return _framed(name, times, summary(series, say), grid, Markup("").join(shapes))


def _logarithmic(value: float, low: int, high: int) -> float:
    """The height of a value between two powers of ten."""
    share = (math.log10(max(value, SMALLEST)) - low) / (high - low)
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * share


def summary(series: Sequence[Series], say: Callable[[float], str]) -> str:
    """What a plot shows, in words."""
    parts = []
    for one in series:
        known = [value for value in one.values if value is not None]
        parts.append(
            f"{one.name}: at most {say(max(known))}, last {say(known[-1])}"
            if known
            else f"{one.name}: nothing"
        )
    return "; ".join(parts) + "."


def share(parts: Sequence[tuple[str, str, int]]) -> Markup:
    """One horizontal bar of parts (name, tone, number), which a table says in numbers beside it."""
    total = sum(number for *_, number in parts)
    shapes, x = [], 0.0
    for name, tone, number in parts:
        width = 100 * number / total if total else 0
        if width:
            shapes.append(
                Markup('<rect class="{}" x="{}" width="{}" height="8"><title>{:,} {}</title></rect>').format(
                    tone, _n(x), _n(width), number, name
                )
            )
        x += width
    said = ", ".join(f"{number:,} {name}" for name, _, number in parts if number) or "nothing"
    return Markup(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(said, Markup("").join(shapes))


def _grid(marks: Sequence[tuple[float, str]]) -> Markup:
    """Horizontal lines with what they stand for."""
    return Markup("").join(
        Markup('<path class="grid" d="M{} {}H{}"/><text x="{}" y="{}" text-anchor="end">{}</text>').format(
            LEFT, _n(y), WIDTH - RIGHT, LEFT - 6, _n(y + 3.5), words
        )
        for y, words in marks
    )


def _framed(name: str, times: Sequence[datetime], said: str, grid: Markup, shapes: Markup) -> Markup:
    step = (WIDTH - LEFT - RIGHT) / max(len(times), 1)
    every = max(1, len(times) // TICKS)
    labels = Markup("").join(
        Markup('<text class="tick" data-time="{}" x="{}" y="{}">{}</text>').format(
            times[index].isoformat(), _n(LEFT + index * step), HEIGHT - 5, f"{times[index]:%H:%M}"
        )
        for index in range(0, len(times), every)
    )
    return Markup(
        '<svg class="plot" viewBox="0 0 {} {}" role="img" aria-labelledby="{}-title {}-words">'
        '<title id="{}-title">{}</title><desc id="{}-words">{}</desc>{}{}{}</svg>'
    ).format(WIDTH, HEIGHT, name, name, name, name, name, said, grid, shapes, labels)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
