from __future__ import annotations

import asyncio
import inspect
import os
import re
import subprocess
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import Mock

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyasn1.codec.ber import encoder
from pydantic import ValidationError
from pysnmp.proto import errind
from pysnmp.proto.api import v2c
from pysnmp.smi.builder import MibBuilder

import senders
from senders import snmp_engine
from senders.notes import Notes
from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.snmp import SnmpConfig, SnmpSender, engine_id
from senders.snmp_engine import ARC, MAX_MESSAGE, MAX_SHORT, answered, translate, variables
from tests.unit.senders.push_support import until
from tests.unit.senders.servers_support import free_udp_port, program, trap_daemon
from tests.unit.senders.support import loopback_settings, notification, outcome

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from senders.base import Notification

V2C: dict[str, Any] = {"community": "canary-c0ffee"}
V3: dict[str, Any] = {"version": "3", "user": "alice"}
AUTH: dict[str, Any] = {**V3, "auth_protocol": "SHA", "auth_key": "authsecret1"}
PRIV: dict[str, Any] = {**AUTH, "priv_protocol": "AES", "priv_key": "privsecret1"}
EVENTS = {"OPEN": 1, "ACKNOWLEDGED": 2, "ESCALATED": 3, "CLOSED": 4}


def config(port: int, **fields: Any) -> SnmpConfig:
    return SnmpConfig(host="127.0.0.1", port=port, **fields)


@pytest.fixture
async def sender() -> AsyncIterator[SnmpSender]:
    sending = SnmpSender(loopback_settings(send_deadline=4), None)  # type: ignore[arg-type]  # sends no HTTP
    yield sending
    await sending.aclose()


@pytest.mark.parametrize("kind", ["trap", "inform"])
async def test_every_event_is_a_notification_of_the_mib(
    sender: SnmpSender, tmp_path: Path, kind: str
) -> None:
    with trap_daemon(tmp_path, "authCommunity log canary-c0ffee") as daemon:
        for event in EVENTS:
            sent = notification(config(daemon.port, notification=kind, **V2C), event)
            assert (await sender.send(sent)).code == {"trap": "sent", "inform": "answered"}[kind]
        lines = await daemon.wait(4)
    assert len(lines) == 4
    for line, number in zip(lines, EVENTS.values(), strict=True):
        assert line.startswith(f"TOCSIN|{'TRAP2' if kind == 'trap' else 'INFORM'}, SNMP v2c")
        assert f"OID: .{ARC}.0.{number}\t" in line
        assert f'.{ARC}.1.1.0 = STRING: "acme"' in line
        assert f'.{ARC}.1.2.0 = STRING: "4711"' in line
        assert f".{ARC}.1.5.0 = INTEGER: {number}\t" in line
        assert f'.{ARC}.1.12.0 = STRING: "Smoke in the hall"' in line


PROTOCOLS = [
    pytest.param(V3, "noauth", id="noAuthNoPriv"),
    pytest.param(AUTH, "auth", id="SHA"),
    pytest.param({**AUTH, "auth_protocol": "MD5"}, "auth", id="MD5"),
    pytest.param({**AUTH, "auth_protocol": "SHA256"}, "auth", id="SHA256"),
    pytest.param({**AUTH, "auth_protocol": "SHA512"}, "auth", id="SHA512"),
    pytest.param(PRIV, "priv", id="SHA-AES"),
    pytest.param({**PRIV, "auth_protocol": "SHA256", "priv_protocol": "DES"}, "priv", id="SHA256-DES"),
]
_NAMES = {"SHA256": "SHA-256", "SHA512": "SHA-512"}


def _user(fields: dict[str, Any]) -> str:
    words = ["alice"]
    if "auth_key" in fields:
        words += [_NAMES.get(fields["auth_protocol"], fields["auth_protocol"]), fields["auth_key"]]
    if "priv_key" in fields:
        words += [fields["priv_protocol"], fields["priv_key"]]
    return " ".join(words)


