"""The account of a cycle: the producer's book and the far side's log against the database.

Nothing here trusts Tocsin's own word for an arrival: what arrived is what the far side wrote down.
"""

from __future__ import annotations

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from peewee import JOIN

from model.database import connection, tuples
from model.states import DeliveryState, Reason
from model.tables import Alert, Delivery, Device, Job

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

#: The hook of the alerts that come in pairs.
ORDERED = "ordered"


@dataclass(frozen=True, slots=True)
class Receipt:
    """One request that the far side took.

    Attributes:
        at: Unix time.
        id: the webhook-id, or a push message's tag.
        device: the token of the device that it went to; "" for a webhook.
    """

    at: float
    id: str
    job_id: int
    hook: str
    alert_id: str
    event: str
    device: str = ""


@dataclass(frozen=True, slots=True)
class Times:
    """When things happened, in Unix time.

    Attributes:
        began: just before the fault.
        healed: what was broken is back; after a kill: the last lease of the killed has ended.
        window: what was in flight at the fault was first sent between `began` - window and `healed` + window.
    """

    began: float
    healed: float
    window: float


@dataclass(slots=True)
class Account:
    """What became of everything that was accepted in one cycle.

    Attributes:
        alerts: accepted alert events, by the database.
        accepted: deliveries that they cause.
        delivered: deliveries whose notification the far side has, at least once.
        superseded: deliveries that a later event made pointless; the far side may have one of them nevertheless.
        lost: promised and not there: an acknowledged alert that the database does not have, a delivery that has not
            ended or ended without arriving, or that is DELIVERED and unknown to the far side.
        attempts: attempts by the database; refused: requests that the far side refused, by its own log.
        duplicates: requests beyond the first that the far side took for one delivery.
        in_flight: those of them whose delivery was in flight at the fault.
        same_id: those of them that carry the id of the first.
        disordered: alerts of which OPEN arrived after CLOSED on one channel.
        recovered: deliveries accepted before the healing that arrived after it.
        flow_seconds: from the healing to the first arrival after it; None if nothing was left to arrive.
        recovery_seconds: from the healing to the last arrival of what was accepted before it.
        samples, broken_samples: snapshots in which the conservation equation was looked at, and did not hold.
        restarts: of worker groups by their supervisors.
        slowest_call: seconds that the slowest call of the producer's took, repeats included.
    """

    alerts: int = 0
    accepted: int = 0
    delivered: int = 0
    superseded: int = 0
    lost: int = 0
    attempts: int = 0
    refused: int = 0
    duplicates: int = 0
    in_flight: int = 0
    same_id: int = 0
    disordered: int = 0
    recovered: int = 0
    flow_seconds: float | None = None
    recovery_seconds: float | None = None
    samples: int = 0
    broken_samples: int = 0
    restarts: int = 0
    slowest_call: float = 0.0
    notes: str = ""

    def faults(self) -> list[str]:
        """What of the promise was not kept; empty if all was."""
        found = []
        if not self.accepted or not self.delivered:
            found.append("nothing was delivered: the cycle shows nothing")
        if self.lost:
            found.append(f"{self.lost} lost: {self.notes}")
        if self.in_flight != self.duplicates:
            found.append(f"{self.duplicates - self.in_flight} duplicates were not in flight: {self.notes}")
        if self.same_id != self.duplicates:
            found.append(f"{self.duplicates - self.same_id} duplicates carry another id: {self.notes}")
        if self.disordered:
            found.append(f"{self.disordered} times OPEN after CLOSED: {self.notes}")
        if self.broken_samples:
            found.append(f"the equation did not hold in {self.broken_samples} of {self.samples} snapshots")
        return found

    def document(self) -> dict[str, Any]:
        """As a line of the results."""
        return asdict(self)


def read_receipts(record: Path, tenant: str) -> tuple[list[Receipt], int]:
    """The requests for a tenant that the far side took, in their order, and how many it refused."""
    taken, refused = [], 0
    with record.open("rb") as lines:
        for line in lines:
            each = json.loads(line)
            is_push = each["receiver"] == "fcm"
            content = each["content"] or {}
            data = content.get("message", {}).get("data", {}) if is_push else content.get("data", {})
            if (
                not each["target"].startswith(token(tenant, ""))
                if is_push
                else data.get("tenant_id") != tenant
            ):
                continue
            if each["status"] is None or each["status"] >= 300:
                refused += 1
                continue
            taken.append(
                Receipt(
                    each["at"], each["id"], int(data["job_id"]), each["target"], str(data["alert_id"]),
                    data["event"] if is_push else data["event_type"], each["target"] if is_push else "",
                )
            )  # fmt: skip
    return taken, refused


