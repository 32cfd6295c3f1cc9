"""The schema: what the migrations make is what the tables say, however many processes bring it up to date at once."""

from __future__ import annotations

import json
import subprocess
import sys
from typing import Any

import pytest
from peewee import IntegrityError
from playhouse.migrations import Runner
from playhouse.schema_diff import diff_models

from model import bulk
from model.database import connection, database, is_sqlite
from model.jobs import with_alert
from model.migrate import DIRECTORY, migrate, pending
from model.tables import TABLES, Alert, Channel, Delivery, Job, RoutingRule, Tenant
from tests.support.database import (
    KEY,
    NOW,
    make_channel,
    make_deliveries,
    make_job,
    make_tenant,
    open_test_database,
)

NAMES = ["0001_initial", "0002_alerts_once"]

ALERT = {"tenant_id": "acme", "alert_id": "new", "event_type": "OPEN", "payload": {}}


def _indexes() -> dict[str, str]:
    """Every index of our tables by name, as the database itself would write it down again."""
    if is_sqlite():
        sql = "SELECT name, sql FROM sqlite_master WHERE type = 'index' AND sql IS NOT NULL"
    else:
        sql = "SELECT indexname, indexdef FROM pg_indexes WHERE schemaname = 'public'"
    found = {name: text.replace("IF NOT EXISTS ", "") for name, text in database.execute_sql(sql).fetchall()}
    return {name: text for name, text in found.items() if "schema_migrations" not in text}


def _columns() -> dict[str, list[Any]]:
    """Every column of our tables: name, type, nullability, key."""
    return {
        table._meta.table_name: sorted(
            (column.name, column.data_type, column.null, column.primary_key)
            for column in database.get_columns(table._meta.table_name)
        )
        for table in TABLES
    }


def _foreign_keys() -> dict[str, list[Any]]:
    return {
        table._meta.table_name: sorted(
            (key.column, key.dest_table, key.dest_column)
            for key in database.get_foreign_keys(table._meta.table_name)
        )
        for table in TABLES
    }


def test_migrations_and_tables_agree(database_url: str) -> None:
    # Given the schema that the migrations make
    with open_test_database(database_url), connection():
        assert not diff_models(database.obj, TABLES)
        by_migration = _columns(), _indexes(), _foreign_keys()
        if is_sqlite():  # where a constraint cannot be dropped
            for name in ("notification_jobs", "deliveries"):
                assert by_migration[2].pop(name)
                by_migration[2][name] = []

        # When the tables themselves make it in its place
        for table in reversed(TABLES):
            table.drop_table(cascade=not is_sqlite())
        database.create_tables(TABLES)

        # Then it is the same to the letter: types, nullability, keys and indexes, the partial ones included
        by_tables = _columns(), _indexes(), _foreign_keys()
    assert by_migration == by_tables
    assert {"alerts_due", "notification_jobs_due", "deliveries_due", "deliveries_failed"} <= set(by_tables[1])
    assert "sweep_at IS NOT NULL" in by_tables[1]["deliveries_due"]


