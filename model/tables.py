"""The tables: a row of `deliveries` is one target of one job, a row of `notification_log` one attempt at it.

Three tables carry `sweep_at`: the moment from which the sweep may send the row on because its message must be
lost. It is NULL once nothing remains to be done, so that its partial index holds the work in progress only,
however long the tables grow. `attempts` of a delivery doubles as the fencing token of its claim.
"""

from __future__ import annotations

from typing import Any

from peewee import (
    SQL,
    BigIntegerField,
    BooleanField,
    CharField,
    CompositeKey,
    FloatField,
    ForeignKeyField,
    IntegerField,
    TextField,
)

from model.database import (
    BaseModel,
    BigIdField,
    EncryptedJsonField,
    IdField,
    JsonField,
    LooseJsonField,
    UtcDateTimeField,
    utcnow,
)
from model.states import DeliveryState, JobState

#: The device_id of a delivery to the channel itself. Not NULL: NULLs never conflict in a unique index.
NO_DEVICE = 0


class Tenant(BaseModel):
    """Who has channels, rules and users. `version` grows with every change of a rule or channel."""

    tenant_id = CharField(primary_key=True, max_length=64)
    version = IntegerField(default=1)
    created_at = UtcDateTimeField(default=utcnow)

    class Meta:
        """Names."""

        table_name = "tenants"


class ApiKey(BaseModel):
    """Who may call. Only the hash of a key is kept."""

    id = IdField()
    tenant = ForeignKeyField(Tenant, on_delete="CASCADE", backref="api_keys")
    tenant_id: str
    role = CharField(max_length=16)
    name = CharField(max_length=255, default="")
    prefix = CharField(max_length=16)
    key_hash = CharField(max_length=64, unique=True)
    created_at = UtcDateTimeField(default=utcnow)
    revoked_at = UtcDateTimeField(null=True)

    class Meta:
        """Names."""

        table_name = "api_keys"


class Channel(BaseModel):
    """A destination of a tenant."""

    id = IdField()
    tenant = ForeignKeyField(Tenant, on_delete="CASCADE", backref="channels")
    tenant_id: str
    name = CharField(max_length=255)
    channel_type = CharField(max_length=32)
    config = EncryptedJsonField()
    is_enabled = BooleanField(default=True)
    health = CharField(max_length=32, default="unknown")  # unknown, ok, failing, misconfigured
    health_detail = TextField(null=True)
    health_at = UtcDateTimeField(null=True)
    created_at = UtcDateTimeField(default=utcnow)
    updated_at = UtcDateTimeField(default=utcnow)

    class Meta:
        """Names and indexes."""

        table_name = "notification_channels"
        indexes = ((("tenant", "name"), True),)


class RoutingRule(BaseModel):
    """When a channel hears of an alert. The filters' meaning is in model.rules."""

    id = IdField()
    tenant = ForeignKeyField(Tenant, on_delete="CASCADE", backref="rules")
    tenant_id: str
    channel = ForeignKeyField(Channel, on_delete="CASCADE", backref="rules")
    channel_id: int
    name = CharField(max_length=255)
    min_severity = IntegerField(null=True)
    alert_type = CharField(max_length=255, null=True)
    device_tag_key = CharField(max_length=255, null=True)
    device_tag_val = CharField(max_length=255, null=True)
    site_ids = JsonField(default=list)
    device_prefixes = JsonField(default=list)
    deliver_on = JsonField(default=lambda: ["OPEN"])
    throttle_minutes = IntegerField(null=True)
    priority = IntegerField(default=100)
    is_enabled = BooleanField(default=True)
    created_at = UtcDateTimeField(default=utcnow)
    updated_at = UtcDateTimeField(default=utcnow)

    class Meta:
        """Names and indexes."""

        table_name = "notification_routing_rules"
        indexes = ((("tenant", "name"), True),)


