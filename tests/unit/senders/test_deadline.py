"""A process that stands still in the middle of a send, and wakes when the time is over."""

from __future__ import annotations

import asyncio
import functools
import inspect
import math
import time
from typing import TYPE_CHECKING, Any

import aiohttp
import pytest
from aiosmtplib.protocol import SMTPProtocol
from aiosmtplib.typing import SMTPStatus
from pydantic import SecretStr

from senders import apns_protocol, apprise, mqtt, snmp_engine
from senders.apns_pool import ApnsPool
from senders.apprise import AppriseConfig, AppriseSender
from senders.deadline import Deadline, check_deadline, current_deadline, now
from senders.mqtt import MqttSender
from senders.mqtt_config import MqttConfig
from senders.outcomes import Receipt, SendError, Transient
from senders.snmp import SnmpConfig, SnmpSender
from tests.unit.senders.apns_support import alert_push, pool_to, request_of
from tests.unit.senders.mail_support import AIOSMTPD_WARNINGS, mail
from tests.unit.senders.mail_support import sender as mail_sender
from tests.unit.senders.push_support import apns_sender, faulty_apns
from tests.unit.senders.servers_support import broker, mail_server, next_message, subscriber, trap_daemon
from tests.unit.senders.support import client, loopback_settings, notification, outcome, receiving

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from senders.base import Notification, Sender

DEADLINE = 1.0

#: For sends that must arrive: the first one of a library may take more than the deadline on a busy machine.
PATIENCE = 30.0


def standing_still_after(step: Callable[..., Any]) -> Callable[..., Any]:
    """The step; then, as under SIGSTOP, no timer of the loop runs until the deadline has passed."""
    if inspect.iscoroutinefunction(step):

        @functools.wraps(step)
        async def waited(*args: Any, **kwargs: Any) -> Any:
            result = await step(*args, **kwargs)
            time.sleep(DEADLINE + 0.05)  # noqa: ASYNC251  # to block the loop is what is meant
            return result

        return waited

    @functools.wraps(step)
    def called(*args: Any, **kwargs: Any) -> Any:
        result = step(*args, **kwargs)
        time.sleep(DEADLINE + 0.05)
        return result

    return called


async def patient_outcome(sender: Sender[Any], sent: Notification[Any]) -> Receipt | SendError:
    """What becomes of a send that has time."""
    hasty = sender.settings
    sender.settings = hasty.model_copy(update={"send_deadline": PATIENCE})
    try:
        return await outcome(sender, sent)
    finally:
        sender.settings = hasty


async def send_and_stand_still(
    sender: Sender[Any], sent: Notification[Any], patch: Callable[[], object]
) -> Transient:
    """One send that arrives, and one whose process stands still; what became of the second."""
    assert isinstance(await patient_outcome(sender, sent), Receipt)
    patch()
    result = await outcome(sender, sent)
    assert isinstance(result, Transient)
    await asyncio.sleep(0.1)  # whatever was on its way would arrive now
    return result


async def test_a_request_gets_no_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    async with receiving() as far, client(loopback_settings(send_deadline=DEADLINE)) as http:
        await http.post(far.url, content=b"1", headers={}, timeout=PATIENCE)
        still = standing_still_after(aiohttp.TCPConnector.connect)
        monkeypatch.setattr(aiohttp.TCPConnector, "connect", still)
        with pytest.raises(Transient, match="timeout"):
            await http.post(far.url, content=b"2", headers={})
        await asyncio.sleep(0.1)
        assert [request.body for request in far.requests] == [b"1"]


async def test_a_push_to_apns_is_not_completed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with faulty_apns(tmp_path) as apns, apns_sender(apns, send_deadline=DEADLINE) as sender:
        still = standing_still_after(ApnsPool.acquire)
        await send_and_stand_still(
            sender, alert_push(), lambda: monkeypatch.setattr(ApnsPool, "acquire", still)
        )
        assert len(apns.requests) == 1
        # And its place is free for the next one
        monkeypatch.undo()
        assert isinstance(await patient_outcome(sender, alert_push()), Receipt)


