"""What travels to PostgreSQL together, and what becomes of it when some of it fails."""

from __future__ import annotations

import select
from typing import TYPE_CHECKING, Any

import psycopg2.extensions
import pytest
from peewee import DataError, IntegrityError

from model import bulk
from model.database import DATABASE_AWAY, connection, database, is_sqlite, transaction
from model.pools import PostgresPool
from model.tables import Alert, Tenant
from tests.servers.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("migrated")


@pytest.fixture
def sent() -> Iterator[list[str]]:
    """What the server is sent by this thread's connection, one entry a round trip; skips on SQLite, which has none."""
    seen: list[str] = []

    class Cursor(psycopg2.extensions.cursor):  # type: ignore[misc]  # psycopg2 ships no types
        def execute(self, query: Any, variables: Any = None) -> None:
            seen.append(query.decode() if isinstance(query, bytes) else str(query))
            super().execute(query, variables)

    with connection():
        if not isinstance(database.connection(), psycopg2.extensions.connection):
            pytest.skip("of PostgreSQL")
        database.connection().cursor_factory = Cursor
        yield seen
        database.connection().cursor_factory = None


def _alert(name: str) -> list[bulk.Row]:
    return [{"tenant_id": "acme", "alert_id": name, "event_type": "OPEN", "payload": {"share": "100%"}}]


def _names() -> list[str]:
    return [alert.alert_id for alert in Alert.select().order_by(Alert.id)]


def test_a_transaction_without_a_statement_is_never_heard_of(sent: list[str]) -> None:
    with transaction():
        pass
    with pytest.raises(LookupError), transaction():
        raise LookupError

    assert sent == []


def test_what_nobody_reads_goes_with_the_next_statement_and_the_last_with_the_commit(sent: list[str]) -> None:
    with transaction():
        bulk.insert(Alert, _alert("first"))
        inserted = bulk.insert(Alert, _alert("second"), returning=["alert_id"])
        bulk.insert(Alert, _alert("third"))

    assert inserted == [("second",)]
    assert [text.split(" ")[0] for text in sent] == ["BEGIN;", "EXECUTE"]
    assert sent[0].count("EXECUTE") == 2
    assert sent[1].endswith("; COMMIT")
    assert _names() == ["first", "second", "third"]
    assert all(alert.payload == {"share": "100%"} for alert in Alert.select())


def test_outside_of_a_transaction_nothing_waits(sent: list[str]) -> None:
    bulk.insert(Alert, _alert("first"))

    assert [text.split(" ")[0] for text in sent] == ["PREPARE"]
    assert sent[0].count("EXECUTE") == 1


@pytest.mark.parametrize("reads", [False, True])
def test_what_fails_fails_the_whole_transaction_and_no_other(sent: list[str], *, reads: bool) -> None:
    bulk.insert(Alert, _alert("first"))
    # When a statement that nobody reads breaks a rule
    with pytest.raises(IntegrityError), transaction():  # noqa: PT012  # where it is raised depends
        Tenant.create(tenant_id="other")
        bulk.insert(Alert, _alert("first"))
        if reads:
            Tenant.select().count()
    assert sent[-1] == "ROLLBACK"
    # Then nothing of its transaction is there, and what follows is none the wiser
    bulk.insert(Alert, _alert("second"))
    assert sent[-1].startswith("EXECUTE")
    assert _names() == ["first", "second"]
    assert not Tenant.select().where(Tenant.tenant_id == "other").exists()


@pytest.mark.parametrize("has_begun", [False, True])
def test_what_was_not_sent_when_a_block_fails_is_forgotten(sent: list[str], *, has_begun: bool) -> None:
    with pytest.raises(LookupError), transaction():  # noqa: PT012
        if has_begun:
            Tenant.select().count()
        bulk.insert(Alert, _alert("first"))
        raise LookupError
    assert [text.split(" ")[0] for text in sent] == (["BEGIN;", "ROLLBACK"] if has_begun else [])
    bulk.insert(Alert, _alert("second"))

    assert _names() == ["second"]


def test_what_a_savepoint_undoes_need_not_be_sent(sent: list[str]) -> None:
    with transaction():
        bulk.insert(Alert, _alert("first"))
        with pytest.raises(LookupError), database.atomic():  # noqa: PT012
            bulk.insert(Alert, _alert("first"))  # would be refused
            raise LookupError
        bulk.insert(Alert, _alert("second"))

    assert _names() == ["first", "second"]
    assert sum(text.count("EXECUTE") for text in sent) == 2


