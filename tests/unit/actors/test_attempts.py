"""Attempts side by side: what each comes to, and who keeps its time."""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar

import pytest

from actors import attempts
from actors.decide import LaneFullError
from actors.lanes import Lanes
from config.settings import load_settings
from model.channels import ChannelRef
from model.ledger import Claim
from senders.base import Sender
from senders.outcomes import Receipt, Transient
from senders.webhook import WebhookConfig
from tests.unit.senders.mail_support import AIOSMTPD_WARNINGS
from tests.unit.senders.mail_support import sender as mail_sender
from tests.unit.senders.servers_support import mail_server

if TYPE_CHECKING:
    from actors.decide import Attempt
    from senders.base import Notification

# A second for a send, half of one more for its end, another half until the lease.
pytestmark = pytest.mark.alone("attempts of a second, and what has to happen before the next half")

PACE = {"send_deadline": 1, "time_limit": 1.5, "lease": 2}


class FakeRuntime:
    """What `make` asks a runtime for: settings, lanes and the one sender that there is."""

    def __init__(self, sender: Sender[Any], settings: Any) -> None:
        self.settings = settings
        self.lanes = Lanes()
        self._sender = sender

    def sender(self, _: str) -> Sender[Any]:
        """The sender."""
        return self._sender


def claim_of(number: int, sender: str, *, is_critical: bool = False) -> Claim:
    now = datetime.now(UTC)
    return Claim(
        delivery_id=number, job_id=number, tenant_id="acme", channel_id=1, device_id=0, user_id=None,
        sender=sender, attempts=1, lease_until=now + timedelta(minutes=1), expires_at=now + timedelta(hours=1),
        alert_id=f"a-{number}", event="OPEN",
        payload={"alert_id": f"a-{number}", "message": "Smoke"}, severity=2, is_critical=is_critical,
        accepted_at=now, claimed_at=now, later=False, earlier_under_way=False, platform=None, token=None,
        subscription=None, device_disabled=False,
    )  # fmt: skip


def channel_of(channel_type: str, config: dict[str, Any]) -> dict[int, ChannelRef]:
    return {1: ChannelRef(1, "acme", channel_type, True, "ok", datetime.now(UTC), config)}


class SomeHang(Sender[WebhookConfig]):
    """Keeps no deadline: odd numbers hang, job 4 fails in a way of its own."""

    name: ClassVar[str] = "webhook"
    Config: ClassVar[type[WebhookConfig]] = WebhookConfig

    async def send(self, notification: Notification[WebhookConfig]) -> Receipt:
        """Answer, hang or fail."""
        if notification.job_id % 2:
            await asyncio.Event().wait()
        if notification.job_id == 4:
            raise ZeroDivisionError
        return Receipt("200 OK")


@pytest.mark.parametrize("is_critical", [False, True])
async def test_a_sender_that_hangs_ends_with_its_lease_and_costs_nobody_else_anything(
    is_critical: bool,  # noqa: FBT001  # a parameter of the test
) -> None:
    runtime: Any = FakeRuntime(SomeHang(load_settings(), None), load_settings(**PACE))  # type: ignore[arg-type]  # sends no HTTP
    # Given claims that are as old as those that may still be sent
    claimed_at = datetime.now(UTC) - timedelta(seconds=0.6)
    claims = [
        replace(claim_of(number, "webhook", is_critical=is_critical), claimed_at=claimed_at)
        for number in range(6)
    ]
    made: list[Attempt] = []

    began = time.monotonic()
    await attempts.make(runtime, claims, channel_of("webhook", {"url": "https://example.org/"}), made)

    assert time.monotonic() - began < PACE["lease"] - 0.5
    assert {each.claim.job_id: type(each.result) for each in made} == {
        0: Receipt, 1: Transient, 2: Receipt, 3: Transient, 4: ZeroDivisionError, 5: Transient
    }  # fmt: skip


class HasNoRoom(SomeHang):
    """Begins no attempt."""

    async def send(self, _: Notification[WebhookConfig]) -> Receipt:
        """Have no connection free."""
        raise Transient("no connection free", is_attempt=False)


