"""APNs: nghttp2 judges the framing of our client and of our receiver; a client that others wrote, the receiver."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import subprocess
import time
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import jwt
import pytest

from receivers import Answer, FarSide
from receivers.keys import write_tls_files
from senders.apns import ApnsSender
from senders.base import Device
from senders.outcomes import Receipt, TargetGone, Transient
from senders.push import ApnsCredentials, PushConfig
from tests.conformance.alerts import ALERTS, EVENTS
from tests.servers.programs import free_port
from tests.unit.senders.push_support import apns_credentials, push, trust
from tests.unit.senders.servers_support import program
from tests.unit.senders.support import client, loopback_settings, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tests.conformance.conftest import Judge


@pytest.fixture(scope="module")
def far() -> Iterator[FarSide]:
    with FarSide() as running:
        yield running


async def read_lines(stream: asyncio.StreamReader, lines: list[str]) -> None:
    """Gather them as they come, so that the pipe never fills."""
    while line := await stream.readline():
        lines.append(line.decode(errors="replace"))


@asynccontextmanager
async def nghttpd(directory: Path, *options: str) -> AsyncIterator[tuple[int, Path, list[str]]]:
    """Nghttp2's server, which answers 200 with what it got; its port, its authority, and what it logs."""
    path = program("nghttpd", "nghttp2-server")
    ca_file, server_file = write_tls_files(directory)
    port = free_port()
    command = [path, "-v", "--echo-upload", "-a", "127.0.0.1", *options, str(port)]
    process = await asyncio.create_subprocess_exec(
        *command, str(server_file), str(server_file), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    assert process.stdout
    log: list[str] = []
    following = asyncio.create_task(read_lines(process.stdout, log))
    try:
        async with asyncio.timeout(5):
            while True:
                with contextlib.suppress(OSError):
                    _, writer = await asyncio.open_connection("127.0.0.1", port)
                    writer.close()
                    break
                await asyncio.sleep(0.02)
        yield port, ca_file, log
    finally:
        process.terminate()
        await process.wait()
        await following


@asynccontextmanager
async def sending(port: int, ca_file: Path) -> AsyncIterator[ApnsSender]:
    settings = loopback_settings(apns_host="127.0.0.1", apns_port=port, apns_ca_file=ca_file)
    async with client(settings, ssl_context=trust()) as http:
        sender = ApnsSender(settings, http)
        try:
            yield sender
        finally:
            await sender.aclose()


@pytest.mark.parametrize(
    "options", [(), ("-m", "3"), ("-w", "10", "-W", "10"), ("-b", "255"), ("-c", "0")], ids=" ".join
)
async def test_nghttpd_finds_no_fault_with_our_frames(tmp_path: Path, options: tuple[str, ...]) -> None:
    # Given a server with few streams, small windows, padding or no header table
    async with nghttpd(tmp_path, *options) as (port, ca_file, log), sending(port, ca_file) as sender:
        config = PushConfig(all_users=True, apns=apns_credentials())
        # When more is sent at once than one connection takes
        alerts = [{**alert, "alert_id": n} for n in range(20) for alert in ALERTS.values()]
        sends = [sender.send(push(config=config, alert=alert)) for alert in alerts]
        receipts = await asyncio.gather(*sends)
    # Then each was answered on its own stream, and no frame was called an error
    assert [receipt.code for receipt in receipts] == ["200"] * len(alerts)
    text = "".join(log)
    assert text.count("recv HEADERS frame") >= len(alerts)
    assert "RST_STREAM" not in text
    assert not re.search(
        r"\[ERROR\]|PROTOCOL_ERROR|FLOW_CONTROL_ERROR|COMPRESSION_ERROR|INTERNAL_ERROR", text
    )


def nghttp(far: FarSide, path: str, headers: dict[str, str], body: bytes, directory: Path) -> str:
    """What nghttp2's client prints of one exchange with the local APNs."""
    (directory / "body").write_bytes(body)
    options = [f"-H{name}: {value}" for name, value in headers.items()]
    url = f"https://{far.apns.host}:{far.apns.port}{path}"
    command = [program("nghttp", "nghttp2-client"), "-v", "-m", "5", f"-d{directory / 'body'}", *options, url]
    done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True)
    return re.sub(r"\x1b\[[0-9;]*m", "", done.stdout + done.stderr)


def apns_headers(far: FarSide) -> dict[str, str]:
    it = far.apns.credential
    token = jwt.encode(
        {"iss": it.team_id, "iat": int(time.time())},
        it.key_file.read_text(),
        algorithm="ES256",
        headers={"kid": it.key_id},
    )
    return {
        "authorization": f"bearer {token}",
        "apns-topic": it.topic,
        "apns-push-type": "alert",
        "apns-priority": "10",
    }


