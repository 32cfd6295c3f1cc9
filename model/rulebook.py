"""A tenant's rules, compiled once for each version of them.

`tenants.version` grows with every change of a rule or channel (triggers see to it, so that no writer can
forget), and one small read tells whether the compiled form still holds. A tenant that was deleted and set up again in
the same way has the same number, hence `tenants.created_at` beside it.
"""

from __future__ import annotations

import threading
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from model.database import tuples
from model.rule_index import RuleIndex
from model.rules import Rule, RuleSpec, in_order
from model.tables import Channel, RoutingRule, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

#: tenants.created_at and tenants.version.
Version = tuple["datetime", int]


@dataclass(frozen=True, slots=True)
class RuleBook:
    """The enabled rules on enabled channels of one tenant.

    Attributes:
        rules: in (priority, rule id) order.
        channels: id -> (id, name, type).
        index: finds the rules that are worth a look.
    """

    version: Version
    rules: tuple[Rule, ...]
    channels: dict[int, tuple[int, str, str]]
    index: RuleIndex

    def about(self, alert: Mapping[str, Any]) -> Iterator[Rule]:
        """The rules that an alert may match, in their order: a superset of those that it does match."""
        return (self.rules[place] for place in self.index.places(alert))


_books: dict[str, RuleBook] = {}
_lock = threading.Lock()

SPEC_FIELDS = tuple(RuleSpec.model_fields)


def spec_of(row: RoutingRule) -> RuleSpec:
    """A rule's fields as they were saved."""
    return RuleSpec.model_construct(**{name: getattr(row, name) for name in SPEC_FIELDS})


def rulebooks(tenant_ids: Iterable[str]) -> dict[str, RuleBook]:
    """The books of some tenants, read anew where their version has changed."""
    wanted = sorted(set(tenant_ids))
    books = {}
    query = Tenant.select(Tenant.tenant_id, Tenant.created_at, Tenant.version)
    for tenant_id, created_at, number in tuples(query.where(Tenant.tenant_id.in_(wanted))):
        version = created_at, number
        book = _books.get(tenant_id)
        if book is None or book.version != version:
            book = _read(tenant_id, version)
            with _lock:
                _books[tenant_id] = book
        books[tenant_id] = book
    return books


def forget() -> None:
    """Drop what was compiled: another database was opened."""
    _books.clear()


def _read(tenant_id: str, version: Version) -> RuleBook:
    channels: dict[int, Any] = {
        row[0]: row
        for row in tuples(
            Channel.select(Channel.id, Channel.name, Channel.channel_type).where(
                (Channel.tenant == tenant_id) & Channel.is_enabled
            )
        )
    }
    rows = RoutingRule.select().where((RoutingRule.tenant == tenant_id) & RoutingRule.is_enabled)
    rules = in_order(
        (row.priority, Rule.compile(row.id, row.channel_id, spec_of(row)))
        for row in rows
        if row.channel_id in channels
    )
    return RuleBook(version, tuple(rules), channels, RuleIndex(rules))
