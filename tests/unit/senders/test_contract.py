"""What every registered sender promises, whatever its provider: one suite over the registry."""

from __future__ import annotations

import asyncio
import logging
import socket
import struct
import time
import traceback
from typing import TYPE_CHECKING, Any

import pytest
import structlog
from cryptography.fernet import Fernet
from prometheus_client import generate_latest

from config.logging import configure_logging
from senders.outcomes import Receipt, Rejected, SendError, Transient
from senders.registry import ALL
from tests.unit.senders.contract_support import (
    ADAPTERS,
    CANARY,
    Adapter,
    secret_fields,
    secrets_in,
    traces,
)
from tests.unit.senders.support import closed_port, loopback_settings, outcome, raw_server

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterator
    from pathlib import Path

DEADLINE = 0.3
"""Seconds of a send whose far side does not answer."""

each_sender = pytest.mark.parametrize("kind", ALL, ids=lambda kind: kind.name)


def test_every_registered_sender_has_an_adapter() -> None:
    missing = {kind.name for kind in ALL} - {kind.name for kind in ADAPTERS}
    assert not missing, f"give {missing} an adapter in contract_support.py"
    assert len(ADAPTERS) == len(ALL)


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


# Far sides that fail.


async def stall(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes everything and never answers."""
    del writer
    while await reader.read(65_536):
        pass


async def stall_in_the_body(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Begins an answer and never ends it."""
    await reader.read(1)
    writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nok")
    await stall(reader, writer)


async def reset(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Takes the first bytes and resets the connection."""
    await reader.read(1)
    handle: socket.socket = writer.get_extra_info("socket")
    handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Closes as soon as somebody comes."""
    del reader
    writer.close()


async def babble(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Speaks no protocol at all, without end."""
    await asyncio.sleep(0)
    del reader
    while True:
        writer.write(b"\x00\xff~~~\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0.001)


@pytest.mark.parametrize(
    "fault", [stall, stall_in_the_body, reset, hang_up, babble], ids=lambda it: it.__name__
)
@each_sender
async def test_a_far_side_that_fails_may_work_later(
    kind: type[Any], fault: Callable[..., Awaitable[None]], tmp_path: Path
) -> None:
    async with (
        raw_server(fault) as url,
        ADAPTERS[kind].at(port_of(url), tmp_path, send_deadline=DEADLINE) as it,
    ):
        began = time.monotonic()
        got = await outcome(it.sender, it.make())
        assert isinstance(got, Transient), repr(got)
        assert got.code
        assert time.monotonic() - began < DEADLINE + 1.5


@each_sender
async def test_a_port_on_which_nobody_listens(kind: type[Any], tmp_path: Path) -> None:
    async with ADAPTERS[kind].at(closed_port(), tmp_path, send_deadline=DEADLINE) as it:
        got = await outcome(it.sender, it.make())
        assert isinstance(got, Transient), repr(got)
        assert got.retry_after is None


@each_sender
async def test_a_sender_recovers_when_its_far_side_does(kind: type[Any], tmp_path: Path) -> None:
    async with ADAPTERS[kind].working(tmp_path) as it:
        for _ in range(2):
            assert isinstance(await outcome(it.sender, it.make()), Receipt)


# Many at once.


@each_sender
async def test_many_sends_at_once_and_all_arrive(kind: type[Any], tmp_path: Path) -> None:
    async with ADAPTERS[kind].working(tmp_path) as it:
        sends = [outcome(it.sender, it.make(alert={"alert_id": number})) for number in range(25)]
        got = await asyncio.gather(*sends)
        assert [type(each) for each in got] == [Receipt] * 25, [
            each for each in got if not isinstance(each, Receipt)
        ]


@each_sender
async def test_a_cancelled_send_harms_no_other(kind: type[Any], tmp_path: Path) -> None:
    async with ADAPTERS[kind].working(tmp_path) as it:
        # When sends are cancelled at different moments of their lives, the first one while it opens a connection
        for moment in (0.0, 0.002, 0.005, 0.02):
            sends = [asyncio.create_task(outcome(it.sender, it.make())) for _ in range(6)]
            await asyncio.sleep(moment)
            sends[0].cancel()
            sends[3].cancel()
            got = await asyncio.gather(*sends, return_exceptions=True)
            # Then every other one was taken
            others = [each for place, each in enumerate(got) if place not in {0, 3}]
            assert [type(each) for each in others] == [Receipt] * 4, others
        assert isinstance(await outcome(it.sender, it.make()), Receipt)


# What alerts may hold.

NASTY = "\x00\r\nX-Evil: 1\r\n.\r\n\u202e\ud800👩‍🔬<!channel>&amp;<b>%00{{ 7*7 }}${x}../../x?y=1#"
DEEP: Any = "end"
for _ in range(60):
    DEEP = [{"deeper": DEEP}]

HOSTILE: dict[str, dict[str, Any]] = {
    "control characters everywhere": {
        **dict.fromkeys(("alert_type", "device_id", "site_id", "message"), NASTY),
        "details": {
            NASTY: NASTY,
            "title": NASTY,
            "url": NASTY,
            "image_url": NASTY,
            "device_tags": {NASTY: NASTY},
        },
    },
    "nothing": dict.fromkeys(("alert_type", "device_id", "site_id", "message", "details", "triggered_at")),
    "empty": dict.fromkeys(("alert_type", "device_id", "site_id", "message", "triggered_at"), "")
    | {"details": {}},
    "odd values": {
        "alert_id": "../../4711?a=b",
        "details": {
            "camera_id": 7,
            "smart_detection_type": ["person"],
            "device_tags": {"n": None, "b": True},
            "nan": float("nan"),
            "inf": float("inf"),
            "huge": 2**200,
            "deep": DEEP,
        },
    },
    "template": {
        "message": "{{ alert.__class__.__mro__ }}{% for x in y %}",
        "details": {"title": "{{ title }}"},
    },
}


@pytest.mark.parametrize("alert", HOSTILE)
@each_sender
async def test_no_alert_is_too_odd_to_be_sent(kind: type[Any], alert: str, tmp_path: Path) -> None:
    async with ADAPTERS[kind].working(tmp_path) as it:
        for event in ("OPEN", "CLOSED"):
            made = it.make(
                event, alert=HOSTILE[alert], tenant_id="a\r\nb\x00" if "control" in alert else "acme"
            )
            got = await outcome(it.sender, made)
            assert isinstance(got, Receipt), repr(got)


OVERSIZE: dict[str, dict[str, Any]] = {
    "a message": {"message": "👩‍🔬 é\n" * 50_000},
    "many details": {"details": {f"key {number}": "v" * 300 for number in range(3000)}},
    "one detail": {"details": {"trace": "x" * 2_000_000, "title": "t" * 100_000}},
}


#: Who shows an alert's details; the others send title and message.
SHOWS_DETAILS = {"webhook", "slack", "teams", "pagerduty", "email", "mqtt"}


@pytest.mark.parametrize("alert", OVERSIZE)
@each_sender
async def test_what_is_too_large_is_shortened_and_said_or_refused(
    kind: type[Any], alert: str, tmp_path: Path
) -> None:
    async with ADAPTERS[kind].working(tmp_path) as it:
        began = time.monotonic()
        got = await outcome(it.sender, it.make(alert=OVERSIZE[alert]))
        assert isinstance(got, Receipt | Rejected), repr(got)
        if isinstance(got, Receipt) and (alert == "a message" or kind.name in SHOWS_DETAILS):
            assert got.detail, "something is missing, and the receipt does not say so"
        assert time.monotonic() - began < 5


# Secrets.


@each_sender
def test_every_secret_field_has_a_canary(kind: type[Any]) -> None:
    found = [secrets_in(config) for config in ADAPTERS[kind].configs(1)]
    assert {name for each in found for name, values in each.items() if any(values)} == secret_fields(
        kind.Config
    )


@pytest.fixture
def log() -> Iterator[list[str]]:
    """Every line that TOCSIN_LOG_LEVEL=debug lets through, ours and the libraries', with all a renderer could show."""

    class Collect(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name not in {"aiohttp.access", "mail.log"}:  # the receivers', in this process as well
                lines.append(f"{self.format(record)} {vars(record)}")

    lines: list[str] = []
    root = logging.getLogger()
    handlers, ours = list(root.handlers), structlog.get_config()
    levels = {name: logging.getLogger(name).level for name in (None, *root.manager.loggerDict)}
    configure_logging(loopback_settings(log_level="debug"))
    root.addHandler(Collect())
    yield lines
    root.handlers[:] = handlers
    structlog.configure(**ours)
    for name, level in levels.items():
        logging.getLogger(name).setLevel(level)


async def evidence(
    adapter: Adapter, port: int, config: Any, directory: Path, deadline: float
) -> tuple[list[str], set[str]]:
    """All that a failed and a repeated send leave behind for people, and the traces that must not be in it."""
    key = Fernet.generate_key().decode()
    settings = {
        "database_url": f"postgresql://u:{CANARY}db@127.0.0.1/x",
        "broker_url": f"amqp://u:{CANARY}mq@127.0.0.1",
        "smtp_url": f"smtp://{CANARY}user:{CANARY}mail@127.0.0.1:1",
        "secret_keys": key,
    }
    texts: list[str] = []
    async with adapter.at(port, directory, config, send_deadline=deadline, **settings) as it:
        made = it.make()
        got = await outcome(it.sender, made)
        assert isinstance(got, SendError), repr(got)
        texts += [repr(got), str(got), *traceback.format_exception(got), str(vars(got))]
        texts += [repr(made), repr(it.config), str(it.config), str(it.config.model_dump())]
        texts += [repr(it.sender), repr(it.sender.settings), str(it.sender.settings), str(it.device)]
        wanted = {key, *(f"{CANARY}{name}" for name in ("db", "mq", "user", "mail"))}
        for secrets in secrets_in(config).values():
            wanted |= set().union(*map(traces, secrets))
        if it.device:
            keys = it.device.subscription.get("keys", {})
            wanted |= {it.device.token, "canary-capability", *keys.values()} - {""}
    return texts, wanted


@pytest.mark.parametrize("far", ["echo", "refused", "stall"])
@each_sender
async def test_no_secret_is_in_any_record(kind: type[Any], far: str, tmp_path: Path, log: list[str]) -> None:
    adapter = ADAPTERS[kind]
    # Given a far side that quotes all it hears, or says nothing at all
    async with raw_server(adapter.echo if far == "echo" else stall) as url:
        # An echo must have been heard; over UDP there is none.
        deadline = 1.5 if far == "echo" and kind.name != "snmp" else DEADLINE
        port = closed_port() if far == "refused" else port_of(url)
        for config in adapter.configs(port):
            # When a send fails
            texts, wanted = await evidence(adapter, port, config, tmp_path, deadline)
            # Then no secret is in the outcome, a repr, a log line or a metric
            texts += [
                *log,
                generate_latest().decode(),
            ]
            leaked = {trace for trace in wanted if any(trace in text for text in texts)}
            assert not leaked


@each_sender
async def test_no_secret_is_in_a_receipt_or_in_the_log_of_a_success(
    kind: type[Any], tmp_path: Path, log: list[str]
) -> None:
    async with ADAPTERS[kind].working(tmp_path) as it:
        for event in ("OPEN", "CLOSED"):
            log.append(repr(got := await outcome(it.sender, it.make(event))))
            assert isinstance(got, Receipt)
        wanted = {CANARY, "bearer ey", "Bearer token-0", "vapid t="}
        for secrets in secrets_in(it.config).values():
            wanted |= set().union(*(traces(each) for each in secrets if "PRIVATE KEY" in each))
        if it.device and it.device.token:
            wanted.add(it.device.token)
        elif it.device:
            wanted |= {"canary-capability", *it.device.subscription["keys"].values()}
    leaked = {trace for trace in wanted if any(trace in line for line in log)}
    assert not leaked


@pytest.mark.parametrize("name", ["database_url", "broker_url", "smtp_url", "secret_keys"])
def test_a_wrong_setting_does_not_quote_its_value(name: str) -> None:
    with pytest.raises(Exception, match=f"TOCSIN_{name.upper()}") as caught:
        loopback_settings(**{name: f"nonsense://u:{CANARY}@"})
    assert CANARY not in "".join(traceback.format_exception(caught.value, chain=False))
