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


def bars(
    name: str, times: Sequence[datetime], series: Sequence[Series], say: Callable[[float], str]
) -> Markup:
    """A stack of bars for each bucket.

    Args:
        name: unique on its page; ids are made of it.
        times: the beginning of each bucket.
        series: from the bottom up, with as many values.
        say: writes a number with its unit.
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
    return _framed(name, times, series, top, say, Markup("").join(shapes))


def lines(
    name: str, times: Sequence[datetime], series: Sequence[Series], say: Callable[[float], str]
) -> Markup:
    """A line for each series, interrupted where there is no value. The arguments are those of `bars`."""
    top = nice(max((value for one in series for value in one.values if value is not None), default=0))
    step = (WIDTH - LEFT - RIGHT) / max(len(times), 1)
    shapes = []
    for one in series:
        path: list[str] = []
        pen_down = False
        for index, value in enumerate(one.values):
            if value is not None:
                x, y = _n(LEFT + (index + 0.5) * step), _n(_y(value, top))
                alone = not pen_down and (index + 1 == len(one.values) or one.values[index + 1] is None)
                path.append(
                    f"{'L' if pen_down else 'M'}{x} {y}" + (f"h{_n(max(step / 2, 2))}" if alone else "")
                )
            pen_down = value is not None
        shapes.append(Markup('<path class="line {}" d="{}"/>').format(one.tone, "".join(path)))
    return _framed(name, times, series, top, say, Markup("").join(shapes))


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
                Markup('<rect class="{}" x="{}" width="{}" height="8"><title>{} {}</title></rect>').format(
                    tone, _n(x), _n(width), number, name
                )
            )
        x += width
    said = ", ".join(f"{number} {name}" for name, _, number in parts if number) or "nothing"
    return Markup(
        '<svg class="share" viewBox="0 0 100 8" preserveAspectRatio="none" role="img" aria-label="{}">{}</svg>'
    ).format(said, Markup("").join(shapes))


def _framed(  # noqa: PLR0917  # all of one drawing
    name: str,
    times: Sequence[datetime],
    series: Sequence[Series],
    top: float,
    say: Callable[[float], str],
    shapes: Markup,
) -> Markup:
    grid = Markup("").join(
        Markup(
            '<path class="grid" d="M{0} {1}H{2}"/><text x="{3}" y="{4}" text-anchor="end">{5}</text>'
        ).format(LEFT, _n(_y(value, top)), WIDTH - RIGHT, LEFT - 6, _n(_y(value, top) + 3.5), say(value))
        for value in (0, top / 2, top)
    )
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
    ).format(WIDTH, HEIGHT, name, name, name, name, name, summary(series, say), grid, shapes, labels)


def _y(value: float, top: float) -> float:
    return HEIGHT - BOTTOM - (HEIGHT - TOP - BOTTOM) * value / top


def _n(value: float) -> str:
    return f"{value:.2f}".rstrip("0").rstrip(".")