@pytest.mark.parametrize(("fields", "level"), PROTOCOLS)
async def test_version_3_is_understood_by_another_implementation(
    sender: SnmpSender, tmp_path: Path, fields: dict[str, Any], level: str
) -> None:
    port = free_udp_port()
    trap, inform = (config(port, notification=kind, **fields) for kind in ("trap", "inform"))
    name = engine_id(trap, "acme").hex()
    users = [
        f"createUser -e 0x{name} {_user(fields)}",
        f"createUser {_user(fields)}",
        f"authUser log alice {level}",
    ]
    with trap_daemon(tmp_path, *users, port=port) as daemon:
        sent = await sender.send(notification(trap))
        await daemon.wait(1)
        assert (await sender.send(notification(inform))).code == "answered"
        lines = await daemon.wait(2)
    assert sent == Receipt("sent", detail=f"engine id 0x{name}")
    assert [line.split(",", 1)[0] for line in lines] == ["TOCSIN|TRAP2", "TOCSIN|INFORM"]
    assert "user alice" in lines[0]


async def test_two_processes_and_a_restart_share_one_engine_id(tmp_path: Path) -> None:
    """With boots and time of each process's own, a manager drops all but the traps of the last (RFC 3414, 3.2)."""
    port = free_udp_port()
    same = config(port, **PRIV)
    users = [f"createUser -e 0x{engine_id(same, 'acme').hex()} {_user(PRIV)}", "authUser log alice priv"]
    first, second, third = (SnmpSender(loopback_settings(), None) for _ in range(3))  # type: ignore[arg-type]  # sends no HTTP
    with trap_daemon(tmp_path, *users, port=port) as daemon:
        for number, sending in enumerate([first, second, first, third, second, first], 1):
            await sending.send(notification(same))
            await daemon.wait(number)
    for sending in (first, second, third):
        await sending.aclose()


async def test_a_manager_that_another_takes_over_is_found_at_the_second_attempt(tmp_path: Path) -> None:
    port = free_udp_port()
    inform = notification(config(port, notification="inform", **PRIV))
    sending = SnmpSender(loopback_settings(send_deadline=4), None)  # type: ignore[arg-type]  # sends no HTTP
    results = []
    for number in range(2):
        directory = tmp_path / str(number)
        directory.mkdir()
        own = [
            f"exactEngineID 0x80001f88046162630{number}",
            f"createUser {_user(PRIV)}",
            "authUser log alice priv",
        ]
        with trap_daemon(directory, *own, port=port):
            results += [await outcome(sending, inform) for _ in range(2)]
    await sending.aclose()
    assert [result.code for result in results] == ["answered", "answered", "timeout", "answered"]


async def test_the_engines_time_goes_on() -> None:
    """A manager drops traps whose time stands still for 150 s, and pysnmp's own does."""
    sending = SnmpSender(loopback_settings(), None)  # type: ignore[arg-type]  # sends no HTTP
    sent = notification(config(free_udp_port(), **PRIV))
    await sending.send(sent)
    (engine,) = [making.result().engine for making in sending._engines]
    (symbol,) = engine.get_mib_builder().import_symbols("__SNMP-FRAMEWORK-MIB", "snmpEngineTime")
    symbol.syntax = symbol.syntax.clone(5)
    await sending.send(sent)
    assert abs(int(symbol.syntax) - time.time()) < 5
    await sending.aclose()