class Alert(BaseModel):
    """One event of one alert: the intake ledger. Its id is the order of acceptance: what is later."""

    id = BigIdField()
    tenant = ForeignKeyField(Tenant, on_delete="CASCADE", index=False)
    tenant_id: str
    alert_id = CharField(max_length=255)
    event_type = CharField(max_length=16)
    payload = JsonField()
    accepted_at = UtcDateTimeField(default=utcnow)
    matched_at = UtcDateTimeField(null=True)
    jobs = IntegerField(default=0)
    error = TextField(null=True)
    sweeps = IntegerField(default=0)
    sweep_at = UtcDateTimeField(null=True)

    class Meta:
        """Names and indexes."""

        table_name = "alerts"
        indexes = ((("tenant", "alert_id", "event_type"), True), (("tenant", "id"), False))


class Job(BaseModel):
    """An alert event x a channel, with the sums of its deliveries.

    `sequence` is the id of the alert event: of two jobs for one alert on one channel the greater is the
    later. What it says stands in its own row alone, which is kept for as long as a job is (admin.prune).
    Channel and rule are soft references, and names are kept: the record outlives what it names.
    A job goes with its tenant by a trigger: to ask for the tenant at each job would cost more than to insert it.
    """

    id = BigIdField()
    payload: dict[str, Any]  # what its alert says, where it was asked for: model.jobs.with_alert
    tenant_id = CharField(max_length=64)
    alert_id = CharField(max_length=255)
    deliver_on_event = CharField(max_length=16)
    sequence = BigIntegerField()
    channel_id = IntegerField()
    channel_name = CharField(max_length=255)
    channel_type = CharField(max_length=32)
    rule_id = IntegerField(null=True)
    rule_name = CharField(max_length=255, null=True)
    user_id = CharField(max_length=255, null=True)  # set where one user was notified without a rule
    severity = IntegerField(default=0)
    is_critical = BooleanField(default=False)
    accepted_at = UtcDateTimeField()
    expires_at = UtcDateTimeField()
    state = CharField(max_length=16, default=JobState.PENDING)
    ended_as = CharField(
        max_length=16, null=True
    )  # the state again, where all has ended, but not as COMPLETED
    reason = CharField(max_length=32, null=True)
    targets = IntegerField(default=0)
    delivered = IntegerField(default=0)
    failed = IntegerField(default=0)
    suppressed = IntegerField(default=0)
    superseded = IntegerField(default=0)
    expired = IntegerField(default=0)
    created_at = UtcDateTimeField(default=utcnow)
    finished_at = UtcDateTimeField(null=True)
    sweeps = IntegerField(default=0)
    sweep_at = UtcDateTimeField(null=True)

    class Meta:
        """Names and indexes."""

        table_name = "notification_jobs"
        indexes = (
            (("alert_id", "channel_id", "tenant_id", "deliver_on_event"), True),
            (("tenant_id", "id"), False),
        )


class Delivery(BaseModel):
    """A job x a target: the channel itself, or a device. It goes with its job, by a trigger."""

    id = BigIdField()
    job_id = BigIntegerField()
    tenant_id = CharField(max_length=64)
    channel_id = IntegerField()
    device_id = BigIntegerField(default=NO_DEVICE)
    user_id = CharField(max_length=255, null=True)
    sender = CharField(max_length=32)
    is_critical = BooleanField(default=False)
    state = CharField(max_length=16, default=DeliveryState.PENDING)
    reason = CharField(max_length=32, null=True)
    attempts = IntegerField(default=0)
    lease_until = UtcDateTimeField(null=True)
    next_attempt_at = UtcDateTimeField(null=True)
    expires_at = UtcDateTimeField()
    provider_id = CharField(max_length=255, null=True)
    code = CharField(max_length=255, null=True)
    latency_ms = FloatField(null=True)
    created_at = UtcDateTimeField(default=utcnow)
    finished_at = UtcDateTimeField(null=True)
    sweeps = IntegerField(default=0)
    sweep_at = UtcDateTimeField(null=True)

    class Meta:
        """Names and indexes."""

        table_name = "deliveries"
        indexes = ((("job_id", "device_id"), True),)


