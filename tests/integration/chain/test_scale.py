"""The cost of many: statements by the batch, never by the row."""

from __future__ import annotations

import importlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

import actors
from model.database import connection, database, is_sqlite, utcnow
from model.rules import Rule
from model.tables import Alert, Delivery, Job
from tests.integration.chain.conftest import TENANT
from tests.support.database import make_job

if TYPE_CHECKING:
    from tests.integration.chain.conftest import Chain

#: Its actor has the module's name in the package.
fanout = importlib.import_module("actors.fanout_devices")

#: Statements that one batch of a hundred may take at each step, transaction brackets included.
A_BATCH = 12


def _statements(caplog: pytest.LogCaptureFixture) -> int:
    return sum(record.name == "peewee" for record in caplog.records)


def test_statements_grow_with_batches_not_with_alerts(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    # Given a rule that matches everything, and no worker: the steps are called by hand, and counted
    chain.rule(chain.channel("hook"), throttle_minutes=5)
    chain.send({"alert_id": "compiles the rules"})
    chain.settled()
    chain.stop()
    caplog.set_level(logging.DEBUG, logger="peewee")

    counted: dict[int, list[int]] = {}
    for number, batch in ((1, range(1)), (2, range(1000, 1100)), (3, range(2000, 3000))):
        # When 1, then 100, then 1,000 alerts go through intake, matching and fan-out
        caplog.clear()
        accepted = chain.send(*({"alert_id": each} for each in batch))
        intake = _statements(caplog)
        caplog.clear()
        for start in range(0, len(accepted.ids), 100):
            actors.match_rules.fn(list(accepted.ids[start : start + 100]))
        matching = _statements(caplog)
        with connection():
            jobs = [job.id for job in Job.select(Job.id).where(Job.state == "PENDING").order_by(Job.id)]
        caplog.clear()
        for start in range(0, len(jobs), 100):
            actors.fanout_devices.fn(jobs[start : start + 100])
        counted[number] = [intake, matching, _statements(caplog)]
    with connection():
        assert Alert.select().count() == Job.select().count() == Delivery.select().count() == 1102

    # Then a hundred cost what one costs, and a thousand ten times a hundred at most
    assert counted[1] == counted[2]
    assert counted[3][0] == counted[1][0]
    assert all(many <= 10 * one for many, one in zip(counted[3][1:], counted[1][1:], strict=True))
    assert all(one <= A_BATCH for one in counted[1])


def test_a_thousand_alerts_are_delivered_in_batches(chain: Chain, caplog: pytest.LogCaptureFixture) -> None:
    chain.rule(chain.channel("hook"))
    caplog.set_level(logging.DEBUG, logger="peewee")
    chain.send(*({"alert_id": each} for each in range(1000)))
    chain.until(lambda: len(chain.far.webhook.received) == 1000, within=30)
    chain.settled()
    assert chain.totals()["delivered"] == 1000
    settled = [
        record
        for record in caplog.records
        if record.name == "peewee"
        and "UPDATE deliveries AS t SET attempts = r.attempts" in record.getMessage()
    ]
    assert 0 < len(settled) <= 40


def test_a_fan_out_to_thousands_of_devices(chain: Chain) -> None:
    chain.rule(chain.channel("phones", "push", all_users=True))
    chain.stop()
    with connection():
        from model import bulk  # noqa: PLC0415  # rows by the thousand, made as the product makes them
        from model.tables import Device  # noqa: PLC0415

        rows = [
            {
                "tenant_id": "acme", "user_id": f"u{each}", "platform": "ios", "token": f"{each:064x}",
                "address_hash": f"{each:064x}",
            }
            for each in range(2500)
        ]  # fmt: skip
        bulk.insert(Device, rows)
    chain.start()
    chain.send({"alert_id": 1, "severity": 4})
    chain.until(lambda: len(chain.far.apns.received) >= 2500, within=40)
    chain.settled()
    assert chain.totals()["delivered"] == 2500


def test_many_fan_outs_to_many_devices_take_a_transaction_each(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given room for two jobs' targets in a transaction
    monkeypatch.setattr(fanout, "TARGETS", 60)
    monkeypatch.setattr(fanout, "CHUNK", 7)
    together: list[int] = []
    fan_out = fanout._fan_out_together

    def counted(ids: list[int], *, may_claim: bool) -> None:
        together.append(len(ids))
        assert not may_claim  # else the first part's sends would be waited for
        fan_out(ids, may_claim=may_claim)

    monkeypatch.setattr(fanout, "_fan_out_together", counted)
    chain.rule(chain.channel("phones", "push", all_users=True))
    for number in range(30):
        chain.device(f"u{number}", disabled_at=utcnow() if number == 7 else None)
    chain.stop()
    # When five jobs wait
    for number in range(5):
        chain.send({"alert_id": number})
    with connection():
        alerts = [alert.id for alert in Alert.select()]
    actors.match_rules.fn(alerts)
    actors.broker.flush_all()
    actors.fanout_devices.fn([job.id for job in chain.jobs()])
    # Then no more than two are fanned out together, and each finds all devices
    assert together == [2, 2, 1]
    assert [(job.targets, job.suppressed) for job in chain.jobs()] == [(30, 1)] * 5
    chain.start()
    with connection():
        Delivery.update(sweep_at=utcnow()).where(Delivery.state == "PENDING").execute()
    chain.until(lambda: len(chain.far.apns.received) == 5 * 29)
    chain.settled()


def test_fan_outs_to_a_few_users_of_many_stay_together(chain: Chain, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fanout, "TARGETS", 60)
    few = chain.channel("few", "push", user_ids=["u1", "u2"])
    everybody = chain.channel("all", "push", all_users=True)
    for number in range(50):
        chain.device(f"u{number}")
    chain.stop()
    with connection():
        jobs = [
            make_job(
                TENANT,
                sequence=n,
                alert_id=str(n),
                channel_id=channel.id,
                channel_type="push",
                state="PENDING",
            )
            for n, channel in enumerate([few, few, few, everybody, few, everybody])
        ]
        mine = {"channel_id": everybody.id, "channel_type": "push", "state": "PENDING", "user_id": "u1"}
        user = make_job(TENANT, sequence=9, alert_id="9", **mine)

    assert fanout._parts([*jobs[:3], user]) == [jobs[:3], [user]]
    assert fanout._parts(jobs) == [jobs[:3], jobs[3:4], [*jobs[4:5]], jobs[5:]]
    with connection():
        Job.delete().execute()


def test_matching_that_takes_long_is_not_ended_in_the_middle(
    chain: Chain, monkeypatch: pytest.MonkeyPatch
) -> None:
    if is_sqlite():
        pytest.skip("of PostgreSQL: SQLite lets a transaction be silent")
    # Given a server that ends a transaction that is silent for so many milliseconds, and rules that take their time
    chain.rule(chain.channel("hook"))
    chain.stop()
    accepted = chain.send(*({"alert_id": number} for number in range(5)))
    opened: Any = database.obj
    opened.close_all()
    with connection():
        database.execute_sql("SET idle_in_transaction_session_timeout = 2500")
    matches = Rule.matches

    def slow(*given: Any) -> bool:
        time.sleep(0.8)
        return matches(*given)

    monkeypatch.setattr(Rule, "matches", slow)
    # When alerts are matched for longer than that
    actors.match_rules.fn(list(accepted.ids))
    # Then they are
    assert len(chain.jobs()) == 5


def test_calls_with_the_same_alerts_in_another_order_do_not_wait_for_each_other(chain: Chain) -> None:
    chain.stop()
    alerts = [{"alert_id": f"a-{number}"} for number in range(1000)]
    accepted: list[int] = []

    def accept(some: list[dict[str, str]]) -> None:
        accepted.append(chain.send(*some).accepted)

    for start in range(3):
        mine = [{"alert_id": f"{start}-{each['alert_id']}"} for each in alerts]
        calls = [threading.Thread(target=accept, args=(order,)) for order in (mine, mine[::-1])]
        for call in calls:
            call.start()
        for call in calls:
            call.join()
    assert len(accepted) == 6, "a call failed"
    assert sum(accepted) == 3000
    with connection():
        Alert.delete().execute()