def test_what_an_interrupt_left_behind_is_nobodys(sent: list[str]) -> None:
    bulk.insert(Alert, _alert("first"))
    # Given a transaction that was neither committed nor rolled back, as an interrupt at the wrong moment has it
    database.begin()
    database.obj.send_later("UPDATE alerts SET jobs = 7", ())
    # When the thread goes on
    bulk.insert(Alert, _alert("second"))

    # Then nothing of it is done
    assert [(alert.alert_id, alert.jobs) for alert in Alert.select()] == [("first", 0), ("second", 0)]
    assert sent[-2].startswith("EXECUTE")


def test_what_comes_again_is_prepared_once(sent: list[str]) -> None:
    for name in ("first", "second", "third"):
        bulk.insert(Alert, _alert(name))
    with transaction():
        bulk.insert(Alert, _alert("fourth"))

    assert [text.count("PREPARE") for text in sent] == [1, 0, 0, 0]
    assert _names() == ["first", "second", "third", "fourth"]


@pytest.mark.usefixtures("migrated", "sent")
def test_what_failed_when_it_was_prepared_is_prepared_the_next_time() -> None:
    # Given an insert that came with a statement that fails before it, or after it
    for sql in ("SELECT 1 / 0", None):
        with pytest.raises((DataError, IntegrityError)), transaction():  # noqa: PT012
            if sql:
                database.obj.send_later(sql, ())
            bulk.insert(Alert, [{**row, "tenant_id": "nobody"} for row in _alert("first")])
    # Then the next one is none the wiser
    bulk.insert(Alert, _alert("first"))

    assert _names() == ["first"]


def test_no_more_is_prepared_than_a_server_should_keep(
    sent: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PostgresPool, "PREPARED", 1)
    bulk.insert(Alert, _alert("first"))
    for _ in range(2):
        bulk.insert(Alert, [row | {"jobs": 7} for row in _alert("second")], ignore_conflicts=True)

    assert [text.split(" ")[0] for text in sent] == ["PREPARE", "INSERT", "INSERT"]
    assert _names() == ["first", "second"]


def test_behind_a_pooler_that_changes_servers_nothing_is_prepared_any_more(sent: list[str]) -> None:
    bulk.insert(Alert, _alert("first"))
    # Given a server that knows nothing of it
    database.execute_sql("DEALLOCATE ALL")
    # When it is asked, then the call is worth another try, as one to a database that was away
    with pytest.raises(DATABASE_AWAY):
        bulk.insert(Alert, _alert("second"))
    for name in ("second", "third"):
        bulk.insert(Alert, _alert(name))

    assert [text.split(" ")[0] for text in sent[-2:]] == ["INSERT", "INSERT"]
    assert _names() == ["first", "second", "third"]


@pytest.mark.usefixtures("migrated")
def test_a_connection_begins_with_nothing() -> None:
    with connection():
        if is_sqlite():
            pytest.skip("of PostgreSQL")
        database.begin()
        database.obj.send_later("UPDATE alerts SET jobs = 7", ())
    with transaction():
        bulk.insert(Alert, _alert("first"))
    with connection():
        assert Alert.get().jobs == 0


def test_a_connection_is_looked_at_and_not_asked_before_it_is_handed_out() -> None:
    seen: list[str] = []

    class Cursor(psycopg2.extensions.cursor):  # type: ignore[misc]  # as above
        def execute(self, query: Any, variables: Any = None) -> None:
            seen.append(str(query))
            super().execute(query, variables)

    with connection():
        first = database.connection()
        if not isinstance(first, psycopg2.extensions.connection):
            pytest.skip("of PostgreSQL")
        first.cursor_factory = Cursor
    # Given a connection in the pool, when it is wanted again, then the server hears nothing of it
    with connection():
        assert database.connection() is first
    assert seen == []
    # And when the server has ended it meanwhile, then another one is made
    with psycopg2.connect(first.dsn, password=first.info.password) as other:
        other.cursor().execute("SELECT pg_terminate_backend(%s)", (first.info.backend_pid,))
    wait_until(lambda: bool(select.select([first], [], [], 0)[0]), 5, "the server's farewell")
    with connection():
        assert database.connection() is not first
        assert Tenant.select().count() == 1
