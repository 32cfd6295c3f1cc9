"""A migrated database for the length of a test, and short ways to fill it."""

from __future__ import annotations

from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from cryptography.fernet import Fernet

from config import load_settings
from model import bulk, channels, rulebook
from model.database import database, is_sqlite, open_database
from model.migrate import migrate
from model.states import DeliveryState, JobState
from model.tables import Alert, Channel, Delivery, Job, Tenant

if TYPE_CHECKING:
    from collections.abc import Iterator

#: A Fernet key for tests, so that several processes can share a database.
KEY = "dGVzdHMgb25seTogYSBrZXkgdGhhdCBpcyBubyBzZWM="

#: A moment for tests that give the time.
NOW = datetime(2026, 3, 28, 12, 0, 0, 123456, tzinfo=UTC)


@contextmanager
def open_test_database(url: str, *, migrated: bool = True) -> Iterator[None]:
    """Open the database of a URL for the length of the block, by default with the newest schema.

    It is the process's one database, as in production: blocks follow each other, they do not nest. At the end
    every connection of the pool is closed, those of other threads included.
    """
    opened: Any = open_database(load_settings(database_url=url, secret_keys=KEY))
    rulebook.forget()
    channels.forget()
    try:
        if migrated:
            migrate()
        yield
    finally:
        opened.close_all()


def make_tenant(tenant_id: str = "acme") -> str:
    """A tenant."""
    Tenant.create(tenant_id=tenant_id)
    return tenant_id


def make_channel(tenant_id: str = "acme", name: str = "ops", **fields: Any) -> int:
    """A channel of a tenant; its id."""
    values = {"channel_type": "webhook", "config": {"url": "https://ops.example.org/in"}} | fields
    return int(Channel.create(tenant=tenant_id, name=name, **values).id)


def lose_key(channel_id: int) -> None:
    """Make a channel one that was saved under a key that nobody has any more."""
    token = Fernet(Fernet.generate_key()).encrypt(b"{}").decode()
    mark = bulk.placeholder()
    database.execute_sql(
        f"UPDATE notification_channels SET config = {mark} WHERE id = {mark}",  # noqa: S608  # placeholders
        (token, channel_id),
    )


def make_job(
    tenant_id: str = "acme", *, sequence: int = 1, payload: dict[str, Any] | None = None, **fields: Any
) -> int:
    """A job that was fanned out to one target, for an event that is there or is made; its id."""
    values = {
        "tenant_id": tenant_id,
        "alert_id": "door",
        "deliver_on_event": "OPEN",
        "sequence": sequence,
        "channel_id": 1,
        "channel_name": "ops",
        "channel_type": "webhook",
        "accepted_at": NOW,
        "expires_at": NOW + timedelta(hours=1),
        "state": JobState.PROCESSING,
        "targets": 1,
    } | fields
    values["ended_as"] = JobState(str(values["state"])).otherwise
    event = {
        "id": sequence,
        "tenant_id": tenant_id,
        "alert_id": values["alert_id"],
        "event_type": values["deliver_on_event"],
        "payload": payload or {"alert_id": "door"},
        "accepted_at": values["accepted_at"],
        "matched_at": values["accepted_at"],
    }
    if bulk.insert(Alert, [event], ignore_conflicts=True, returning=["id"]) and not is_sqlite():
        # What is accepted next must not be given this id.
        serial = "pg_get_serial_sequence('alerts', 'id')"
        database.execute_sql(f"SELECT setval({serial}, greatest(max(id), 1)) FROM alerts")  # noqa: S608  # a name of ours
    return int(bulk.insert(Job, [values], returning=["id"])[0][0])


def make_deliveries(job_id: int, number: int = 1, *, tenant_id: str = "acme", **fields: Any) -> list[int]:
    """Deliveries of a job, to devices 1 to `number`; their ids."""
    values = {
        "job_id": job_id,
        "tenant_id": tenant_id,
        "channel_id": 1,
        "sender": "webhook",
        "state": DeliveryState.PENDING,
        "expires_at": NOW + timedelta(hours=1),
        "created_at": NOW,
        "sweep_at": NOW + timedelta(minutes=1),
    } | fields
    rows = [{"device_id": device_id, **values} for device_id in range(1, number + 1)]
    return [int(row[0]) for row in bulk.insert(Delivery, rows, returning=["id"])]