async def test_half_a_push_to_apns_stays_half(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async with faulty_apns(tmp_path, window=1000) as apns:
        # Given a body for which the far side has no window
        pool = pool_to(apns, max_connections=1)
        await pool.send_notification(request_of(10))
        apns.connections[0].is_reading = False

        async def send() -> None:
            async with Deadline(DEADLINE):
                await pool.send_notification(request_of(4096))

        stuck = asyncio.create_task(send())
        await asyncio.sleep(0.1)
        # When the window opens at waking, before the timer has run
        monkeypatch.setattr(apns_protocol, "now", lambda: now() + DEADLINE)
        far = apns.connections[0]
        far.h2.increment_flow_control_window(8192, max(far.requests))
        far.flush()
        far.is_reading = True
        # Then the rest is not sent, and the connection goes on
        with pytest.raises(TimeoutError):
            await stuck
        monkeypatch.undo()
        assert (await asyncio.wait_for(pool.send_notification(request_of(10)), 2)).status == "200"
        assert {len(request.body) for request in apns.requests} == {10}
        assert len(apns.connections) == 1
        await pool.aclose()


@AIOSMTPD_WARNINGS[0]
@AIOSMTPD_WARNINGS[1]
async def test_a_mail_is_not_handed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with mail_server() as mailbox:
        # Given a process that stands still behind the server's 354, the last answer before the mail
        read = SMTPProtocol.read_response

        async def read_and_stand_still(*args: Any, **kwargs: Any) -> Any:
            answer = await read(*args, **kwargs)
            if answer.code == SMTPStatus.start_input:
                time.sleep(DEADLINE + 0.05)  # noqa: ASYNC251  # as above
            return answer

        await send_and_stand_still(
            mail_sender(send_deadline=DEADLINE),
            mail(mailbox),
            lambda: monkeypatch.setattr(SMTPProtocol, "read_response", read_and_stand_still),
        )
        assert len(mailbox.mails) == 1


async def test_an_event_is_not_published(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = MqttSender(loopback_settings(send_deadline=DEADLINE), None)  # type: ignore[arg-type]  # sends no HTTP
    with broker(tmp_path, "allow_anonymous true") as port:
        async with subscriber(port) as far:
            still = standing_still_after(mqtt._check_limits)
            config = MqttConfig(host="127.0.0.1", port=port, topic="alerts")
            await send_and_stand_still(
                sender, notification(config), lambda: monkeypatch.setattr(mqtt, "_check_limits", still)
            )
            monkeypatch.undo()
            assert isinstance(await patient_outcome(sender, notification(config, "CLOSED")), Receipt)
            kinds = [(await next_message(far)).payload.split(b'"')[3] for _ in range(2)]
            assert kinds == [b"alert.open", b"alert.closed"]
        await sender.aclose()


async def test_a_trap_is_not_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    sender = SnmpSender(loopback_settings(send_deadline=DEADLINE), None)  # type: ignore[arg-type]  # sends no HTTP
    with trap_daemon(tmp_path, "authCommunity log canary") as daemon:
        still = standing_still_after(snmp_engine._credentials)
        config = SnmpConfig(host="127.0.0.1", port=daemon.port, community=SecretStr("canary"))
        await send_and_stand_still(
            sender, notification(config), lambda: monkeypatch.setattr(snmp_engine, "_credentials", still)
        )
        assert len(await daemon.wait(1)) == 1
    await sender.aclose()


async def test_a_service_of_apprise_is_not_notified(monkeypatch: pytest.MonkeyPatch) -> None:
    sender = AppriseSender(loopback_settings(send_deadline=DEADLINE), None)  # type: ignore[arg-type]  # makes no request of ours
    async with receiving() as far:
        url = SecretStr(far.url.replace("http://", "json://"))
        still = standing_still_after(apprise._library)
        await send_and_stand_still(
            sender,
            notification(AppriseConfig.model_construct(url=url, max_retries=1)),
            lambda: monkeypatch.setattr(apprise, "_library", still),
        )
        assert len(far.requests) == 1
    await sender.aclose()


# The deadline itself.


async def test_the_time_is_over_though_no_timer_has_run() -> None:
    async with Deadline(0.05):
        check_deadline()
        time.sleep(0.06)  # noqa: ASYNC251  # as above
        with pytest.raises(TimeoutError):
            check_deadline()


async def test_a_wait_ends_at_the_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(TimeoutError):
        async with Deadline(0.05):
            await asyncio.sleep(5)
    assert time.monotonic() - began < 2


async def test_one_within_another_lasts_no_longer() -> None:
    async with Deadline(5):
        outer = current_deadline()
        async with Deadline(60):
            assert current_deadline() == outer
        async with Deadline(1):
            assert current_deadline() <= now() + 1
        assert current_deadline() == outer
    assert current_deadline() == math.inf
    check_deadline()


async def test_tasks_side_by_side_have_their_own() -> None:
    async def one(seconds: float) -> float:
        async with Deadline(seconds):
            await asyncio.sleep(0.01)
            return current_deadline()

    short, long = await asyncio.gather(one(5), one(50))
    assert 44 < long - short < 46
