"""The account itself: whatever goes wrong must be found by it, or its zeros mean nothing."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.faults.account import Account, Receipt, Row, Times, read_receipts, settle_accounts, token
from tests.faults.report import render, row

if TYPE_CHECKING:
    from pathlib import Path

TIMES = Times(began=100.0, healed=110.0, window=11.0)


def receipt(
    job: int, at: float, event: str = "OPEN", *, id_: str | None = None, alert: str | None = None
) -> Receipt:
    return Receipt(at, id_ or f"id-{job}", job, "hook", alert or f"a{job}", event)


def delivery(job: int, state: str = "DELIVERED", reason: str | None = None, accepted_at: float = 99.0) -> Row:
    return Row(job, job, state, reason, 1, accepted_at)


def book(*alerts: str) -> list[dict[str, Any]]:
    return [{"asked": 98.0, "at": 98.5, "ids": [[alert, "OPEN"] for alert in alerts]}]


def account_of(rows: list[Row], receipts: list[Receipt], *promised: str) -> Account:
    return settle_accounts(
        rows, {(f"a{each.job_id}", "OPEN") for each in rows}, book(*promised), receipts, TIMES
    )


def test_what_arrived_once_is_in_order() -> None:
    account = account_of([delivery(1), delivery(2)], [receipt(1, 99.5), receipt(2, 112.0)], "a1", "a2")

    assert account.faults() == []
    assert (account.accepted, account.delivered, account.recovered) == (2, 2, 1)
    assert (account.flow_seconds, account.recovery_seconds, account.slowest_call) == (2.0, 2.0, 0.5)


def test_work_flows_with_the_first_arrival_after_the_healing_and_has_recovered_with_the_last() -> None:
    rows = [delivery(1), delivery(2), delivery(3, accepted_at=111.0), delivery(4)]
    receipts = [receipt(4, 105.0), receipt(3, 110.5), receipt(1, 113.0), receipt(2, 118.0)]
    account = account_of(rows, receipts, "a1", "a2", "a3", "a4")

    # What was accepted after the healing says nothing about it, nor what arrived in mid-fault
    assert (account.flow_seconds, account.recovery_seconds, account.recovered) == (3.0, 8.0, 2)


@pytest.mark.parametrize(
    ("rows", "receipts", "promised"),
    [
        pytest.param(
            [delivery(1)], [receipt(1, 99.0)], ("a1", "a2"), id="acknowledged, and not in the database"
        ),
        pytest.param([delivery(1)], [], ("a1",), id="called delivered, and never seen"),
        pytest.param([delivery(1, "PENDING")], [], ("a1",), id="not ended"),
        pytest.param([delivery(1, "PENDING")], [receipt(1, 99.0)], ("a1",), id="arrived, and not ended"),
        pytest.param([delivery(1, "FAILED", "exhausted")], [], ("a1",), id="given up"),
        pytest.param([delivery(1, "EXPIRED", "too_late")], [], ("a1",), id="too late"),
        pytest.param([], [receipt(1, 99.0)], (), id="arrived from nowhere"),
    ],
)
def test_each_way_to_lose_is_found(
    rows: list[Row], receipts: list[Receipt], promised: tuple[str, ...]
) -> None:
    account = account_of([*rows, delivery(9)], [*receipts, receipt(9, 99.0)], *promised)

    assert account.lost == 1
    assert "1 lost" in account.faults()[0]


def test_a_superseded_delivery_is_not_lost() -> None:
    rows = [delivery(1, "SUPERSEDED", "later_event"), delivery(2)]

    assert account_of(rows, [receipt(2, 99.0)], "a1", "a2").faults() == []


def test_each_device_of_a_job_is_a_delivery_of_its_own() -> None:
    rows = [Row(1, 7, "DELIVERED", None, 1, 99.0, "phone"), Row(2, 7, "DELIVERED", None, 1, 99.0, "tablet")]
    both = [replace(receipt(7, 99.5), device="phone"), replace(receipt(7, 99.6), device="tablet")]

    assert account_of(rows, both, "a7").faults() == []
    # Twice to one device does not stand for the other
    twice = account_of(rows, [both[0], replace(both[0], at=101.0)], "a7")
    assert (twice.lost, twice.duplicates) == (1, 1)


def test_the_far_side_s_log_is_read_by_tenant(tmp_path: Path) -> None:
    def hook(tenant: str, status: int | None) -> dict[str, Any]:
        data = {"tenant_id": tenant, "job_id": 3, "alert_id": "a3", "event_type": "OPEN"}
        return {"receiver": "webhook", "target": "lane", "content": {"data": data}, "status": status}

    def push(tenant: str, status: int | None) -> dict[str, Any]:
        data = {"job_id": "4", "alert_id": "a4", "event": "OPEN"}
        content = {"message": {"data": data}}
        return {"receiver": "fcm", "target": token(tenant, "phone"), "content": content, "status": status}

    lines = [
        each(tenant, status) for each in (hook, push) for tenant in ("t", "t2") for status in (200, 503, None)
    ]
    record = tmp_path / "received.jsonl"
    record.write_text("".join(json.dumps({"at": 1.0, "id": "i", **line}) + "\n" for line in lines))

    taken, refused = read_receipts(record, "t")

    assert refused == 4
    assert [(each.job_id, each.device, each.event) for each in taken] == [
        (3, "", "OPEN"),
        (4, "t:phone", "OPEN"),
    ]


def test_repeats_are_counted_by_what_excuses_them() -> None:
    rows = [delivery(1), delivery(2), delivery(3)]
    receipts = [
        *(receipt(1, 101.0), receipt(1, 115.0)),  # in flight at the fault, same id
        *(receipt(2, 101.0), receipt(2, 115.0, id_="another")),
        *(receipt(3, 50.0), receipt(3, 60.0)),  # long before it
    ]
    account = account_of(rows, receipts, "a1", "a2", "a3")

    assert (account.duplicates, account.in_flight, account.same_id) == (3, 2, 2)
    assert [text.split(":")[0] for text in account.faults()] == [
        "1 duplicates were not in flight",
        "1 duplicates carry another id",
    ]


def test_open_after_closed_on_one_channel_is_found_and_elsewhere_is_none() -> None:
    rows = [delivery(1), delivery(2), delivery(3)]
    elsewhere = replace(receipt(3, 104.0, alert="x"), hook="another")
    receipts = [receipt(1, 101.0, "CLOSED", alert="x"), receipt(2, 102.0, "OPEN", alert="x"), elsewhere]

    assert account_of(rows, receipts).disordered == 1
    assert account_of(rows, [receipts[1], receipts[0], elsewhere]).disordered == 0


def test_a_broken_equation_and_an_empty_cycle_are_faults() -> None:
    assert Account(accepted=1, delivered=1, samples=5, broken_samples=1).faults()
    assert Account().faults()


@given(
    jobs=st.lists(st.integers(1, 50), unique=True, min_size=1),
    gone=st.sets(st.integers(1, 50)),
    repeats=st.integers(0, 3),
)
def test_every_missing_arrival_is_a_loss_and_every_further_one_a_repeat(
    jobs: list[int], gone: set[int], repeats: int
) -> None:
    there = [job for job in jobs if job not in gone]
    receipts = [receipt(job, 100.0 + number) for job in there for number in range(1 + repeats)]
    account = account_of([delivery(job) for job in jobs], receipts, *(f"a{job}" for job in jobs))

    assert account.lost == len(jobs) - len(there)
    assert account.duplicates == account.in_flight == account.same_id == repeats * len(there)


def test_the_page_says_what_went_wrong_and_what_the_number_of_strikes_supports() -> None:
    good = Account(
        accepted=1500, delivered=1500, samples=10, flow_seconds=0.4, recovery_seconds=2.5
    ).document()
    lines = [{"fault": "worker-killed", "hold": 8.0, **good, "problems": []}] * 10

    page = render(lines)

    assert "| 10 | 8 | 15,000 | 0 |" in page
    assert "fewer than 30.00% of such strikes" in page
    assert "went wrong" not in page
    # A line right below a table would be a row of it
    assert "|\n\nNo delivery of 15,000 was lost" in page
    assert row("title", lines)[8:10] == ("0.4, 0.4", "2.5, 2.5")
    quiet = {**lines[0], "flow_seconds": None}
    assert row("title", [quiet])[8:10] == ("nothing waited", "2.5, 2.5")
    assert row("title", [quiet, *lines])[8] == "0.4, 0.4"
    assert "Strikes by revision: a1 10, b2 1." in render(
        [*({**line, "revision": "a1"} for line in lines), {**quiet, "revision": "b2"}]
    )
    broken = {
        "fault": "zombie",
        "hold": 8.0,
        **good,
        "lost": 2,
        "revision": "a1",
        "problems": ["2 lost: here"],
    }
    assert "zombie (of revision a1): 2 lost: here" in render([*lines, broken])
    assert "2 of 16,500 deliveries were lost" in render([*lines, broken])
    assert "worker-killed (of revision unknown): it did not end" in render(
        [*lines, {"fault": "worker-killed", "error": "it did not end\nlog"}]
    )
