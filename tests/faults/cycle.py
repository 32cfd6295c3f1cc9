"""One cycle: a tenant of its own, a load, a fault in the middle of it, healing, and the account."""

from __future__ import annotations

import hashlib
import secrets
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Protocol, Self

from model import ledger
from model.database import DATABASE_AWAY, connection, tuples, utcnow
from model.states import IN_PROGRESS, JobState
from model.tables import Alert, Channel, Delivery, Device, Job, RoutingRule, Tenant
from tests.faults.account import (
    ORDERED,
    Account,
    Times,
    read_book,
    read_receipts,
    read_rows,
    settle_accounts,
    token,
)
from tests.faults.producer import DIED
from tests.faults.stack import DEADLINE, LEASE
from tests.servers.programs import wait_until

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.faults.stack import Stack

#: Channels that each take a third of the alerts, and the alert types that go to each.
LANES = {"lane-0": "a", "lane-1": "a", "lane-2": "b", "lane-3": "b", "lane-4": "c", "lane-5": "c"}
#: Every alert goes to this channel as well, so that an alert makes three deliveries.
COMMON = "lane-6"
#: Alerts of this type go to the phones of one user besides.
PUSHED = "c"
PHONES = ("phone", "tablet")


@dataclass(frozen=True, slots=True)
class Size:
    """How big a cycle is.

    Attributes:
        alerts: each makes three deliveries.
        pairs: OPEN and CLOSED of one alert on one channel; half of the first attempts are refused.
        seconds: how long the producer takes.
        hold: how long a fault of some length lasts.
    """

    alerts: int
    pairs: int
    seconds: float
    hold: float


@dataclass(slots=True)
class Cycle:
    """What a fault works with.

    Attributes:
        times: marks, in Unix time, which the fault may set where the defaults do not fit.
    """

    stack: Stack
    size: Size
    tenant: str
    producer: subprocess.Popen[bytes]
    extra: dict[str, Any] = field(default_factory=dict)

    def hold(self) -> None:
        """Let the fault last."""
        time.sleep(self.size.hold)


@dataclass(frozen=True, slots=True)
class Fault:
    """What is done to the stack.

    Attributes:
        name: for the command line and the table.
        title: what a reader of the table should know.
        strike: breaks it; returns once it is broken.
        heal: mends it.
        before: called before the load starts, such as to slow the far side down.
        lease: what was claimed waits for its lease to end: the healing counts from then.
        cuttable: needs links that can be cut.
        settings: of the workers.
        group_environment: of one group alone.
        producer: more arguments of the producer.
        pushes: whether a third of the alerts go to phones as well.
        hold: how many seconds a fault of some length lasts, unless the runner is told otherwise.
        possible: whether this machine can make it.
    """

    name: str
    title: str
    strike: Callable[[Cycle], None]
    heal: Callable[[Cycle], None] = lambda _cycle: None
    before: Callable[[Stack], None] = lambda _stack: None
    lease: bool = False
    cuttable: bool = False
    settings: dict[str, str] = field(default_factory=dict)
    group_environment: Callable[[Path], dict[int, dict[str, str]]] = lambda _directory: {}
    producer: tuple[str, ...] = ()
    pushes: bool = True
    hold: float = 8.0
    possible: Callable[[], bool] = lambda: True


class HasHooks(Protocol):
    """What channels need to know of a stack."""

    def hook_url(self, name: str) -> str:
        """The address of one webhook of the far side."""


class Sampler:
    """Looks at the conservation equation all the time, in a thread. A context manager."""

    def __init__(self, tenant: str) -> None:
        self._tenant = tenant
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples = 0
        self.broken: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        self._thread.join(20)

    def _run(self) -> None:
        while not self._stopping.wait(0.25):
            try:
                with connection():
                    ledger.conservation(self._tenant)
                self.samples += 1
            except DATABASE_AWAY:
                continue
            except AssertionError as error:
                self.samples += 1
                self.broken.append(str(error))


def configure(stack: HasHooks, tenant: str, *, pushes: bool = True) -> None:
    """The tenant's channels and rules, and its user's phones."""
    with connection():
        Tenant.create(tenant_id=tenant)
        if pushes:
            _configure_phones(tenant)
        for name in (*LANES, COMMON, ORDERED):
            channel = Channel.create(
                tenant=tenant,
                name=name,
                channel_type="webhook",
                config={"url": stack.hook_url(f"{tenant}-{name}")},
            )
            alert_type = LANES.get(name) or ("paired" if name == ORDERED else None)
            for each in [alert_type] if alert_type else sorted(set(LANES.values())):
                RoutingRule.create(
                    tenant=tenant, channel=channel, name=f"{name}-{each}", alert_type=each,
                    deliver_on=["OPEN", "CLOSED"],
                )  # fmt: skip


