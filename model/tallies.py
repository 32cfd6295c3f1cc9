"""How often the chain mended something: counts that outlive the processes that counted.

The metrics of the same names are each process's own and end with it; these are for whoever asks after the fault
(`tocsin status`). They are written only where there is something to count, so that ordinary work pays nothing.
"""

from __future__ import annotations

from collections import Counter
from enum import StrEnum
from typing import TYPE_CHECKING

from peewee import EXCLUDED, fn

from model.database import tuples
from model.tables import Tally

if TYPE_CHECKING:
    from collections.abc import Iterable


class TallyName(StrEnum):
    """What is counted."""

    #: Claims that the sweep took over from a worker that was lost.
    LEASES_RECOVERED = "leases_recovered"
    #: Deliveries that a second message asked for while a worker was making them.
    DUPLICATES_AVOIDED = "duplicates_avoided"


def tally(name: TallyName, tenants: Iterable[str]) -> int:
    """Count once for each tenant given, repeats included. Within a connection of the caller's.

    Returns:
        How many there were.
    """
    # In one order, so that no two processes wait for each other's rows.
    counts = sorted(Counter(tenants).items())
    rows = [{"tenant_id": tenant, "name": name, "value": number} for tenant, number in counts]
    if rows:
        Tally.insert_many(rows).on_conflict(
            conflict_target=[Tally.tenant_id, Tally.name], update={Tally.value: Tally.value + EXCLUDED.value}
        ).execute()
    return sum(number for _, number in counts)


def tallies(tenant_id: str | None = None) -> dict[str, int]:
    """Each count of a tenant, or of all together. Within a connection of the caller's."""
    query = Tally.select(Tally.name, fn.SUM(Tally.value)).group_by(Tally.name)
    if tenant_id is not None:
        query = query.where(Tally.tenant_id == tenant_id)
    found = {name: int(number) for name, number in tuples(query)}
    return {name.value: found.get(name, 0) for name in TallyName}
