"""Which tenant is meant."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from peewee import fn

from model.database import tuples
from model.problems import InvalidInput, Problem
from model.tables import Tenant

if TYPE_CHECKING:
    from datetime import datetime

#: The tenant of an installation that has only one. It is made when it is first used.
DEFAULT = "default"

#: The width of the column.
MAX_LENGTH = 64

#: Tenants that an error lists; an operator with more of them knows how they are called.
LISTED = 20


def resolve(tenant_id: str | None) -> str:
    """The tenant that is meant: the one named, else the only one, else `default` where there is none yet.

    Raises:
        LookupError: there is no such tenant, or several and none was named.
    """
    if tenant_id is not None:
        if tenant_id != DEFAULT and not exists(tenant_id):
            raise LookupError(f"there is no tenant {tenant_id!r}; `tocsin apply` makes one")
        return tenant_id
    query = Tenant.select(Tenant.tenant_id).order_by(Tenant.tenant_id).limit(LISTED + 1)
    known = [row[0] for row in tuples(query)]
    if len(known) > 1:
        more = ", ..." if len(known) > LISTED else ""
        raise LookupError(
            f"there are several tenants; give --tenant, one of {', '.join(known[:LISTED])}{more}"
        )
    return known[0] if known else DEFAULT


def exists(tenant_id: str) -> bool:
    """Whether there is such a tenant."""
    return bool(Tenant.select().where(Tenant.tenant_id == tenant_id).exists())


def check_name(tenant_id: str, *, field: str = "tenant") -> None:
    """Refuse a name that no tenant can have.

    Raises:
        InvalidInput: says what it must be.
    """
    if not 1 <= len(tenant_id) <= MAX_LENGTH or not tenant_id.isprintable() or tenant_id != tenant_id.strip():
        raise InvalidInput(
            [Problem(field, f"must be 1 to {MAX_LENGTH} printable characters, no space at either end")]
        )


def ensure(tenant_id: str) -> bool:
    """Make the tenant if it is not there; whether it was made. Within a transaction of the caller's."""
    check_name(tenant_id)
    return bool(Tenant.insert(tenant_id=tenant_id).on_conflict_ignore().as_rowcount().execute())


def lock(tenant_id: str) -> None:
    """Let nobody else change this tenant's channels and rules until the transaction ends.

    Raises:
        LookupError: there is no such tenant.
    """
    changed = Tenant.update(version=Tenant.version).where(Tenant.tenant_id == tenant_id).execute()
    if not changed:
        raise LookupError(f"there is no tenant {tenant_id!r}; `tocsin apply` makes one")


def count() -> int:
    """How many tenants there are."""
    number: int = Tenant.select(fn.COUNT(Tenant.tenant_id)).scalar()
    return number


def advance(last: datetime, now: datetime) -> datetime:
    """An updated_at later than the last one: caches tell versions by it, and clocks may step back."""
    return max(now, last + timedelta(microseconds=1))
