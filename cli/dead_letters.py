"""`dead-letters list` and `dead-letters import`: messages that nobody could work on."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import show
from cli.errors import OK
from cli.session import open_all

group = typer.Typer(
    help="Messages in the broker that nobody could work on.", no_args_is_help=True, rich_markup_mode=None
)

Queue = Annotated[str | None, typer.Option("--queue", help="Only of this queue, such as tocsin.deliver.")]


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="dead-letters")


@group.command("list")
def list_(
    *,
    queue: Queue = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 100,
    json: show.Json = False,
) -> int:
    """List them, and why they died; leave them where they are."""
    open_all()
    from actors import broker  # noqa: PLC0415  # `--help` need not wait for it
    from admin.dead_letters import list_dead_letters  # noqa: PLC0415

    found = list_dead_letters(broker, queue=queue, limit=limit)
    if json:
        show.document([each.document() for each in found])
    else:
        rows = [
            (
                each.queue,
                each.died_at and each.died_at.isoformat(),
                each.deaths or None,
                each.actor,
                each.arguments,
                each.why,
                each.why_not is None,
            )
            for each in found
        ]
        names = ("queue", "died at", "death", "actor", "arguments", "why", "importable")
        show.table(names, rows, empty="no dead letters")
    return OK


@group.command("import")
def import_(
    *,
    queue: Queue = None,
    limit: Annotated[int, typer.Option("--limit", min=1, help="How many at most.")] = 10_000,
    json: show.Json = False,
) -> int:
    """Put them back into their queues, for the workers to try again."""
    open_all()
    from actors import broker  # noqa: PLC0415  # `--help` need not wait for it
    from admin.dead_letters import import_dead_letters  # noqa: PLC0415

    done = import_dead_letters(broker, queue=queue, limit=limit)
    if json:
        show.document(done.document())
    else:
        show.note(f"{done.messages} messages are back in their queues")
        for why, number in sorted(done.left.items()):
            show.note(f"left where they are: {number}, {why}")
    return OK
