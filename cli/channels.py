"""`channel list` and `channel test`."""

from __future__ import annotations

import typer

from cli import show
from cli.errors import OK
from cli.session import session

group = typer.Typer(help="Channels of a tenant.", no_args_is_help=True, rich_markup_mode=None)


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="channel")


@group.command("list")
def list_(*, tenant: show.TenantOption = None, json: show.Json = False) -> int:
    """List channels, without their secrets."""
    from admin.channels import list_channels  # noqa: PLC0415  # `--help` need not wait for it
    from admin.tenants import resolve  # noqa: PLC0415

    with session():
        found = list_channels(resolve(tenant))
    if json:
        show.document(found)
        return OK
    names = ("id", "name", "channel_type", "is_enabled", "health", "health_detail")
    headings = ("id", "name", "type", "enabled", "health", "detail")
    show.table(headings, [[each[name] for name in names] for each in found], empty="no channels")
    return OK