def _configure_phones(tenant: str) -> None:
    config = {"user_ids": ["resident"]}
    channel = Channel.create(tenant=tenant, name="phones", channel_type="push", config=config)
    RoutingRule.create(tenant=tenant, channel=channel, name="phones", alert_type=PUSHED)
    for phone in PHONES:
        address = token(tenant, phone)
        Device.create(
            tenant=tenant, user_id="resident", platform="android", name=phone, token=address,
            address_hash=hashlib.sha256(address.encode()).hexdigest(),
        )  # fmt: skip


def run(stack: Stack, fault: Fault, size: Size, number: int, *, patience: float = 120) -> Account:
    """One cycle, from an idle stack to an idle stack.

    Raises:
        TimeoutError: after `patience` seconds work is still in progress; the text shows the workers' logs.
    """
    tenant = f"{fault.name}-{number}-{secrets.token_hex(2)}"
    # The push service's address is in its credentials, and not behind a link that can be cut.
    configure(stack, tenant, pushes=fault.pushes and not fault.cuttable)
    fault.before(stack)
    if size.pairs:
        answers = [{"status": 503}, {}] * size.pairs
        stack.far.order("script", target=f"{tenant}-{ORDERED}", answers=answers)
    restarts = sum(group.restarts for group in stack.workers)
    book = stack.directory / f"{tenant}.book"

    def produce(*more: str) -> subprocess.Popen[bytes]:
        command = [
            *(sys.executable, "-m", "tests.faults.producer", "--tenant", tenant, "--book", str(book)),
            *(
                "--alerts",
                str(size.alerts),
                "--pairs",
                str(size.pairs),
                "--seconds",
                str(size.seconds),
                *more,
            ),
        ]
        with (stack.directory / "producer.log").open("ab") as log:
            return subprocess.Popen(command, env=stack.environment, stdout=log, stderr=log)

    offset = stack.far.record.stat().st_size
    cycle = Cycle(stack, size, tenant, produce(*fault.producer))
    with Sampler(tenant) as sampler:
        # When a third of the load is on its way, the fault strikes
        _wait_for_arrivals(stack, offset, size.alerts, cycle.producer)
        began = time.time()
        fault.strike(cycle)
        fault.heal(cycle)
        healed = max(time.time(), began + LEASE) if fault.lease else time.time()
        status = cycle.producer.wait(patience)
        if status == DIED:
            # As its supervisor would: it is started again, and repeats the call that had no answer.
            calls = len(read_book(book))
            healed = time.time()
            status = produce("--resume-at", str(calls)).wait(patience)
        assert status == 0, (stack.directory / "producer.log").read_text()[-3000:]
        _wait_until_idle(stack, tenant, patience)
    stack.far.order("normal")
    receipts, refused = read_receipts(stack.far.record, tenant)
    rows, alerts = read_rows(tenant)
    account = settle_accounts(rows, alerts, read_book(book), receipts, Times(began, healed, DEADLINE + 1))
    account.refused = refused
    account.samples, account.broken_samples = sampler.samples, len(sampler.broken)
    account.restarts = sum(group.restarts for group in stack.workers) - restarts
    return account


def _wait_for_arrivals(stack: Stack, offset: int, number: int, producer: subprocess.Popen[bytes]) -> None:
    """Until the far side has written so many lines beyond an offset of its log, or the producer has ended."""

    def arrived() -> bool:
        if producer.poll() is not None:
            return True
        with stack.far.record.open("rb") as record:
            record.seek(offset)
            return record.read().count(b"\n") >= number

    wait_until(arrived, 60, "the load to arrive", describe=stack.logs)


def _in_progress(tenant: str) -> Iterator[tuple[str, int]]:
    with connection():
        yield "alerts", Alert.select().where((Alert.tenant == tenant) & Alert.matched_at.is_null()).count()
        yield "jobs", Job.select().where((Job.tenant_id == tenant) & (Job.state == JobState.PENDING)).count()
        waiting = (Delivery.tenant_id == tenant) & Delivery.state.in_(list(IN_PROGRESS))
        yield "deliveries", Delivery.select().where(waiting).count()


def _wait_until_idle(stack: Stack, tenant: str, patience: float) -> None:
    deadline = time.monotonic() + patience
    left: dict[str, int] = {}
    while time.monotonic() < deadline:
        try:
            left = dict(_in_progress(tenant))
        except DATABASE_AWAY:
            time.sleep(0.2)
            continue
        if not any(left.values()):
            return
        time.sleep(0.1)
    with connection():
        waiting = list(
            tuples(
                Delivery.select(
                    Delivery.id, Delivery.state, Delivery.attempts, Delivery.lease_until, Delivery.next_attempt_at,
                    Delivery.sweep_at, Delivery.sweeps,
                )
                .where((Delivery.tenant_id == tenant) & Delivery.state.in_(list(IN_PROGRESS)))
                .limit(5)
            )
        )  # fmt: skip
    raise TimeoutError(
        f"still in progress after {patience:g} s: {left}, at {utcnow()}: {waiting}\n{stack.logs()}"
    )
