"""Each step goes by the database server's clock, also when it is the first thing that its process does."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest

import actors
from actors.broker import runtime
from model import database, ledger
from model.database import connection, is_sqlite, transaction
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


@pytest.mark.parametrize(
    "chain", [{"send_deadline": 0.5, "time_limit": 1, "lease": 2, "sweep_grace": 1}], indirect=True
)
def test_what_a_clock_that_was_ahead_put_off_comes_when_it_is_set_right(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not is_sqlite():
        pytest.skip("of SQLite: PostgreSQL's processes go by its clock")
    chain.rule(chain.channel("hook"))
    chain.rule(chain.channel("phones", "push", all_users=True), alert_type="door")
    chain.device("alice")
    chain.stop()

    class Ahead(database._Clock):
        def now(self) -> datetime:
            return super().now() + timedelta(hours=2)

    # Given work that lost its message at each step while the clock was two hours ahead
    with monkeypatch.context() as patched:
        patched.setattr(database, "_clock", Ahead())
        for step in ("waits", "claimed", "pending"):
            actors.match_rules.fn(list(chain.send({"alert_id": step}).ids))
        actors.match_rules.fn(list(chain.send({"alert_id": "fanout", "alert_type": "door"}).ids))
        chain.send({"alert_id": "match"})
        with transaction():
            waits, claimed = (row.id for row in Delivery.select().order_by(Delivery.id).limit(2))
            ledger.claim([claimed], now=database.utcnow(), lease=timedelta(seconds=2))
            tomorrow = database.utcnow() + timedelta(days=1)
            Delivery.update(state="RETRYING", next_attempt_at=tomorrow, sweep_at=tomorrow).where(
                Delivery.id == waits
            ).execute()
    actors.broker.flush_all()
    # When it is set right, and a worker comes
    began = datetime.now(UTC)
    chain.start()
    # Then all is made soon, what may be in a worker's hands after a lease, and what has a time of its own at that
    chain.until(lambda: [line[3] for line in chain.lines()].count("DELIVERED") == 5)
    assert sorted((line[0], line[2], line[3], line[5]) for line in chain.lines()) == [
        ("claimed", "hook", "DELIVERED", 2),
        ("fanout", "hook", "DELIVERED", 1),
        ("fanout", "phones", "DELIVERED", 1),
        ("match", "hook", "DELIVERED", 1),
        ("pending", "hook", "DELIVERED", 1),
        ("waits", "hook", "RETRYING", 0),
    ]
    with connection():
        assert Delivery.get_by_id(claimed).finished_at > began + timedelta(seconds=2)
        assert Delivery.get_by_id(waits).sweep_at == tomorrow


@pytest.mark.parametrize("chain", [{"lease": 60, "sweep_grace": 60}], indirect=True)
def test_what_the_sweep_itself_puts_off_for_long_is_not_taken_for_a_clocks_doing(chain: Chain) -> None:
    if not is_sqlite():
        pytest.skip("as above")
    # Given a delivery whose worker died, and which has been swept several times behind a backlog
    chain.rule(chain.channel("hook"))
    chain.stop()
    actors.match_rules.fn(list(chain.send({"alert_id": 1}).ids))
    now = database.utcnow()
    with connection():
        Delivery.update(
            state="SENDING",
            lease_until=now - timedelta(minutes=5),
            sweep_at=now - timedelta(seconds=1),
            sweeps=4,
        ).execute()
        # When it is swept once more, and again
        for _ in range(2):
            actors.sweep()
            SweepLease.delete().execute()
        # Then it is put off for longer than any lease, and stays so
        assert Delivery.get().sweep_at > now + timedelta(minutes=10)
