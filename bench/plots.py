"""Plots of a run, as SVG with text that stays text, the same bytes for the same figures."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import matplotlib as mpl
from matplotlib.figure import Figure

if TYPE_CHECKING:
    from pathlib import Path

    from bench.results import Rate, Series

COLOURS = {"tocsin": "#b4481e", "ceiling": "#8a8f98", "peer": "#4c78a8"}

_STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "tocsin",
    "font.family": "sans-serif",
    "font.size": 10,
    "axes.spines.top": False,
    "axes.spines.right": False,
}


def rates(found: list[Rate], path: Path) -> None:
    """Horizontal bars, the fastest on top."""
    ordered = sorted(found, key=lambda rate: rate.per_second)
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 0.9 + 0.36 * len(ordered)), layout="constrained")
        axes = figure.add_subplot()
        bars = axes.barh(
            [rate.what for rate in ordered],
            [rate.per_second for rate in ordered],
            color=[COLOURS[rate.kind] for rate in ordered],
        )
        axes.bar_label(bars, labels=[f"{rate.per_second:,.0f}" for rate in ordered], padding=4)
        axes.set_xlabel("notifications a second")
        axes.margins(x=0.12)
        _save(figure, path)


def cpu(found: list[Rate], path: Path) -> None:
    """CPU seconds for a thousand notifications, stacked by role."""
    roles = sorted({role for rate in found for role in rate.cpu})
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 1.4 + 0.36 * len(found)), layout="constrained")
        axes = figure.add_subplot()
        names = [rate.what for rate in reversed(found)]
        left = [0.0] * len(found)
        for role in roles:
            values = [rate.cpu_per_thousand().get(role, 0.0) for rate in reversed(found)]
            axes.barh(names, values, left=left, label=role)
            left = [before + value for before, value in zip(left, values, strict=True)]
        axes.set_xlabel("CPU seconds for a thousand notifications")
        axes.legend(loc="lower center", bbox_to_anchor=(0.4, 1.0), ncols=4, frameon=False)
        _save(figure, path)


def lines(found: list[Series], path: Path, *, logarithmic: bool = False) -> None:
    """Lines over one axis."""
    with mpl.rc_context(_STYLE):
        figure = Figure(figsize=(8, 3), layout="constrained")
        axes = figure.add_subplot()
        for index, series in enumerate(found):
            axes.plot(
                [x for x, _ in series.points],
                [y for _, y in series.points],
                label=series.what,
                color=list(COLOURS.values())[index % len(COLOURS)],
                marker="o" if len(series.points) < 20 else "",  # noqa: PLR2004  # few enough to be told apart
            )
        if logarithmic:
            axes.set_xscale("log")
            axes.set_yscale("log")
        else:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(found[0].x)
        axes.set_ylabel(found[0].y)
        axes.legend(frameon=False)
        _save(figure, path)


def _save(figure: Figure, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No date: a run with the same figures must change no file.
    figure.savefig(path, format="svg", metadata={"Date": None})
