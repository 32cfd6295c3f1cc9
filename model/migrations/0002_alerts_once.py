"""What an alert says stands in its own row alone, and less is done for each job and delivery.

Jobs had a copy of their alerts. Each insert of a job asked for its tenant, and of a delivery for its job, which the
same transaction had locked or inserted: PostgreSQL now deletes what goes with a row by a trigger, once a statement.
SQLite cannot drop a constraint, and keeps them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from peewee import SqliteDatabase

if TYPE_CHECKING:
    from peewee import Database

#: No job should be without its alert (admin.prune keeps it). If a hand deleted one, the job's copy takes its place.
RESTORED = """
INSERT INTO alerts (id, tenant_id, alert_id, event_type, payload, accepted_at, matched_at, jobs, sweeps)
SELECT sequence, tenant_id, alert_id, deliver_on_event, payload, accepted_at, accepted_at, 1, 0
FROM notification_jobs AS j WHERE NOT EXISTS (SELECT 1 FROM alerts AS a WHERE a.id = j.sequence)
ON CONFLICT DO NOTHING
"""

#: A notification without a rule may have been repeated, in other words, after its job was pruned.
REPEATED = """
UPDATE alerts SET payload = j.payload FROM notification_jobs AS j
WHERE j.user_id IS NOT NULL AND j.sequence = alerts.id AND j.payload <> alerts.payload
"""

#: A channel is one tenant's, so that alert and channel say it all; no other index begins with either.
KEY = """\
CREATE UNIQUE INDEX "notification_jobs_alert_id_channel_id_tenant_id_deliver_on_event" \
ON "notification_jobs" ("alert_id", "channel_id", "tenant_id", "deliver_on_event")"""

OLD_KEY = "DROP INDEX notification_jobs_tenant_id_alert_id_channel_id_deliver_on_event"

#: Of a job's state an index has what it is in the end, where that is not COMPLETED.
ENDED_AS = (
    "ALTER TABLE notification_jobs ADD COLUMN ended_as VARCHAR(16)",
    "UPDATE notification_jobs SET ended_as = state WHERE state NOT IN ('PENDING', 'PROCESSING', 'COMPLETED')",
    (
        'CREATE INDEX "notification_jobs_ended_as" ON "notification_jobs" ("tenant_id", "ended_as", "id") '
        "WHERE ended_as IS NOT NULL"
    ),
    "DROP INDEX notification_jobs_tenant_id_state_id",
)

#: What goes with what: table, its column, the table that it refers to, that one's column.
FOLLOWING = (
    ("notification_jobs", "tenant_id", "tenants", "tenant_id"),
    ("deliveries", "job_id", "notification_jobs", "id"),
)


def up(migrator: Any, db: Database) -> None:  # noqa: ARG001  # Peewee's signature
    for statement in (RESTORED, REPEATED, "ALTER TABLE notification_jobs DROP COLUMN payload", KEY, OLD_KEY):
        db.execute_sql(statement)
    for statement in ENDED_AS:
        db.execute_sql(statement)
    if isinstance(db, SqliteDatabase):
        return
    for table, column, whose, key in FOLLOWING:
        db.execute_sql(f"ALTER TABLE {table} DROP CONSTRAINT {table}_{column}_fkey")
        db.execute_sql(
            f"CREATE FUNCTION tocsin_{table}_follow() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "  # noqa: S608  # names are ours
            f"DELETE FROM {table} WHERE {column} IN (SELECT {key} FROM gone); RETURN NULL; END $$"
        )
        db.execute_sql(
            f"CREATE TRIGGER {table}_follow AFTER DELETE ON {whose} REFERENCING OLD TABLE AS gone "
            f"FOR EACH STATEMENT EXECUTE FUNCTION tocsin_{table}_follow()"
        )
    # Room for the end of each job beside its beginning.
    db.execute_sql("ALTER TABLE notification_jobs SET (fillfactor = 60)")
    # Peewee had made it as wide as an ordinary id.
    db.execute_sql("ALTER TABLE deliveries ALTER COLUMN job_id TYPE bigint")
