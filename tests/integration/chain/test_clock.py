"""Each step goes by the database server's clock, also when it is the first thing that its process does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import actors
from actors.broker import runtime
from model import database
from model.database import connection, is_sqlite
from model.tables import Alert, Delivery, Job, SweepLease
from tests.integration.chain.conftest import TENANT

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests.integration.chain.conftest import Chain


@pytest.fixture
def fresh(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> Callable[[], None]:
    """Make this process one that has not asked the server yet, on a machine that is two hours behind."""
    if is_sqlite():
        pytest.skip("of PostgreSQL: with SQLite the machine's clock is everybody's")
    chain.stop()

    class Behind(database._Clock):
        def now(self) -> datetime:
            return super().now() - (
                timedelta(hours=2) if self._server_minus_monotonic is None else timedelta()
            )

    return lambda: monkeypatch.setattr(database, "_clock", Behind())


def _is_now(moment: datetime) -> bool:
    return abs(datetime.now(UTC) - moment) < timedelta(minutes=1)


def test_what_is_handed_in_is_accepted_now(chain: Chain, fresh: Callable[[], None]) -> None:
    fresh()
    chain.send({"alert_id": 1})
    fresh()
    actors.dispatch_to_user("alice", {"message": "hello"}, tenant_id=TENANT)

    with connection():
        assert [_is_now(alert.accepted_at) for alert in Alert.select()] == [True, True]
        assert _is_now(Job.get().accepted_at)
        Alert.delete().execute()
        Job.delete().execute()


def test_what_is_matched_sent_and_swept_is_so_now(chain: Chain, fresh: Callable[[], None]) -> None:
    # Given an alert, and then its delivery, due for an hour
    chain.rule(chain.channel("hook"))
    accepted = chain.send({"alert_id": 1})
    # When each step is its process's first
    fresh()
    actors.match_rules.fn(list(accepted.ids))
    with connection():
        assert _is_now(Job.get().created_at)
        due = datetime.now(UTC) - timedelta(hours=1)
        Delivery.update(state="RETRYING", next_attempt_at=due).execute()
        delivery = Delivery.get().id
    runtime.start()
    fresh()
    actors.deliver.fn([delivery])
    runtime.stop()
    # Then it is as late as it is
    assert chain.settled() == [("1", "OPEN", "hook", "DELIVERED", None, 1)]
    with connection():
        SweepLease.delete().execute()
    fresh()
    actors.sweep()
    with connection():
        assert _is_now(SweepLease.get().lease_until)
