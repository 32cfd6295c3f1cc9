"""`channel list` and `channel test`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import show
from cli.errors import OK, UNDELIVERED
from cli.session import open_all, session

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


@group.command("test")
def send_test(
    reference: Annotated[str, typer.Argument(help="The channel's name or id.", metavar="ID")],
    *,
    tenant: show.TenantOption = None,
    json: show.Json = False,
) -> int:
    """Send a marked test at once, past the queue, and show the provider's answer."""
    settings = open_all()
    from actors.runtime import Runtime  # noqa: PLC0415  # `--help` need not wait for it
    from admin.tenants import resolve  # noqa: PLC0415
    from admin.testing import test_channel  # noqa: PLC0415
    from model.database import connection  # noqa: PLC0415

    runtime = Runtime(settings)
    runtime.start()
    try:
        with connection():
            tenant_id = resolve(tenant)
        answer = test_channel(tenant_id, reference, runtime=runtime)
    finally:
        runtime.stop()
    if json:
        show.document(answer)
    else:
        response = answer["provider_response"]
        show.pairs([
            ("channel", f"{answer['channel']} ({answer['channel_type']})"),
            ("outcome", answer["outcome"]),
            ("answer", response["code"]),
            ("detail", response["detail"]),
            ("latency_ms", answer["latency_ms"]),
        ])  # fmt: skip
        if "devices" in answer:
            show.table(
                ("device", "user", "platform", "outcome", "answer", "detail", "ms"),
                [
                    (
                        each["device_id"], each["user_id"], each["platform"], each["outcome"],
                        each["provider_response"]["code"], each["provider_response"]["detail"],
                        each["latency_ms"],
                    )
                    for each in answer["devices"]
                ],
                empty="no devices",
            )  # fmt: skip
    return OK if answer["status"] == "ok" else UNDELIVERED
