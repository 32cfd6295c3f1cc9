"""Things by their name or id, within one tenant. Apart from the rest, since it needs none of the senders."""

from __future__ import annotations

from typing import Any

from model.tables import Channel


def find_channel(tenant_id: str, reference: str | int) -> Channel:
    """A channel by its name or id.

    Raises:
        LookupError: this tenant has none; another tenant's id gets the same words.
    """
    mine = Channel.select().where(Channel.tenant == tenant_id)
    found: Channel | None = pick(mine, Channel, reference)
    if found is None:
        raise LookupError(f"there is no channel {reference!r} in tenant {tenant_id!r}")
    return found


def pick(query: Any, table: Any, reference: str | int) -> Any:
    """The one row of a query with this name or, failing that, id; None if there is none."""
    if isinstance(reference, str):
        found = query.where(table.name == reference).first()
        if found is not None or not (reference.isascii() and reference.isdigit()):
            return found
    number = int(reference) if len(str(reference)) <= 9 else 0  # noqa: PLR2004  # a 32-bit column; no id is 0
    return query.where(table.id == number).first()