def test_the_triggers_are_there(database_url: str) -> None:
    with open_test_database(database_url), connection():
        if is_sqlite():
            rows = database.execute_sql("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall()
            tables = ("notification_channels", "notification_routing_rules")
            expected = {f"{table}_{event}" for table in tables for event in ("insert", "update", "delete")}
        else:
            rows = database.execute_sql("SELECT tgname FROM pg_trigger WHERE NOT tgisinternal").fetchall()
            expected = {"notification_channels_changed", "notification_routing_rules_changed"}
            expected |= {"notification_jobs_follow", "deliveries_follow"}
    assert {row[0] for row in rows} == expected


def test_pending_names_what_is_missing_and_migrating_twice_does_it_once(database_url: str) -> None:
    with open_test_database(database_url, migrated=False):
        assert pending() == NAMES
        assert migrate() == NAMES
        assert pending() == []
        assert migrate() == []


EVENT = """
INSERT INTO alerts (tenant_id, alert_id, event_type, payload, accepted_at, jobs, sweeps)
VALUES ('acme', ?, 'OPEN', ?, ?, 1, 0)
"""

JOB = """
INSERT INTO notification_jobs (tenant_id, alert_id, deliver_on_event, sequence, channel_id, channel_name, channel_type,
    user_id, payload, severity, is_critical, accepted_at, expires_at, state, targets, delivered, failed, suppressed,
    superseded, expired, created_at, sweeps)
VALUES ('acme', ?, 'OPEN', ?, 1, 'ops', 'webhook', ?, ?, 2, false, ?, ?, ?, 1, 1, 0, 0, 0, 0, ?, 0)
"""


def test_what_alerts_say_is_in_their_own_rows_after_the_upgrade(database_url: str) -> None:
    with open_test_database(database_url, migrated=False), connection():
        # Given the first schema, where each job has a copy: one without its alert, and one that was repeated
        mark = bulk.placeholder()
        runner = Runner(database.obj, str(DIRECTORY), table_name="schema_migrations")
        runner.up("0001_initial")
        make_tenant()
        for number in (1, 2, 3):
            database.execute_sql(
                EVENT.replace("?", mark), (f"a{number}", f'{{"n":{number}}}', NOW.isoformat())
            )
        database.execute_sql("DELETE FROM alerts WHERE id = 2")
        for number, said, user, state in (
            (1, 1, None, "COMPLETED"), (2, 2, None, "FAILED"), (3, 33, "u", "PROCESSING"),
        ):  # fmt: skip
            at = NOW.isoformat()
            values = (f"a{number}", number, user, f'{{"n":{said}}}', at, at, state, at)
            database.execute_sql(JOB.replace("?", mark), values)

        # When it is brought up to date
        migrate()

        # Then each job finds what its alert said
        assert [job.payload for job in with_alert().order_by(Job.id)] == [{"n": 1}, {"n": 2}, {"n": 33}]
        # And how it ended, but as COMPLETED
        assert [job.ended_as for job in Job.select().order_by(Job.id)] == [None, "FAILED", None]
        # And what is accepted next has an id of its own
        assert bulk.insert(Alert, [ALERT], returning=["id"])[0][0] > 3  # the last one there


RACE = """
import json, multiprocessing, sys
from config import load_settings
from model.database import open_database
from model.migrate import migrate, pending

context = multiprocessing.get_context("fork")
start = context.Barrier(6)

def bring_up_to_date(_):
    open_database(load_settings(database_url=sys.argv[1], secret_keys=sys.argv[2]))
    start.wait()
    pending()
    done = migrate()
    return done, pending()

with context.Pool(6) as pool:
    print(json.dumps(pool.map(bring_up_to_date, range(6), chunksize=1)))
"""


def test_six_processes_that_migrate_at_once_do_it_once(database_url: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", RACE, database_url, KEY],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )

    # One of them did it, none failed, and the schema is whole.
    assert done.returncode == 0, done.stderr
    assert sorted(json.loads(done.stdout)) == [[[], []]] * 5 + [[NAMES, []]]
    with open_test_database(database_url, migrated=False), connection():
        assert not diff_models(database.obj, TABLES)


def _version() -> int:
    return int(Tenant.get_by_id("acme").version)


def test_whatever_changes_a_rule_or_a_channel_makes_the_compiled_rules_stale(database_url: str) -> None:
    with open_test_database(database_url), connection():
        make_tenant()
        make_tenant("other")
        seen = [_version()]

        # Given a channel and a rule, made and changed one after the other
        channel_id = make_channel()
        seen.append(_version())
        rule = RoutingRule.create(tenant="acme", channel=channel_id, name="all")
        seen.append(_version())
        for change in ({"min_severity": 2}, {"is_enabled": False}, {"priority": 1}):
            RoutingRule.update(change).where(RoutingRule.id == rule.id).execute()
            seen.append(_version())
        for update in ({"name": "n"}, {"channel_type": "slack"}, {"is_enabled": False}):
            Channel.update(update).where(Channel.id == channel_id).execute()
            seen.append(_version())

        # Then each step is a new version
        assert seen == list(range(seen[0], seen[0] + len(seen)))

        # And what the chain itself writes is none
        Channel.update(health="ok", health_detail="200", health_at=None).where(
            Channel.id == channel_id
        ).execute()
        assert _version() == seen[-1]

        # And a channel takes its rules with it
        Channel.delete().where(Channel.id == channel_id).execute()
        assert _version() > seen[-1]
        assert RoutingRule.select().count() == 0
        assert Tenant.get_by_id("other").version == 1


def test_a_tenant_goes_with_all_that_is_its_own(database_url: str) -> None:
    with open_test_database(database_url), connection():
        for tenant_id in ("acme", "other"):
            make_tenant(tenant_id)
            RoutingRule.create(tenant=tenant_id, channel=make_channel(tenant_id), name="all")
            make_deliveries(make_job(tenant_id, sequence=len(tenant_id)), 2, tenant_id=tenant_id)

        Tenant.delete().where(Tenant.tenant_id == "acme").execute()

        assert [channel.tenant_id for channel in Channel.select()] == ["other"]
        assert [rule.tenant_id for rule in RoutingRule.select()] == ["other"]
        assert [alert.tenant_id for alert in Alert.select()] == ["other"]
        assert [job.tenant_id for job in Job.select()] == ["other"]
        assert [delivery.tenant_id for delivery in Delivery.select()] == ["other"] * 2


def test_nothing_belongs_to_a_tenant_that_is_not_there(database_url: str) -> None:
    with open_test_database(database_url), connection(), pytest.raises(IntegrityError):
        make_channel("nobody")


def test_no_id_is_given_out_again(database_url: str) -> None:
    with open_test_database(database_url), connection():
        for tenant_id in ("acme", "other"):
            make_tenant(tenant_id)
        gone = make_channel("acme")
        Channel.delete().where(Channel.id == gone).execute()

        assert make_channel("other") > gone
