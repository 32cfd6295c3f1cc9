"""The overview, and the stream that keeps pages live."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

from fastapi import APIRouter, Query, Request
from starlette.responses import Response, StreamingResponse

from api.console import lists, plots
from api.console.figures import PERCENTILES, RANGES, SCANNED, Figures
from api.console.live import STREAMS
from api.console.page import Page, digits, milliseconds, render
from api.console.plots import Series
from api.console.session import Viewer  # noqa: TC001  # FastAPI reads it at run time
from model.database import connection

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import datetime

    from markupsafe import Markup

router = APIRouter(route_class=Page, include_in_schema=False)

#: Alerts that the overview shows.
LATEST = 8

#: Outcomes of attempts, from the bottom of the stack up.
_OUTCOMES = (
    ("delivered", "good", ("ok",)),
    ("to be tried again", "warn", ("transient",)),
    ("failed", "bad", ("rejected", "target_gone", "misconfigured", "not_configured", "internal")),
)


@router.get("/")
def overview(
    request: Request, session: Viewer, chosen: Annotated[str, Query(alias="range", max_length=3)] = "1h"
) -> Response:
    """What goes on."""
    found: Figures = request.app.state.console_overview.of(
        session.tenant_id, chosen if chosen in RANGES else "1h"
    )
    with connection():
        latest = lists.alerts(session.tenant_id, text="", event="", outcome="", cursor=None, limit=LATEST)
    letters = request.app.state.console_dead_letters.look()
    return render(
        request, "overview.html", figures=found, ranges=RANGES, plots=_plots(found), latest=latest.items,
        percentiles=PERCENTILES, share=plots.share, dead_letters=letters, scanned=SCANNED,
    )  # fmt: skip


def _plots(found: Figures) -> list[dict[str, Any]]:
    """Each plot with its title, the series of its legend and its table."""

    def a_minute(values: list[int]) -> list[float]:
        return [value / found.minutes for value in values]

    nothing = [0] * len(found.times)
    accepted = [Series("accepted", "accent", a_minute(found.alerts))]
    tried = [
        Series(
            name,
            tone,
            a_minute(
                [sum(each) for each in zip(*(found.attempts.get(one, nothing) for one in kinds), strict=True)]
            ),
        )
        for name, tone, kinds in _OUTCOMES
    ]
    latency = [
        Series(f"{percentile} %", tone, found.latency[percentile])
        for percentile, tone in zip(PERCENTILES, ("good", "accent", "warn"), strict=True)
    ]
    depth = [Series("jobs under way", "accent", found.under_way)]

    return [
        _plot(found, "alerts", "Alerts a minute: accepted", accepted, plots.bars, digits),
        _plot(found, "attempts", "Attempts a minute: by what came of them", tried, plots.bars, digits),
        _plot(found, "latency", "From alert to delivery: percentiles", latency, plots.lines, milliseconds),
        _plot(found, "depth", "Jobs under way: accepted, and not all ended", depth, plots.bars, digits),
    ]


def _plot(  # noqa: PLR0917  # a row of the table above
    found: Figures,
    name: str,
    title: str,
    series: list[Series],
    draw: Callable[[str, Sequence[datetime], Sequence[Series], Callable[[float], str]], Markup],
    say: Callable[[float], str],
) -> dict[str, Any]:
    rows = [
        (moment, [None if one.values[index] is None else say(one.values[index] or 0) for one in series])
        for index, moment in enumerate(found.times)
        if any(one.values[index] for one in series)
    ]
    heading, _, note = title.partition(": ")
    return {
        "name": name,
        "title": heading,
        "note": note,
        "series": series,
        "svg": draw(name, found.times, series, say),
        "rows": rows,
    }


@router.get("/events")
async def events(request: Request, session: Viewer) -> Response:
    """Tells when something of the tenant changed; see api.console.live."""
    pulse = request.app.state.console_pulse
    if len(pulse) >= STREAMS:
        return Response("too many pages are open", 503, {"Retry-After": "30"}, media_type="text/plain")
    return StreamingResponse(
        pulse.listen(session.tenant_id),
        media_type="text/event-stream",
        headers={"X-Accel-Buffering": "no"},  # what nginx needs to be told
    )
