"""The whole chain in this process: a real database, the in-process broker, the far side; and the equation after it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import pytest
from cryptography.fernet import Fernet
from dramatiq import Worker
from dramatiq.worker import _WorkerMiddleware

import actors
from actors.broker import runtime
from config import load_settings
from model import channels, ledger, rulebook
from model.database import connection, database, open_database
from model.jobs import with_alert
from model.migrate import migrate
from model.states import DeliveryState
from model.tables import Alert, Channel, Delivery, Device, Job, LogEntry, PreferenceRow, RoutingRule, Tenant
from receivers import FarSide

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from config import Settings

TENANT = "acme"
KEY = Fernet.generate_key().decode()


@pytest.fixture(scope="session")
def far_side() -> Iterator[FarSide]:
    with FarSide() as far:
        yield far


@pytest.fixture
def far(far_side: FarSide) -> FarSide:
    far_side.normal()
    far_side.clear()
    return far_side


@dataclass
class Chain:
    """The chain under test. Rows are made directly, so that its tests lean on nothing above it."""

    far: FarSide
    settings: Settings
    worker: Worker | None = None

    def start(self) -> None:
        self.worker = Worker(actors.broker, worker_threads=4, worker_timeout=20)
        self.worker.start()

    def stop(self) -> None:
        if self.worker is not None:
            self.worker.stop()
            self.worker = None
        # A worker leaves its hook behind, since nobody starts a second one in a process.
        actors.broker.middleware[:] = [
            each for each in actors.broker.middleware if not isinstance(each, _WorkerMiddleware)
        ]
        actors.broker.flush_all()

    def channel(self, name: str, channel_type: str = "webhook", /, **config: Any) -> Channel:
        if channel_type == "webhook" and not config:
            config = {"url": self.far.webhook.url(name), "secret": self.far.webhook.secret}
        with connection():
            return Channel.create(tenant=TENANT, name=name, channel_type=channel_type, config=config)

    def rule(self, channel: Channel, **fields: Any) -> RoutingRule:
        with connection():
            fields = {
                "name": f"rule-{RoutingRule.select().count()}",
                "tenant": TENANT,
                "channel": channel,
                **fields,
            }
            return RoutingRule.create(**fields)

    def device(self, user_id: str, platform: str = "ios", **fields: Any) -> Device:
        name = fields.setdefault("name", f"{user_id}-{platform}")
        if platform == "web":
            fields.setdefault("subscription", self.far.webpush.subscribe(name))
        elif platform == "ios":
            fields.setdefault("token", self.far.apns.device_token(name))
        else:
            fields.setdefault("token", self.far.fcm.registration_token(name))
        with connection():
            return Device.create(
                tenant=TENANT, user_id=user_id, platform=platform, address_hash=f"hash-{name}", **fields
            )

    def preferences(self, user_id: str, **preferences: Any) -> None:
        with connection():
            PreferenceRow.create(tenant=TENANT, user_id=user_id, preferences=preferences)

    def send(self, *alerts: Mapping[str, Any]) -> actors.Accepted:
        return actors.dispatch_alerts(alerts, tenant_id=TENANT)

    def until(self, condition: Callable[[], bool], *, within: float = 15) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, self.lines()
            time.sleep(0.01)

    def settled(self) -> list[tuple[Any, ...]]:
        """Wait until nothing moves any more but what waits for the morning, then `lines()`."""

        def done() -> bool:
            moving = [DeliveryState.PENDING, DeliveryState.SENDING, DeliveryState.RETRYING]
            with connection():
                return not (
                    Alert.select().where(Alert.matched_at.is_null()).exists()
                    or Job.select().where(Job.state == "PENDING").exists()
                    or Delivery.select().where(Delivery.state.in_(moving)).exists()
                )

        self.until(done)
        return self.lines()

    def lines(self) -> list[tuple[Any, ...]]:
        """(alert id, event, channel, state, reason, attempts) of each delivery, in order."""
        query: Any = (
            Delivery.select(
                Job.alert_id,
                Job.deliver_on_event,
                Job.channel_name,
                Delivery.state,
                Delivery.reason,
                Delivery.attempts,
            )
            .join(Job, on=Delivery.job_id == Job.id)
            .order_by(Delivery.id)
            .tuples()
        )
        with connection():
            return list(query)

    def jobs(self) -> list[Job]:
        with connection():
            return list(with_alert().order_by(Job.id))

    def log(self) -> list[LogEntry]:
        with connection():
            return list(LogEntry.select().order_by(LogEntry.id))

    def totals(self) -> dict[str, int]:
        with connection():
            return ledger.conservation(TENANT)


@pytest.fixture
def chain(database_url: str, far: FarSide, request: pytest.FixtureRequest) -> Iterator[Chain]:
    """The chain on each kind of database; `@pytest.mark.parametrize("chain_settings", [...])` overrides settings."""
    overrides = getattr(request, "param", None) or {}
    environment = {name.removeprefix("TOCSIN_").lower(): value for name, value in far.environment().items()}
    settings = load_settings(
        database_url=database_url,
        secret_keys=KEY,
        **{"retry_min_backoff": 0.05, "sweep_interval": 0.2, "sweep_grace": 30.0, **environment, **overrides},
    )
    before = runtime.settings
    runtime.settings = settings
    opened: Any = open_database(settings)
    rulebook.forget()
    channels.forget()
    migrate()
    with connection():
        Tenant.create(tenant_id=TENANT)
    chain = Chain(far, settings)
    chain.start()
    yield chain
    chain.stop()
    # Whatever the test was about, the promise holds.
    chain.totals()
    if not database.is_closed():
        database.close()
    opened.close_all()
    runtime.settings = before
