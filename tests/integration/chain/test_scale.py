"""The cost of many: statements by the batch, never by the row."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

import actors
from model.database import connection
from model.tables import Alert, Delivery, Job

if TYPE_CHECKING:
    import pytest

    from tests.integration.chain.conftest import Chain

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