def test_nghttp_understands_our_receiver(far: FarSide, tmp_path: Path) -> None:
    body = b'{"aps": {"alert": "x"}}'
    said = nghttp(far, f"/3/device/{'0f' * 32}", apns_headers(far), body, tmp_path)
    assert said.count(":status: 200") == 5
    said += nghttp(far, "/3/device/xyz", apns_headers(far), body, tmp_path)
    assert said.count(":status: 400") == 5
    assert '{"reason":"BadDeviceToken"}' in said.replace(" ", "")
    assert not re.search(r"\[ERROR\]|PROTOCOL_ERROR|RST_STREAM", said)


def question(far: FarSide, *devices: str, **fields: Any) -> dict[str, Any]:
    """What the reference client is asked to send."""
    it = far.apns.credential
    return {
        "address": far.apns.host,
        "port": far.apns.port,
        "ca": far.apns.ca_file.read_text(),
        "token": {"key": it.key_file.read_text(), "keyId": it.key_id, "teamId": it.team_id},
        "topic": it.topic,
        "devices": devices,
        "fields": {"pushType": "alert", "alert": {"title": "t", "body": "b"}, **fields},
    }


def test_the_reference_client_is_served(far: FarSide, apns_client: Judge) -> None:
    good, gone, late = (f"{n:064x}" for n in (1, 2, 3))
    far.apns.always(gone, Answer(dead=True))
    far.apns.always(late, Answer(429, reason="TooManyRequests"))
    fields = {"collapseId": "thread", "priority": 10, "expiry": int(time.time()) + 60, "sound": "default"}
    verdict = apns_client.ask(**question(far, good, gone, late, **fields))
    far.apns.normal()
    assert verdict["sent"] == [good]
    failed = {each["device"]: (str(each["status"]), each["reason"]) for each in verdict["failed"]}
    assert failed == {gone: ("410", "Unregistered"), late: ("429", "TooManyRequests")}
    assert all(each.valid for each in far.apns.received_for(good))


def test_the_reference_client_is_refused_where_apple_would(far: FarSide, apns_client: Judge) -> None:
    wrong = question(far, "0f" * 32)
    wrong["topic"] = "org.example.other"
    [failed] = apns_client.ask(**wrong)["failed"]
    assert (str(failed["status"]), failed["reason"]) in {
        ("400", "TopicDisallowed"),
        ("400", "DeviceTokenNotForTopic"),
    }
    [failed] = apns_client.ask(**question(far, "0f" * 32, alert="x" * 5000))["failed"]
    assert (str(failed["status"]), failed["reason"]) == ("413", "PayloadTooLarge")


@pytest.mark.parametrize("alert", ALERTS)
async def test_our_client_asks_as_the_reference_client_does(
    far: FarSide, apns_client: Judge, alert: str
) -> None:
    token = far.apns.device_token()
    it = far.apns.credential
    own = {"key": it.key_file.read_text(), "key_id": it.key_id, "team_id": it.team_id, "topic": it.topic}
    config = PushConfig(all_users=True, apns=ApnsCredentials.model_validate(own))
    async with sending(far.apns.port, far.apns.ca_file) as sender:
        for event in EVENTS:
            sent = push(Device(7, "alice", "ios", token), config, event=event, alert=ALERTS[alert])
            assert isinstance(await sender.send(sent), Receipt)
    fields = {
        "collapseId": "thread",
        "priority": 10,
        "expiry": int(time.time()) + 60,
        "id": "0190163d-8694-739b-aea5-966c26f8ad90",
    }
    assert apns_client.ask(**question(far, token, **fields))["sent"] == [token]
    *ours, theirs = far.apns.received_for(token)
    assert all(each.valid for each in ours), [each.problems for each in ours]
    assert {name for name in theirs.headers if name.startswith("apns-")} == {
        name for name in ours[0].headers if name.startswith("apns-")
    }
    assert all(json.dumps(each.content["aps"]["alert"]["title"]) for each in ours)


async def test_both_sides_of_an_outage(far: FarSide) -> None:
    it = far.apns.credential
    token = far.apns.device_token()
    own = {"key": it.key_file.read_text(), "key_id": it.key_id, "team_id": it.team_id, "topic": it.topic}
    config = PushConfig(all_users=True, apns=ApnsCredentials.model_validate(own))
    far.apns.script(token, [Answer(503), Answer(reset=True), Answer(dead=True)])
    async with sending(far.apns.port, far.apns.ca_file) as sender:
        kinds = [type(await outcome(sender, push(Device(7, "a", "ios", token), config))) for _ in range(3)]
    assert kinds == [Transient, Transient, TargetGone]
