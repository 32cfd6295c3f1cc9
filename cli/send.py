"""`send` and `replay`: what sets the chain in motion."""

from __future__ import annotations

import itertools
import sys
from contextlib import nullcontext
from typing import TYPE_CHECKING, Annotated, Any, BinaryIO

import typer

from cli import show
from cli.chain import is_embedded, progress, show_summary, summary_document, wait, working
from cli.errors import ERROR, OK, UNDELIVERED, explain, tell
from cli.session import open_all

if TYPE_CHECKING:
    from collections.abc import Iterator
    from contextlib import AbstractContextManager

    from model.alert import AlertEvent

Wait = Annotated[
    bool, typer.Option("--wait", help="Wait for the deliveries also where workers are elsewhere.")
]
Timeout = Annotated[float, typer.Option("--timeout", min=0, help="Wait at most so many seconds.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(send)


def send(
    file: Annotated[
        str,
        typer.Argument(help="Alerts as JSON, a JSON array or NDJSON; - for standard input.", metavar="FILE"),
    ],
    *,
    tenant: show.TenantOption = None,
    wait_too: Wait = False,
    timeout: Timeout = 600,
    json: show.Json = False,
) -> int:
    """Hand in alerts. On the embedded default the chain runs here, until the deliveries have ended."""
    with _opened(file) as source:
        settings = open_all()
        from actors import dispatch_alerts  # noqa: PLC0415  # `--help` need not wait for it
        from admin.progress import Group, summary  # noqa: PLC0415
        from admin.tenants import resolve  # noqa: PLC0415
        from model.database import connection  # noqa: PLC0415

        with connection():
            tenant_id = resolve(tenant)
        accepted = duplicates = 0
        watched: list[Group] = []
        failure: Exception | None = None
        with working(settings):
            with progress("accepting", None) as advance:
                try:
                    for chunk in _chunks(source):
                        result = dispatch_alerts(chunk, tenant_id=tenant_id)
                        accepted += result.accepted
                        duplicates += result.duplicates
                        if result.ids:
                            watched.append(Group(result.ids, are_alerts=True))
                        advance(len(chunk))
                except Exception as error:  # noqa: BLE001  # told below, after what was accepted has been delivered
                    failure = error
            waits = is_embedded(settings) or wait_too
            waited = wait(watched if waits else [], timeout=timeout)
        with connection():
            found = summary(watched if waits else [])
    if failure is not None:
        _tell_failure(failure, accepted)
        if accepted == 0:
            return ERROR
    if json:
        outcome = summary_document(found, waited) if waits else {}
        show.document({"tenant": tenant_id, "accepted": accepted, "duplicates": duplicates, **outcome})
    else:
        repeated = f", {duplicates} known already" if duplicates else ""
        show.note(f"tenant {tenant_id}: {accepted} accepted{repeated}")
        if waits and accepted:
            show_summary(found)
        for line in waited.lines():
            show.note(line)
    if failure is not None:
        return ERROR
    return UNDELIVERED if found.undelivered else OK


def _tell_failure(failure: Exception, accepted: int) -> None:
    lines = explain(failure)
    if lines is None:
        raise failure
    if accepted:
        lines.append(
            f"{accepted} alerts before that were accepted; to send the file again does not repeat them"
        )
    tell(lines)


def _opened(file: str) -> AbstractContextManager[BinaryIO]:
    if file == "-":
        return nullcontext(sys.stdin.buffer)
    return open(file, "rb")  # noqa: PTH123  # OSError carries the name as given; the caller closes it


def _chunks(source: BinaryIO) -> Iterator[list[AlertEvent]]:
    """Checked alerts, as many at a time as one call takes.

    Raises:
        InvalidInput: what is wrong with a chunk's alerts, each named by its line or index.
    """
    from actors.intake import MAX_ALERTS  # noqa: PLC0415  # `--help` need not wait for it
    from cli.stream import alerts  # noqa: PLC0415

    values = alerts(source)
    while chunk := list(itertools.islice(values, MAX_ALERTS)):
        yield _checked(chunk)


def _checked(chunk: list[tuple[str, Any]]) -> list[AlertEvent]:
    from model.alert import parse_alert  # noqa: PLC0415  # as above
    from model.problems import InvalidInput, Problem  # noqa: PLC0415

    parsed, problems = [], []
    for name, value in chunk:
        try:
            parsed.append(parse_alert(value))
        except InvalidInput as error:
            problems += [
                Problem(f"{name}: {each.field}" if name and each.field else name or each.field, each.rule)
                for each in error.problems
            ]
    if problems:
        raise InvalidInput(problems)
    return parsed
