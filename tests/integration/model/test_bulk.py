"""Many rows in one statement: what goes in comes out, whatever it is and however many they are."""

from __future__ import annotations

import logging
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peewee import IntegrityError

from model import bulk
from model.database import database, is_sqlite, tuples
from model.tables import Alert, Channel, Device, LogEntry, RoutingRule
from tests.support.database import NOW, make_channel

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.usefixtures("acme")

#: A test's examples share one database: each writes rows of its own, or rolls back.
shared = settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=25, deadline=None)


@contextmanager
def statements() -> Iterator[list[str]]:
    """What is sent to the database within the block."""
    seen: list[str] = []

    class Listener(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            seen.append(str(record.args or record.msg))

    listener, logger = Listener(), logging.getLogger("peewee")
    level = logger.level
    logger.addHandler(listener)
    logger.setLevel(logging.DEBUG)
    try:
        yield seen
    finally:
        logger.removeHandler(listener)
        logger.setLevel(level)


def _alerts(number: int, **fields: Any) -> list[bulk.Row]:
    return [
        {"tenant_id": "acme", "alert_id": f"a{n}", "event_type": "OPEN", "payload": {"n": n}} | fields
        for n in range(number)
    ]


@pytest.mark.parametrize("number", [1, 1000])
def test_rows_are_inserted_by_one_statement_in_their_order(number: int) -> None:
    with statements() as seen:
        ids = [row[0] for row in bulk.insert(Alert, _alerts(number), returning=["id"])]

    assert len(seen) == 1
    assert ids == sorted(ids)
    stored = list(tuples(Alert.select(Alert.id, Alert.alert_id, Alert.payload).order_by(Alert.id)))
    assert stored == [(id_, f"a{n}", {"n": n}) for n, id_ in enumerate(ids)]


@pytest.mark.parametrize("number", [1, 1000])
def test_rows_are_updated_by_one_statement(number: int) -> None:
    ids = [row[0] for row in bulk.insert(Alert, _alerts(number), returning=["id"])]
    untouched = bulk.insert(Alert, [_alerts(1)[0] | {"alert_id": "other"}], returning=["id"])[0][0]
    rows: list[bulk.Row] = [
        {"id": id_, "jobs": n, "error": f"e{n}", "matched_at": NOW} for n, id_ in enumerate(ids)
    ]

    with statements() as seen:
        updated = bulk.update(Alert, rows[::-1], returning=["id", "jobs"])

    assert len(seen) == 1
    assert sorted(updated) == [(id_, n) for n, id_ in enumerate(ids)]
    stored = tuples(Alert.select(Alert.id, Alert.jobs, Alert.error, Alert.matched_at).order_by(Alert.id))
    assert list(stored) == [(id_, n, f"e{n}", NOW) for n, id_ in enumerate(ids)] + [
        (untouched, 0, None, None)
    ]


def test_no_rows_are_no_statement() -> None:
    with statements() as seen:
        assert bulk.insert(Alert, [], returning=["id"]) == []
        assert bulk.update(Alert, [], returning=["id"]) == []

    assert seen == []


def test_what_is_left_out_takes_the_default() -> None:
    before = datetime.now(UTC)

    bulk.insert(Alert, _alerts(1))
    channel_id = make_channel()
    bulk.insert(RoutingRule, [{"tenant_id": "acme", "channel_id": channel_id, "name": "r"}])

    alert, rule = Alert.get(), RoutingRule.get()
    about = timedelta(seconds=1)  # it is the server's clock, which we know to some milliseconds
    assert before - about <= alert.accepted_at <= datetime.now(UTC) + about
    assert (alert.jobs, alert.sweeps, alert.matched_at) == (0, 0, None)
    assert (rule.site_ids, rule.deliver_on, rule.priority, rule.is_enabled) == ([], ["OPEN"], 100, True)


def test_conflicts_are_errors_unless_they_are_to_be_ignored() -> None:
    first = bulk.insert(Alert, _alerts(3), returning=["id"])

    with pytest.raises(IntegrityError), database.atomic():
        bulk.insert(Alert, _alerts(5))
    again = bulk.insert(Alert, _alerts(5) + _alerts(5), ignore_conflicts=True, returning=["id", "alert_id"])

    # What was there stays, what stands twice goes in once, and only what is new is returned.
    assert len(first) == 3
    assert [alert_id for _, alert_id in again] == ["a3", "a4"]
    assert Alert.select().count() == 5


def test_an_update_can_be_guarded_by_a_value_that_it_does_not_set() -> None:
    ids = [row[0] for row in bulk.insert(Alert, _alerts(2), returning=["id"])]
    bulk.update(Alert, [{"id": ids[1], "jobs": 7}])

    kept = bulk.update(
        Alert,
        [{"id": id_, "sweeps": 1, "_jobs": 7} for id_ in ids],
        where="t.jobs = r._jobs",
        returning=["id"],
    )

    assert kept == [(ids[1],)]
    assert [alert.sweeps for alert in Alert.select().order_by(Alert.id)] == [0, 1]


TEXT = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | TEXT
)
JSON = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.text(max_size=8).filter(lambda t: t.isprintable()), inner, max_size=3)
    ),
    max_leaves=8,
)


