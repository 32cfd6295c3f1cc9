"""What an alert says stands in its own row alone, and no longer in each job's as well."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

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


def up(migrator: Any, db: Database) -> None:  # noqa: ARG001  # Peewee's signature
    for statement in (RESTORED, REPEATED, "ALTER TABLE notification_jobs DROP COLUMN payload"):
        db.execute_sql(statement)
