"""`migrate`, `apply`, `explain`: what is there, what should be, and what it would mean for an alert."""

from __future__ import annotations

import io
import itertools
import sys
from typing import Annotated, Any

import typer

from cli import show
from cli.errors import OK, CommandError
from cli.session import open_all, session


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(migrate)
    app.command()(apply)
    app.command()(explain)


def migrate(*, json: show.Json = False) -> int:
    """Bring the database's schema up to date. Safe when several processes do it at once."""
    from config import get_settings  # noqa: PLC0415  # `--help` need not wait for it
    from model.database import open_database  # noqa: PLC0415
    from model.migrate import migrate as run  # noqa: PLC0415

    open_database(get_settings())
    applied = run()
    if json:
        show.document({"applied": applied})
    else:
        print(f"applied {', '.join(applied)}" if applied else "the schema is up to date")
    return OK


def read(file: str) -> bytes:
    """A file, or standard input for `-`."""
    if file == "-":
        return sys.stdin.buffer.read()
    with open(file, "rb") as opened:  # noqa: PTH123  # OSError carries the name as it was given
        return opened.read()


def apply(
    file: Annotated[str, typer.Argument(help="YAML, or - for standard input.", metavar="FILE")],
    *,
    tenant: show.TenantOption = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = False,
    prune: Annotated[
        bool,
        typer.Option(
            "--prune",
            help="Remove what the file's lists lack. A list that is missing altogether is let alone.",
        ),
    ] = False,
    json: show.Json = False,
) -> int:
    """Make channels, rules, users, devices and preferences what a file says, and show the difference."""
    text = read(file)
    from admin import yaml_text  # noqa: PLC0415  # `--help` need not wait for it
    from admin.apply import apply as run  # noqa: PLC0415

    document = yaml_text.load(text)
    settings = open_all()
    diff = run(
        document, tenant_id=tenant, prune=prune, dry_run=dry_run, allowed_networks=settings.allowed_networks
    )
    if json:
        show.document(diff.document())
        return OK
    changes = [each for each in diff.changes if each.action != "unchanged"]
    if changes:
        show.table(
            ("action", "kind", "name", "fields"),
            [(c.action, c.kind, c.name, ", ".join(c.fields)) for c in changes],
        )
    counts = ", ".join(
        f"{len(diff.of(action))} {action}" for action in ("added", "changed", "removed", "unchanged")
    )
    show.note(f"tenant {diff.tenant_id}: {counts}" + ("; a dry run: nothing was written" if dry_run else ""))
    for warning in diff.warnings:
        show.note(f"warning: {warning}")
    return OK


def explain(
    file: Annotated[str, typer.Argument(help="One alert as JSON, or - for standard input.", metavar="FILE")],
    *,
    tenant: show.TenantOption = None,
    at: Annotated[
        str | None, typer.Option("--at", help="Answer for this moment (RFC 3339).", metavar="TIME")
    ] = None,
    user: Annotated[
        str | None, typer.Option("--user", help="Of push channels only this user's devices.", metavar="ID")
    ] = None,
    json: show.Json = False,
) -> int:
    """Say which rules match an alert and why the others don't, and who would be reached. Sends nothing."""
    alert = _one_alert(file)
    from admin.explain import explain as run  # noqa: PLC0415  # `--help` need not wait for it
    from admin.tenants import resolve  # noqa: PLC0415
    from model.database import utcnow  # noqa: PLC0415

    moment = moment_of(at, "--at") if at is not None else utcnow()
    with session() as settings:
        answer = run(alert, tenant_id=resolve(tenant), settings=settings, at=moment, user_id=user)
    if json:
        show.document(answer)
        return OK
    _show_explanation(answer)
    return OK


def _one_alert(file: str) -> Any:
    """The alert of a file, read as `send` reads it."""
    from cli.stream import alerts  # noqa: PLC0415  # `--help` need not wait for it

    found = [alert for _, alert in itertools.islice(alerts(io.BytesIO(read(file))), 2)]
    if len(found) != 1:
        raise CommandError(f"{file}: must hold one alert, not {'several' if found else 'none'}")
    return found[0]


def _show_explanation(answer: dict[str, Any]) -> None:
    show.table(
        ("rule", "channel", "matched", "reason"),
        [(rule["rule"], rule["channel"], rule["matched"], rule["reason"]) for rule in answer["rules"]],
        empty="there are no rules",
    )
    show.table(
        ("channel", "user", "device", "platform", "verdict", "reason", "until"),
        [
            (
                target["channel"], target["user_id"], target["device_name"] or target["device"],
                target["platform"], target["verdict"], target["reason"], target["until"],
            )
            for target in answer["targets"]
        ],
        empty="nobody would be notified",
    )  # fmt: skip
    if left_out := answer["targets_left_out"]:
        show.note(f"{left_out:,} further targets are not listed; --user asks for one user's")
    if answer["already_accepted"]:
        show.note("this event of this alert was accepted before: sending it again changes nothing")


def moment_of(text: str, option: str) -> Any:
    """A moment from an option.

    Raises:
        CommandError: it is none, says no zone, or is too near to an end of the calendar.
    """
    from datetime import datetime  # noqa: PLC0415  # runtime use here alone

    from model.moments import within_bounds  # noqa: PLC0415  # `--help` need not wait for it

    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise CommandError(f"{option}: must be an RFC 3339 time with its zone, such as 2026-03-29T01:30:00Z")
    try:
        return within_bounds(moment)
    except ValueError as error:
        raise CommandError(f"{option}: {error}") from None