@shared
@given(payload=JSON.filter(lambda value: value is not None), error=st.none() | TEXT)
def test_any_json_and_any_text_comes_back_as_it_went_in(payload: Any, error: str | None) -> None:
    with database.atomic() as undone:
        bulk.insert(Alert, _alerts(1, payload=payload, error=error))
        inserted = Alert.get()
        bulk.update(Alert, [{"id": inserted.id, "payload": [payload], "error": error}])
        updated = Alert.get()
        undone.rollback()

    assert (inserted.payload, inserted.error) == (payload, error)
    assert (updated.payload, updated.error) == ([payload], error)


def test_text_is_text_whatever_it_looks_like() -> None:
    texts = [
        '"', "'", "\\", '\\"', "'; DROP TABLE alerts; --", "%s %(x)s %", "? :x $1", "\U0001f6aa\u200d",
        "\x01\x7f\r\n\t",
        "null", "true", "7", "1e5", "[]", "{}", "2026-03-28T12:00:00+00:00", "\u2028", " padded ", "",
    ]  # fmt: skip

    bulk.insert(Alert, [_alerts(1, alert_id=text, payload={text: text}, error=text)[0] for text in texts])

    stored = tuples(Alert.select(Alert.alert_id, Alert.payload, Alert.error).order_by(Alert.id))
    assert list(stored) == [(text, {text: text}, text) for text in texts]


ZONES = st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=45))])


@shared
@given(moment=st.datetimes(min_value=NOW.replace(year=1000, tzinfo=None), timezones=ZONES))
def test_moments_are_kept_to_the_microsecond(moment: datetime) -> None:
    with database.atomic() as undone:
        bulk.insert(Alert, _alerts(1, accepted_at=moment))
        inserted = Alert.get().accepted_at
        found = Alert.select().where(Alert.accepted_at == moment).count()
        earlier = Alert.select().where(Alert.accepted_at < moment).count()
        undone.rollback()

    assert inserted == moment
    assert inserted.utcoffset() == timedelta(0)
    assert (found, earlier) == (1, 0)


def test_a_naive_moment_is_refused_wherever_it_comes() -> None:
    naive = NOW.replace(tzinfo=None)

    with pytest.raises(ValueError, match="naive"):
        bulk.insert(Alert, _alerts(1, accepted_at=naive))
    with pytest.raises(ValueError, match="naive"):
        Alert.create(tenant="acme", alert_id="a", event_type="OPEN", payload={}, accepted_at=naive)
    with pytest.raises(ValueError, match="naive"):
        list(Alert.select().where(Alert.accepted_at < naive))
    assert Alert.select().count() == 0


def test_numbers_booleans_and_nulls_keep_their_types() -> None:
    row = {
        "tenant_id": "acme", "job_id": 2**62, "delivery_id": 1, "channel_id": 1, "sender": "webhook", "attempt": 1,
        "outcome": "ok", "latency_ms": 12.5, "code": None, "detail": None,
    }  # fmt: skip
    bulk.insert(LogEntry, [row])
    bulk.insert(
        Device,
        [{"tenant_id": "acme", "user_id": "u", "platform": "web", "address_hash": "h", "subscription": None}],
    )
    channel_id = make_channel()
    bulk.update(Channel, [{"id": channel_id, "is_enabled": False}])

    entry = LogEntry.get()
    assert (entry.job_id, entry.latency_ms, entry.code) == (2**62, 12.5, None)
    assert Device.get().subscription is None
    assert Channel.get().is_enabled is False


def test_secrets_are_encrypted_on_this_way_too() -> None:
    channel_id = make_channel()

    bulk.update(Channel, [{"id": channel_id, "config": {"token": "c4nary"}}])

    assert Channel.get().config == {"token": "c4nary"}
    assert "c4nary" not in database.execute_sql("SELECT config FROM notification_channels").fetchone()[0]


def test_sqlite_reads_the_document_of_an_update_once_and_not_for_each_row(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    if not is_sqlite():
        pytest.skip("PostgreSQL joins it by a hash")
    said: list[tuple[str, tuple[Any, ...]]] = []
    monkeypatch.setattr(bulk, "execute_later", lambda sql, params: said.append((sql, params)))
    bulk.update(Channel, [{"id": 1, "is_enabled": False}])
    monkeypatch.undo()
    ((sql, params),) = said

    steps = [row[3] for row in database.execute_sql(f"EXPLAIN QUERY PLAN {sql}", params).fetchall()]

    # The outer loop is the document's, the inner one looks a row of the table up.
    assert steps[0].startswith("SCAN json_each")
    assert steps[1].startswith("SEARCH t USING INTEGER PRIMARY KEY")
