"""`jobs`, `job`, `status`: what came of alerts, and what is going on."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from cli import show
from cli.chain import is_embedded
from cli.errors import OK
from cli.session import session

if TYPE_CHECKING:
    from config import Settings


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.command()(jobs)
    app.command()(job)
    app.command()(status)


def jobs(
    *,
    tenant: show.TenantOption = None,
    state: Annotated[
        list[str] | None, typer.Option("--state", help="Only these states; may be repeated.")
    ] = None,
    channel: Annotated[
        str | None, typer.Option("--channel", help="Only this channel, by name or id.")
    ] = None,
    alert: Annotated[str | None, typer.Option("--alert", help="Only this alert, by its alert_id.")] = None,
    limit: Annotated[int, typer.Option("--limit", min=1, max=10_000, help="How many at most.")] = 50,
    json: show.Json = False,
) -> int:
    """List jobs (an alert's event on a channel), newest first."""
    from admin.jobs import list_jobs  # noqa: PLC0415  # `--help` need not wait for it
    from admin.tenants import resolve  # noqa: PLC0415

    with session():
        found = list_jobs(
            resolve(tenant),
            states=[each.upper() for each in state or ()],
            channel=channel,
            alert_id=alert,
            limit=limit,
        )
    if json:
        show.document(found)
        return OK
    names = ("targets", "delivered", "failed", "suppressed", "superseded", "expired", "in_progress")
    show.table(
        ("job", "alert", "event", "channel", "type", "state", *(name.replace("_", " ") for name in names)),
        [
            (
                each["job_id"], each["alert_id"], each["event_type"], each["channel"], each["channel_type"],
                each["state"], *(each["totals"][name] for name in names),
            )
            for each in found
        ],
        empty="no jobs",
    )  # fmt: skip
    return OK


def job(
    reference: Annotated[
        str, typer.Argument(help="The job's id, or an alert's if it has one job.", metavar="ID")
    ],
    *,
    tenant: show.TenantOption = None,
    json: show.Json = False,
) -> int:
    """Show one job: its totals, and each target with what became of it."""
    from admin.jobs import show_job  # noqa: PLC0415  # `--help` need not wait for it
    from admin.tenants import resolve  # noqa: PLC0415

    with session():
        found = show_job(resolve(tenant), reference)
    if json:
        show.document(found)
        return OK
    names = (
        "job_id",
        "alert_id",
        "event_type",
        "channel",
        "channel_type",
        "rule",
        "state",
        "reason",
        "accepted_at",
    )
    show.pairs((name, found[name]) for name in (*names, "finished_at", "expires_at"))
    show.pairs(
        [("totals", ", ".join(f"{number} {name}" for name, number in found["totals"].items() if number))]
    )
    show_results(found["result"]["results"])
    if left_out := found["result"]["results_left_out"]:
        show.note(
            f"{left_out:,} further targets are not listed; those that failed or expired come first, and "
            f"GET /v1/jobs/{found['job_id']}/deliveries of the API has all of them"
        )
    return OK


def show_results(results: list[dict[str, Any]]) -> None:
    """A row for each target of a job."""
    show.table(
        ("delivery", "target", "user", "state", "reason", "attempts", "code", "provider id", "ms"),
        [
            (
                each["delivery_id"], _target(each), each["user_id"], each["state"], each["reason"], each["attempts"],
                each["code"], each["provider_id"], each["latency_ms"],
            )
            for each in results
        ],
        empty="no targets",
    )  # fmt: skip


def _target(result: dict[str, Any]) -> str:
    """A device, or the channel itself by its type."""
    platform: str = result["platform"]
    return platform if result["device_id"] is None else f"{platform} {result['device_id']}"


def status(*, tenant: show.TenantOption = None, json: show.Json = False) -> int:
    """Count alerts, jobs and deliveries by state, and say how old the oldest pending work is, and what was mended."""
    from admin.tenants import resolve  # noqa: PLC0415  # `--help` need not wait for it
    from model.status import status as read  # noqa: PLC0415

    with session() as settings:
        found = read(resolve(tenant) if tenant is not None else None)
    found["dead_letters"] = _dead_letters(settings)
    if json:
        show.document(found)
        return OK
    rows = [
        (what, state, number)
        for what in ("alerts", "jobs", "deliveries")
        for state, number in found[what].items()
        if number
    ]
    show.table(("what", "state", "number"), rows, empty="nothing was accepted yet")
    late = {stage: seconds for stage, seconds in found["oldest_pending_seconds"].items() if seconds}
    show.note(
        "nothing is waiting"
        if not late
        else f"oldest pending: {', '.join(f'{s} {n:.0f} s' for s, n in late.items())}"
    )
    if failed := found["failed_by_reason"]:
        show.note(f"failed: {', '.join(f'{number} {reason}' for reason, number in failed.items())}")
    mended = found["recovery"]
    show.note(
        f"leases recovered: {mended['leases_recovered']}, duplicates avoided: {mended['duplicates_avoided']}"
    )
    show.note(f"dead letters: {_dead(found['dead_letters'])}")
    return OK


def _dead_letters(settings: Settings) -> dict[str, int] | None:
    if is_embedded(settings):
        return {}  # and the actors' import is saved
    from admin.dead_letters import count_dead_letters  # noqa: PLC0415  # opens the database again: after its use

    return count_dead_letters(settings)


def _dead(letters: dict[str, int] | None) -> str:
    if letters is None:
        return "unknown, the broker is away"
    return ", ".join(f"{number} in {queue}" for queue, number in letters.items() if number) or "none"