def token(tenant: str, phone: str) -> str:
    """The push address of one of a tenant's phones: by it the far side's log tells whose it is."""
    return f"{tenant}:{phone}"


def read_book(book: Path) -> list[dict[str, Any]]:
    """What the producer was told, a line a call."""
    return [json.loads(line) for line in book.read_text().splitlines()] if book.exists() else []


@dataclass(frozen=True, slots=True)
class Row:
    """A delivery as the database has it."""

    id: int
    job_id: int
    state: str
    reason: str | None
    attempts: int
    accepted_at: float
    device: str = ""


def read_rows(tenant: str) -> tuple[list[Row], set[tuple[str, str]]]:
    """The deliveries of a tenant, and its alert events."""
    with connection():
        query = (
            Delivery.select(
                Delivery.id,
                Delivery.job_id,
                Delivery.state,
                Delivery.reason,
                Delivery.attempts,
                Job.accepted_at,
                Device.token,
            )
            .join(Job, on=Delivery.job_id == Job.id)
            .join(Device, JOIN.LEFT_OUTER, on=Delivery.device_id == Device.id)
            .where(Delivery.tenant_id == tenant)
        )
        rows = [
            Row(number, job, state, reason, attempts, moment.timestamp(), device or "")
            for number, job, state, reason, attempts, moment, device in tuples(query)
        ]
        alerts = {
            (row[0], row[1])
            for row in tuples(Alert.select(Alert.alert_id, Alert.event_type).where(Alert.tenant == tenant))
        }
    return rows, alerts


def settle_accounts(
    rows: Sequence[Row],
    alerts: set[tuple[str, str]],
    book: Sequence[dict[str, Any]],
    receipts: Sequence[Receipt],
    times: Times,
) -> Account:
    """Compare the three. Pure.

    Args:
        rows: the deliveries; alerts: (alert id, event) of what the database accepted.
        book: the producer's.
        receipts: what the far side took, in its order.
    """
    by_target: dict[tuple[int, str], list[Receipt]] = defaultdict(list)
    for receipt in receipts:
        by_target[receipt.job_id, receipt.device].append(receipt)
    promised = {(str(alert), event) for line in book for alert, event in line["ids"]}
    account = Account(alerts=len(alerts), accepted=len(rows), attempts=sum(row.attempts for row in rows))
    notes: list[str] = []

    account.slowest_call = round(max((line["at"] - line["asked"] for line in book), default=0.0), 2)
    missing = promised - alerts
    account.lost += len(missing)
    notes += [
        f"alert {alert} {event} was acknowledged and is not there" for alert, event in sorted(missing)[:3]
    ]
    last = first = None
    for row in rows:
        got = by_target.pop((row.job_id, row.device), [])
        if got:
            account.delivered += 1
        if row.state == DeliveryState.SUPERSEDED and row.reason == Reason.LATER_EVENT:
            account.superseded += 1
        elif row.state != DeliveryState.DELIVERED or not got:
            account.lost += 1
            notes.append(
                f"delivery {row.id}: {row.state} {row.reason or ''} after {row.attempts}, arrived {len(got)}x"
            )
        _count_repeats(account, got, times, notes)
        late = [each.at for each in got if each.at > times.healed]
        if late and row.accepted_at < times.healed:
            account.recovered += 1
            first = late[0] if first is None else min(first, late[0])
            last = late[-1] if last is None else max(last, late[-1])
    if by_target:
        account.lost += len(by_target)
        notes.append(f"{len(by_target)} deliveries arrived that the database does not have")
    if last is not None and first is not None:
        account.flow_seconds = round(first - times.healed, 2)
        account.recovery_seconds = round(last - times.healed, 2)
    account.disordered = len(_disordered(receipts))
    notes += _disordered(receipts)[:3]
    account.notes = "; ".join(notes[:6])
    return account


def _count_repeats(account: Account, got: Sequence[Receipt], times: Times, notes: list[str]) -> None:
    for again in got[1:]:
        account.duplicates += 1
        if times.began - times.window <= got[0].at <= times.healed + times.window:
            account.in_flight += 1
        else:
            notes.append(
                f"job {again.job_id} arrived {got[0].at - times.began:+.1f} s and again "
                f"{again.at - times.began:+.1f} s from the fault (healed {times.healed - times.began:+.1f})"
            )
        account.same_id += again.id == got[0].id


def _disordered(receipts: Iterable[Receipt]) -> list[str]:
    closed: set[tuple[str, str]] = set()
    found = []
    for receipt in receipts:
        key = (receipt.hook, receipt.alert_id)
        if receipt.event == "CLOSED":
            closed.add(key)
        elif receipt.event == "OPEN" and key in closed:
            found.append(f"{receipt.hook} {receipt.alert_id}: OPEN after CLOSED at {receipt.at:.2f}")
    return found