async def test_mibs_are_loaded_beside_the_event_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is read and compiled anew for each engine."""
    where: set[str] = set()
    load = MibBuilder.load_module

    def watched(self: MibBuilder, name: str, **context: Any) -> MibBuilder:
        where.add(threading.current_thread().name)
        return load(self, name, **context)

    monkeypatch.setattr(MibBuilder, "load_module", watched)
    sending = SnmpSender(loopback_settings(), None)  # type: ignore[arg-type]  # sends no HTTP
    for fields in (V2C, PRIV):
        await sending.send(notification(config(free_udp_port(), **fields)))
    assert where == {"tocsin-snmp_0"}
    await sending.aclose()


async def test_an_engine_stays_while_an_inform_waits_for_its_answer() -> None:
    sending = SnmpSender(loopback_settings(), None)  # type: ignore[arg-type]  # sends no HTTP
    sending._engines._most = 1
    port = free_udp_port()
    inform = asyncio.create_task(sending.send(notification(config(port, notification="inform", **V2C))))
    await until(lambda: any(making.done() for making in sending._engines))
    for community in ("one", "two"):
        await sending.send(notification(config(port, community=community)))
    open_ones = [making.result().engine.transport_dispatcher is not None for making in sending._engines]
    assert open_ones == [True, True]  # the inform's, and the last
    inform.cancel()
    await asyncio.wait([inform])
    await sending.aclose()


@pytest.fixture
async def two_addresses(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[tuple[SnmpSender, list[str]]]:
    """A sender to a name with two addresses, of which the first answers nothing; and whom it notified."""
    asked: list[str] = []

    async def notify(_: Any, sent: Notification[SnmpConfig], notes: Any, address: Any, seconds: float) -> str:
        del notes, seconds
        asked.append(address[0])
        if address[0] == "127.0.0.2" and sent.config.notification == "inform":
            raise Transient("timeout")
        if sent.severity == 0:
            raise Rejected("TooBig")
        return "answered"

    async def look_up(_: str, port: int, *__: Any) -> list[tuple[str, int]]:
        # To the first no machine has a way: it is broadcast, which a socket must ask for.
        return [(address, port) for address in ("255.255.255.255", "127.0.0.2", "127.0.0.1")]

    monkeypatch.setattr(snmp_engine, "notify", notify)
    monkeypatch.setattr(snmp_engine, "make_engine", lambda _: Mock())
    monkeypatch.setattr("senders.snmp.addresses", look_up)
    sending = SnmpSender(loopback_settings(), None)  # type: ignore[arg-type]  # sends no HTTP
    yield sending, asked
    await sending.aclose()


async def test_an_inform_goes_to_the_next_address_and_later_begins_with_it(
    two_addresses: tuple[SnmpSender, list[str]],
) -> None:
    sending, asked = two_addresses
    inform = config(162, notification="inform", **V2C)
    assert (await sending.send(notification(inform))).code == "answered"
    assert asked == ["127.0.0.2", "127.0.0.1"]
    await sending.send(notification(inform))
    assert type(await outcome(sending, notification(inform, severity=0))) is Rejected
    assert asked[2:] == ["127.0.0.1"] * 2


async def test_a_trap_goes_to_the_first_address_that_there_is_a_way_to(
    two_addresses: tuple[SnmpSender, list[str]],
) -> None:
    sending, asked = two_addresses
    await sending.send(notification(config(162, **V2C)))
    assert asked == ["127.0.0.2"]


async def test_each_channel_gets_its_own_trap_only(sender: SnmpSender, tmp_path: Path) -> None:
    with trap_daemon(tmp_path, "authCommunity log one", "authCommunity log two") as daemon:
        for community in ("one", "two", "one"):
            await sender.send(notification(config(daemon.port, community=community)))
        await asyncio.gather(
            *(sender.send(notification(config(daemon.port, community="two"))) for _ in range(20))
        )
        lines = await daemon.wait(23)
    assert [line.split(",")[2].partition("|")[0] for line in lines[:3]] == [
        f" community {c}" for c in ("one", "two", "one")
    ]
    assert len(lines) == 23


async def test_an_inform_that_nobody_answers_is_tried_again() -> None:
    sending = SnmpSender(loopback_settings(send_deadline=0.4), None)  # type: ignore[arg-type]  # sends no HTTP
    result = await outcome(sending, notification(config(free_udp_port(), notification="inform", **V2C)))
    assert isinstance(result, Transient)
    assert result.code == "timeout"
    await sending.aclose()


async def test_pysnmps_own_timeout_is_transient_too(tmp_path: Path) -> None:
    sending = SnmpSender(loopback_settings(send_deadline=7), None)  # type: ignore[arg-type]  # sends no HTTP
    with trap_daemon(tmp_path, "authCommunity log other") as daemon:  # takes no inform of this community
        result = await outcome(sending, notification(config(daemon.port, notification="inform", **V2C)))
    assert isinstance(result, Transient)
    await sending.aclose()


async def test_a_trap_into_the_void_is_sent_all_the_same(sender: SnmpSender) -> None:
    result = await outcome(sender, notification(config(free_udp_port(), **V2C)))
    assert result == Receipt("sent")


@pytest.mark.parametrize(
    ("known", "code"),
    [
        ("bob SHA authsecret1 AES privsecret1", "UnknownUserName"),
        ("alice SHA another-secret AES privsecret1", "WrongDigest"),
        ("alice SHA authsecret1", "UnsupportedSecurityLevel"),
    ],
)
async def test_a_manager_that_does_not_know_us_needs_a_person(
    sender: SnmpSender, tmp_path: Path, known: str, code: str
) -> None:
    with trap_daemon(
        tmp_path, f"createUser {known}", f"authUser log {known.split(maxsplit=1)[0]} auth"
    ) as daemon:
        result = await outcome(sender, notification(config(daemon.port, notification="inform", **PRIV)))
    assert isinstance(result, Misconfigured)
    assert result.code == code
    assert "secret" not in f"{result!r}{result}"


async def test_a_host_that_is_not_public_is_refused() -> None:
    sending = SnmpSender(loopback_settings().model_copy(update={"allowed_networks": ()}), None)  # type: ignore[arg-type]  # sends no HTTP
    result = await outcome(sending, notification(config(162, **V2C)))
    assert isinstance(result, Misconfigured)
    assert result.code == "blocked address"
    assert not list(sending._engines)


def _indications() -> list[type[errind.ErrorIndication]]:
    found = [each for _, each in inspect.getmembers(errind, inspect.isclass)]
    return [
        each
        for each in found
        if issubclass(each, errind.ErrorIndication) and each is not errind.ErrorIndication
    ]


@pytest.mark.parametrize("kind", _indications())
def test_every_indication_of_the_library_has_an_outcome(kind: type[errind.ErrorIndication]) -> None:
    """A new version with a new indication makes a new case here."""
    assert isinstance(translate(kind()), SendError)


@pytest.mark.parametrize(
    ("status", "kind"),
    [(status, {5: Transient, 13: Transient, 6: Misconfigured, 16: Misconfigured}.get(status, Rejected))
     for status in range(1, 19)],
)  # fmt: skip
def test_every_error_status_has_an_outcome(status: int, kind: type[SendError]) -> None:
    assert type(answered(status)) is kind


@pytest.mark.parametrize(
    ("fields", "rule"),
    [
        ({}, "2c needs a community"),
        ({"community": "c", "user": "alice"}, "2c needs a community, and neither"),
        ({"community": ""}, "1 to 96 printable"),
        ({"community": "a\0b"}, "1 to 96 printable"),
        ({"version": "3"}, "3 needs a user"),
        ({**V3, "community": "c"}, "no community"),
        ({**V3, "user": "a\nb"}, "pattern"),
        ({**V3, "user": "u" * 33}, "pattern"),
        ({**V3, "auth_key": "authsecret1"}, "go together"),
        ({**V3, "auth_protocol": "SHA"}, "go together"),
        ({**AUTH, "priv_key": "privsecret1"}, "go together"),
        ({**V3, "priv_protocol": "AES", "priv_key": "privsecret1"}, "needs an auth_key"),
        ({**AUTH, "auth_key": "short"}, "8 to 96"),
        ({**AUTH, "auth_protocol": "ROT13"}, "Input should be"),
        ({"community": "c", "host": "http://x"}, "must be a host name"),
        ({"community": "c", "host": "10.1"}, "four decimal numbers"),
        ({"community": "c", "port": 65536}, "less than or equal"),
        ({"version": "1", "community": "c"}, "Input should be"),
    ],
)
def test_a_bad_config_is_refused_with_its_rule(fields: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule) as caught:
        SnmpConfig(**{"host": "snmp.example.org", **fields})
    assert "authsecret1" not in str(caught.value)


def test_names_are_read_in_any_case() -> None:
    keys = {"auth_key": "authsecret1", "priv_key": "privsecret1"}
    names = {"auth_protocol": "Sha256", "priv_protocol": "aes", "notification": "INFORM"}
    found = SnmpConfig(**{"host": "snmp.example.org", **V3, **keys, **names})
    assert (found.auth_protocol, found.priv_protocol, found.notification) == ("SHA256", "AES", "inform")


async def test_what_is_clipped_is_named_beside_the_engine_id(sender: SnmpSender) -> None:
    long = {"message": "m" * 500, "device_id": "é" * 49, "site_id": "s" * 96}
    port = free_udp_port()
    result = await sender.send(notification(config(port, **V2C), alert=long))
    assert result == Receipt("sent", detail="clipped: device_id, message")
    result = await sender.send(notification(config(port, **V3), alert=long))
    assert (
        result.detail
        == f"engine id 0x{engine_id(config(port, **V3), 'acme').hex()}; clipped: device_id, message"
    )


@pytest.mark.parametrize(
    ("templates", "said", "note"),
    [
        ({}, "Smoke in the hall", None),
        ({"body_template": "{{ alert.site_id }}: {{ body }}"}, "berlin: Smoke in the hall", None),
        ({"title_template": "Hall {{ alert.site_id }}"}, "Hall berlin: Smoke in the hall", None),
        ({"title_template": "{{ level }}", "body_template": "{{ event }}"}, "error: OPEN", None),
        (
            {"body_template": "{{ alert.nothing }}"},
            "Smoke in the hall",
            "body_template made no text, the standard one was sent",
        ),
    ],
)
async def test_a_channels_templates_make_the_message(
    sender: SnmpSender, tmp_path: Path, templates: dict[str, str], said: str, note: str | None
) -> None:
    with trap_daemon(tmp_path, "authCommunity log canary-c0ffee") as daemon:
        result = await sender.send(notification(config(daemon.port, **V2C, **templates)))
        (line,) = await daemon.wait(1)
    assert f'.{ARC}.1.12.0 = STRING: "{said}"' in line
    assert result == Receipt("sent", detail=note)


def test_an_engine_id_is_stable_and_the_channels_own() -> None:
    known = config(162, **PRIV)
    rotated = config(162, **{**PRIV, "auth_key": "another-key"})
    others = [engine_id(known, "other"), engine_id(config(163, **PRIV), "acme")]
    assert engine_id(known, "acme") == engine_id(rotated, "acme")
    assert engine_id(known, "acme") not in others
    assert engine_id(known, "acme").startswith(bytes.fromhex("80004fb805"))
    assert 5 <= len(engine_id(known, "acme")) <= 32  # RFC 3411, 5


WORDS = st.text(max_size=600) | st.text(alphabet="\r\n\0é🔥👩‍👩‍👧\ud800", max_size=300) | st.integers()


@given(WORDS, WORDS, st.text(max_size=300), st.integers(min_value=0, max_value=10**30))
def test_sizes_are_those_of_the_mib_and_of_one_datagram(
    kind: Any, said: Any, tenant: str, severity: int
) -> None:
    alert = {"alert_id": kind, "alert_type": kind, "device_id": said, "site_id": said, "message": said}
    sent = notification(config(162, **V2C), alert=alert, tenant_id=tenant, severity=severity)
    notes = Notes(sent)
    values = variables(sent, notes)
    texts = [
        value.asOctets()
        for _, value in values
        if not hasattr(value, "bitLength") and hasattr(value, "asOctets")
    ]
    assert all(len(text) <= MAX_SHORT for text in texts[:-1])
    assert len(texts[-1]) <= MAX_MESSAGE
    assert any(text.endswith("…".encode()) for text in texts) <= (notes.detail is not None)
    for text in texts:
        assert not re.search("[\x00-\x1f\x7f]", text.decode())
    pdu = v2c.SNMPv2TrapPDU()
    v2c.apiTrapPDU.set_defaults(pdu)
    v2c.apiTrapPDU.set_varbinds(pdu, [(v2c.ObjectIdentifier(name), value) for name, value in values])
    # 200 more for the community or version 3's header, whose user and engine ids are bounded as well.
    assert len(encoder.encode(pdu)) + 200 <= 1472


def test_the_mibs_names_are_the_numbers_that_are_sent(tmp_path: Path) -> None:
    """As net-snmp's parser reads it; the standard modules that it imports come with Erlang."""
    base = next(Path("/usr/lib/erlang/lib").glob("snmp-*/mibs/SNMPv2-SMI.mib"), None)
    if base is None:
        program("SNMPv2-SMI.mib", "erlang-snmp")
    assert base is not None
    folders = f"{Path(next(iter(senders.__path__)))}:{base.parent}"
    command = [program("snmptranslate", "snmp"), "-M", folders, "-m", "TOCSIN-MIB", "-Pe", "-Tz"]
    # Where this directory is missing, as on a new machine, it is made, with a word about it on stderr.
    (tmp_path / "cert_indexes").mkdir()
    environment = os.environ | {"SNMP_PERSISTENT_DIR": str(tmp_path)}
    shown = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert not shown.stderr
    oids = dict(re.findall(r'^"(\w+)"\s+"([\d.]+)"$', shown.stdout, re.MULTILINE))

    for event, number in EVENTS.items():
        assert oids[f"tocsinAlert{event.capitalize()}"] == f"{ARC}.0.{number}"
    names = ("Tenant", "AlertId", "Thread", "NotificationId", "Event", "Level", "Severity", "AlertType", "Device",
             "Site", "TriggeredAt", "Message")  # fmt: skip
    plain = notification(config(162, **V2C))
    sent = [oid for oid, _ in variables(plain, Notes(plain))]
    assert [f"{oids[f'tocsin{name}']}.0" for name in names] == sent
    assert f"SIZE (0..{MAX_SHORT})" in (
        text := Path(folders.split(":", maxsplit=1)[0], "TOCSIN-MIB.txt").read_text()
    )
    assert f"SIZE (0..{MAX_MESSAGE})" in text