class Device(BaseModel):
    """A user's phone or browser, unique in its app by `address_hash` (SHA-256 of token or endpoint)."""

    id = BigIdField()
    tenant = ForeignKeyField(Tenant, on_delete="CASCADE", index=False)
    tenant_id: str
    user_id = CharField(max_length=255)
    platform = CharField(max_length=16)
    app_id = CharField(max_length=255, default="")
    name = CharField(max_length=255, default="")
    token = TextField(default="")
    subscription = JsonField(null=True)
    address_hash = CharField(max_length=64)
    registered_at = UtcDateTimeField(default=utcnow)
    disabled_at = UtcDateTimeField(null=True)
    disabled_reason = CharField(max_length=255, null=True)

    class Meta:
        """Names and indexes."""

        table_name = "devices"
        indexes = ((("tenant", "platform", "app_id", "address_hash"), True), (("tenant", "user_id"), False))


class PreferenceRow(BaseModel):
    """What a user wants to hear of, and when. The fields' meaning is in model.preferences."""

    tenant = ForeignKeyField(Tenant, on_delete="CASCADE", index=False)
    tenant_id: str
    user_id = CharField(max_length=255)
    preferences = LooseJsonField()
    updated_at = UtcDateTimeField(default=utcnow)

    class Meta:
        """Names and key."""

        table_name = "notification_preferences"
        primary_key = CompositeKey("tenant", "user_id")


class LogEntry(BaseModel):
    """One attempt at one delivery. Append-only, without foreign keys: what it records stays true."""

    id = BigIdField()
    tenant_id = CharField(max_length=64)
    job_id = BigIntegerField()
    delivery_id = BigIntegerField(index=True)
    channel_id = IntegerField()
    sender = CharField(max_length=32)
    attempt = IntegerField()
    outcome = CharField(max_length=16)
    code = CharField(max_length=255, null=True)
    provider_id = CharField(max_length=255, null=True)
    latency_ms = FloatField(null=True)
    detail = TextField(null=True)
    at = UtcDateTimeField(default=utcnow)

    class Meta:
        """Names and indexes."""

        table_name = "notification_log"
        indexes = ((("tenant_id", "id"), False),)


class SweepLease(BaseModel):
    """Which process sweeps: one row, taken by a guarded UPDATE."""

    name = CharField(primary_key=True, max_length=32)
    holder = CharField(max_length=255)
    lease_until = UtcDateTimeField()

    class Meta:
        """Names."""

        table_name = "sweep_leases"


class Tally(BaseModel):
    """How often something happened to a tenant's deliveries, over all processes that ever were; see model.tallies."""

    tenant_id = CharField(max_length=64)
    name = CharField(max_length=32)
    value = BigIntegerField()

    class Meta:
        """Names and key."""

        table_name = "tallies"
        primary_key = CompositeKey("tenant_id", "name")


for _table in (Alert, Job, Delivery):
    _due = f"{_table._meta.table_name}_due"  # noqa: SLF001  # Peewee's own name for it
    _table.add_index(_table.sweep_at, name=_due, where=SQL("sweep_at IS NOT NULL"))
# Nothing that an index holds changes when a job is delivered to all its targets: PostgreSQL then writes the row alone,
# and no index (https://www.postgresql.org/docs/current/storage-hot.html). See model.jobs.in_states.
Job.add_index(
    Job.tenant_id,
    Job.ended_as,
    Job.id,
    name="notification_jobs_ended_as",
    where=SQL("ended_as IS NOT NULL"),
)
Delivery.add_index(
    Delivery.tenant_id,
    Delivery.channel_id,
    Delivery.finished_at,
    name="deliveries_failed",
    where=SQL("state = 'FAILED'"),
)

TABLES = (
    Tenant, ApiKey, Channel, RoutingRule, Alert, Job, Delivery, Device, PreferenceRow, LogEntry, SweepLease,
    Tally,
)  # fmt: skip