@pytest.mark.parametrize("is_critical", [False, True])
async def test_a_sender_without_room_has_made_no_attempt(is_critical: bool) -> None:  # noqa: FBT001  # as above
    runtime: Any = FakeRuntime(HasNoRoom(load_settings(), None), load_settings(**PACE))  # type: ignore[arg-type]  # sends no HTTP
    made: list[Attempt] = []
    claims = [claim_of(1, "webhook", is_critical=is_critical)]

    await attempts.make(runtime, claims, channel_of("webhook", {"url": "https://example.org/"}), made)

    assert [type(each.result) for each in made] == [LaneFullError]


class SharesWhatIsGivenUp(SomeHang):
    """Job 1 waits for what another has given up; the others are as above."""

    async def send(self, notification: Notification[WebhookConfig]) -> Receipt:
        """Be cancelled by somebody else, or as above."""
        if notification.job_id == 1:
            shared = asyncio.create_task(asyncio.sleep(60))
            asyncio.get_running_loop().call_soon(shared.cancel)
            await asyncio.shield(shared)
        return await super().send(notification)


async def test_a_send_that_somebody_elses_cancellation_ends_is_tried_again() -> None:
    runtime: Any = FakeRuntime(SharesWhatIsGivenUp(load_settings(), None), load_settings(**PACE))  # type: ignore[arg-type]  # sends no HTTP
    made: list[Attempt] = []

    await attempts.make(
        runtime,
        [claim_of(1, "webhook"), claim_of(2, "webhook")],
        channel_of("webhook", {"url": "https://example.org/"}),
        made,
    )

    assert {each.claim.job_id: type(each.result) for each in made} == {1: Transient, 2: Receipt}


async def test_a_send_that_is_cancelled_itself_has_no_outcome() -> None:
    runtime: Any = FakeRuntime(SomeHang(load_settings(), None), load_settings(**PACE))  # type: ignore[arg-type]  # sends no HTTP
    made: list[Attempt] = []
    channels = channel_of("webhook", {"url": "https://example.org/"})
    making = asyncio.create_task(attempts.make(runtime, [claim_of(1, "webhook")], channels, made))
    await asyncio.sleep(0.05)
    making.cancel()
    with pytest.raises(asyncio.CancelledError):
        await making
    assert not made


@AIOSMTPD_WARNINGS[0]
@AIOSMTPD_WARNINGS[1]
async def test_a_sender_says_itself_what_its_deadline_has_left() -> None:
    # Given a mail server that takes one recipient a transaction, and does not answer the second one
    async with mail_server(busy_after=1) as mailbox:
        take = mailbox.handle_DATA

        async def take_one(server: Any, session: Any, envelope: Any) -> str:
            if mailbox.mails:
                await asyncio.Event().wait()
            return await take(server, session, envelope)

        mailbox.handle_DATA = take_one  # type: ignore[method-assign]  # in place of another kind of mailbox
        runtime: Any = FakeRuntime(mail_sender(**PACE), load_settings(**PACE))
        config = {
            "to": ["ann@example.org", "ben@example.org"],
            "smtp_url": f"smtp://localhost:{mailbox.port}",
        }
        made: list[Attempt] = []

        await attempts.make(runtime, [claim_of(1, "email")], channel_of("email", config), made)

    # Then who has the mail counts, and nobody is mailed twice for it
    (attempt,) = made
    assert isinstance(attempt.result, Receipt), attempt.result
    assert "not delivered to ben@example.org" in (attempt.result.detail or "")


async def test_a_place_that_never_comes_free_is_not_an_attempt() -> None:
    settings = load_settings(**PACE)
    runtime: Any = FakeRuntime(SomeHang(settings, None), settings)  # type: ignore[arg-type]  # sends no HTTP
    # Given so many that hang that no place of the lane is left
    hanging = [claim_of(2 * number + 1, "webhook") for number in range(30)]
    made: list[Attempt] = []
    channels = channel_of("webhook", {"url": "https://example.org/"})
    stuck = asyncio.create_task(attempts.make(runtime, hanging, channels, []))
    await asyncio.sleep(0.05)

    await attempts.make(runtime, [claim_of(2, "webhook")], channels, made)

    assert [type(each.result) for each in made] == [LaneFullError]
    assert not isinstance(made[0].result, Transient)
    await stuck


def test_a_notification_s_id_is_a_uuid_of_version_5() -> None:
    accepted = datetime(2026, 11, 3, 20, 26, 10, 344000, tzinfo=UTC)
    same = uuid.uuid5(attempts.NOTIFICATIONS, f"7/{accepted.isoformat()}/42")
    assert attempts.notification_id(7, accepted, 42) == same
