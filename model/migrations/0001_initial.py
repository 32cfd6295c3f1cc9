"""The first schema."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peewee import (
    SQL,
    AutoField,
    BigIntegerField,
    BooleanField,
    CharField,
    CompositeKey,
    Field,
    FloatField,
    ForeignKeyField,
    IntegerField,
    Model,
    NodeList,
    SqliteDatabase,
    TextField,
)

if TYPE_CHECKING:
    from peewee import Database

#: Whatever changes a rule or a channel makes the compiled rules of its tenant stale, whoever does it.
WATCHED = {
    "notification_routing_rules": "",
    "notification_channels": " OF name, channel_type, is_enabled",
}


class Id(AutoField):
    """As model.database.IdField was when this was written."""

    def ddl(self, ctx: Any) -> Any:
        """As there."""
        made = super().ddl(ctx)
        is_sqlite = isinstance(self.model._meta.database, SqliteDatabase)  # noqa: SLF001  # Peewee's own name for it
        return NodeList((made, SQL("AUTOINCREMENT"))) if is_sqlite else made


class BigId(Id):
    """As model.database.BigIdField was."""

    field_type = "BIGAUTO"


class Moment(Field):
    """As model.database.UtcDateTimeField was when this was written."""

    field_type = "TIMESTAMPTZ"


def up(migrator: Any, db: Database) -> None:  # noqa: ARG001  # Peewee's signature
    class Frozen(Model):
        class Meta:
            database = db
            legacy_table_names = False

    class Tenant(Frozen):
        tenant_id = CharField(primary_key=True, max_length=64)
        version = IntegerField()
        created_at = Moment()

        class Meta:
            table_name = "tenants"

    class Alert(Frozen):
        id = BigId()
        tenant = ForeignKeyField(Tenant, on_delete="CASCADE", index=False)
        alert_id = CharField()
        event_type = CharField(max_length=16)
        payload = TextField()
        accepted_at = Moment()
        matched_at = Moment(null=True)
        jobs = IntegerField()
        error = TextField(null=True)
        sweeps = IntegerField()
        sweep_at = Moment(null=True)

        class Meta:
            table_name = "alerts"
            indexes = ((("tenant", "alert_id", "event_type"), True), (("tenant", "id"), False))

    class ApiKey(Frozen):
        id = Id()
        tenant = ForeignKeyField(Tenant, on_delete="CASCADE")
        role = CharField(max_length=16)
        name = CharField()
        prefix = CharField(max_length=16)
        key_hash = CharField(unique=True, max_length=64)
        created_at = Moment()
        revoked_at = Moment(null=True)

        class Meta:
            table_name = "api_keys"

    class Channel(Frozen):
        id = Id()
        tenant = ForeignKeyField(Tenant, on_delete="CASCADE")
        name = CharField()
        channel_type = CharField(max_length=32)
        config = TextField()
        is_enabled = BooleanField()
        health = CharField(max_length=32)
        health_detail = TextField(null=True)
        health_at = Moment(null=True)
        created_at = Moment()
        updated_at = Moment()

        class Meta:
            table_name = "notification_channels"
            indexes = ((("tenant", "name"), True),)

    class Job(Frozen):
        id = BigId()
        tenant = ForeignKeyField(Tenant, on_delete="CASCADE", index=False)
        alert_id = CharField()
        deliver_on_event = CharField(max_length=16)
        sequence = BigIntegerField()
        channel_id = IntegerField()
        channel_name = CharField()
        channel_type = CharField(max_length=32)
        rule_id = IntegerField(null=True)
        rule_name = CharField(null=True)
        user_id = CharField(null=True)
        payload = TextField()
        severity = IntegerField()
        is_critical = BooleanField()
        accepted_at = Moment()
        expires_at = Moment()
        state = CharField(max_length=16)
        reason = CharField(null=True, max_length=32)
        targets = IntegerField()
        delivered = IntegerField()
        failed = IntegerField()
        suppressed = IntegerField()
        superseded = IntegerField()
        expired = IntegerField()
        created_at = Moment()
        finished_at = Moment(null=True)
        sweeps = IntegerField()
        sweep_at = Moment(null=True)

        class Meta:
            table_name = "notification_jobs"
            indexes = (
                (("tenant", "alert_id", "channel_id", "deliver_on_event"), True),
                (("tenant", "id"), False),
                (("tenant", "state", "id"), False),
            )

    class Delivery(Frozen):
        id = BigId()
        job = ForeignKeyField(Job, on_delete="CASCADE", index=False)
        tenant_id = CharField(max_length=64)
        channel_id = IntegerField()
        device_id = BigIntegerField()
        user_id = CharField(null=True)
        sender = CharField(max_length=32)
        is_critical = BooleanField()
        state = CharField(max_length=16)
        reason = CharField(null=True, max_length=32)
        attempts = IntegerField()
        lease_until = Moment(null=True)
        next_attempt_at = Moment(null=True)
        expires_at = Moment()
        provider_id = CharField(null=True)
        code = CharField(null=True)
        latency_ms = FloatField(null=True)
        created_at = Moment()
        finished_at = Moment(null=True)
        sweeps = IntegerField()
        sweep_at = Moment(null=True)

        class Meta:
            table_name = "deliveries"
            indexes = ((("job", "device_id"), True),)

    class Device(Frozen):
        id = BigId()
        tenant = ForeignKeyField(Tenant, on_delete="CASCADE", index=False)
        user_id = CharField()
        platform = CharField(max_length=16)
        app_id = CharField()
        name = CharField()
        token = TextField()
        subscription = TextField(null=True)
        address_hash = CharField(max_length=64)
        registered_at = Moment()
        disabled_at = Moment(null=True)
        disabled_reason = CharField(null=True)

        class Meta:
            table_name = "devices"
            indexes = (
                (("tenant", "platform", "app_id", "address_hash"), True),
                (("tenant", "user_id"), False),
            )

    class LogEntry(Frozen):
        id = BigId()
        tenant_id = CharField(max_length=64)
        job_id = BigIntegerField()
        delivery_id = BigIntegerField(index=True)
        channel_id = IntegerField()
        sender = CharField(max_length=32)
        attempt = IntegerField()
        outcome = CharField(max_length=16)
        code = CharField(null=True)
        provider_id = CharField(null=True)
        latency_ms = FloatField(null=True)
        detail = TextField(null=True)
        at = Moment()

        class Meta:
            table_name = "notification_log"
            indexes = ((("tenant_id", "id"), False),)

    class PreferenceRow(Frozen):
        tenant = ForeignKeyField(Tenant, on_delete="CASCADE", index=False)
        user_id = CharField()
        preferences = TextField()
        updated_at = Moment()

        class Meta:
            table_name = "notification_preferences"
            primary_key = CompositeKey("tenant", "user_id")

    class RoutingRule(Frozen):
        id = Id()
        tenant = ForeignKeyField(Tenant, on_delete="CASCADE")
        channel = ForeignKeyField(Channel, on_delete="CASCADE")
        name = CharField()
        min_severity = IntegerField(null=True)
        alert_type = CharField(null=True)
        device_tag_key = CharField(null=True)
        device_tag_val = CharField(null=True)
        site_ids = TextField()
        device_prefixes = TextField()
        deliver_on = TextField()
        throttle_minutes = IntegerField(null=True)
        priority = IntegerField()
        is_enabled = BooleanField()
        created_at = Moment()
        updated_at = Moment()

        class Meta:
            table_name = "notification_routing_rules"
            indexes = ((("tenant", "name"), True),)

    class SweepLease(Frozen):
        name = CharField(primary_key=True, max_length=32)
        holder = CharField()
        lease_until = Moment()

        class Meta:
            table_name = "sweep_leases"

    class Tally(Frozen):
        tenant_id = CharField(max_length=64)
        name = CharField(max_length=32)
        value = BigIntegerField()

        class Meta:
            table_name = "tallies"
            primary_key = CompositeKey("tenant_id", "name")

    for table in (Alert, Job, Delivery):
        name = table._meta.table_name  # noqa: SLF001  # Peewee's own name for it
        table.add_index(table.sweep_at, name=f"{name}_due", where=SQL("sweep_at IS NOT NULL"))
    Delivery.add_index(
        Delivery.tenant_id,
        Delivery.channel_id,
        Delivery.finished_at,
        name="deliveries_failed",
        where=SQL("state = 'FAILED'"),
    )
    tables = (Tenant, Alert, ApiKey, Channel, Job, Delivery, Device, LogEntry, PreferenceRow, RoutingRule)
    db.create_tables([*tables, SweepLease, Tally])
    _watch(db)


def _watch(db: Database) -> None:
    if isinstance(db, SqliteDatabase):
        for table, columns in WATCHED.items():
            for event, row in (("INSERT", "NEW"), (f"UPDATE{columns}", "NEW"), ("DELETE", "OLD")):
                db.execute_sql(
                    f"CREATE TRIGGER {table}_{event.split()[0].lower()} AFTER {event} ON {table} BEGIN "  # noqa: S608  # names are ours
                    f"UPDATE tenants SET version = version + 1 WHERE tenant_id = {row}.tenant_id; END"
                )
        return
    db.execute_sql(
        "CREATE FUNCTION tocsin_rules_changed() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "UPDATE tenants SET version = version + 1 "
        "WHERE tenant_id = CASE TG_OP WHEN 'DELETE' THEN OLD.tenant_id ELSE NEW.tenant_id END; "
        "RETURN NULL; END $$"
    )
    for table, columns in WATCHED.items():
        db.execute_sql(
            f"CREATE TRIGGER {table}_changed AFTER INSERT OR DELETE OR UPDATE{columns} ON {table} "
            "FOR EACH ROW EXECUTE FUNCTION tocsin_rules_changed()"
        )
