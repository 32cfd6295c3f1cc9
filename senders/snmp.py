"""SNMP notifications, as traps or informs, over v2c or v3, with the objects of TOCSIN-MIB.txt.

Set up:
    1. Load TOCSIN-MIB.txt into the manager.
    2. v2c: give the channel `host` and the manager's `community`.
    3. v3: give it `user`, and `auth_protocol` with `auth_key`, and `priv_protocol` with `priv_key`, as the
       manager knows them. For traps the manager also needs our engine id: every receipt names it, and it
       never changes for one host, port, user and tenant. For informs the manager's own engine counts.

A trap is sent, never known to be delivered: the receipt says "sent". An inform is answered, or tried again.
CLOSED has a notification of its own, which clears what the others raised with the same tocsinThread.

Facts: RFC 3416 4.2.6 and 4.2.7 (trap, inform), RFC 3417 3 (UDP), RFC 3411 5 (SnmpEngineID), RFC 3414 2.2 and
3.2 (time windows), https://docs.lextudio.com/pysnmp/v7.1/
"""

from __future__ import annotations

import asyncio
import hashlib
import socket
import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, Field, SecretStr, model_validator
from pysnmp.error import PySnmpError
from pysnmp.hlapi.v3arch import asyncio as hlapi
from pysnmp.proto import errind
from pysnmp.proto.rfc1902 import Integer32, OctetString

from senders.base import ChannelConfig, Notification, Sender
from senders.outcomes import Misconfigured, Receipt, Rejected, SendError, Transient
from senders.reach import addresses, check_host
from senders.text import body, clip, level, one_line, rfc3339, utf8_length

if TYPE_CHECKING:
    from config import Settings
    from senders.http import HttpClient

ARC: Final = "1.3.6.1.4.1.8072.9999.9999.7867"
MAX_SHORT: Final = 96
MAX_MESSAGE: Final = 480
"""Octets of UTF-8. With these limits a notification always fits into one datagram (see the test)."""

MAX_ENGINES: Final = 256
"""Engines kept by a process; each holds a socket and half a megabyte of MIB objects."""

MIN_KEY: Final = 8
"""RFC 3414, 11.2: a password of fewer characters must not be used."""

_EVENTS: Final = {"OPEN": 1, "ACKNOWLEDGED": 2, "ESCALATED": 3, "CLOSED": 4}
_LEVELS: Final = {"info": 1, "warning": 2, "error": 3, "critical": 4}
_MAX_INTEGER: Final = 2**31 - 1

_AUTH: Final = {
    "MD5": hlapi.USM_AUTH_HMAC96_MD5,
    "SHA": hlapi.USM_AUTH_HMAC96_SHA,
    "SHA224": hlapi.USM_AUTH_HMAC128_SHA224,
    "SHA256": hlapi.USM_AUTH_HMAC192_SHA256,
    "SHA384": hlapi.USM_AUTH_HMAC256_SHA384,
    "SHA512": hlapi.USM_AUTH_HMAC384_SHA512,
}
_PRIV: Final = {
    "DES": hlapi.USM_PRIV_CBC56_DES,
    "AES": hlapi.USM_PRIV_CFB128_AES,
    "AES192": hlapi.USM_PRIV_CFB192_AES,
    "AES256": hlapi.USM_PRIV_CFB256_AES,
}

# What pysnmp may say went wrong. What is not listed is a message that no manager of ours could have caused.
_TRANSIENT: Final = (
    errind.RequestTimedOut, errind.EmptyResponse, errind.NotInTimeWindow, errind.DataMismatch,
    errind.EngineIDMismatch, errind.UnknownEngineID, errind.LoopTerminated, errind.ReportPduReceived,
    errind.DeserializationError, errind.InvalidMsg, errind.OtherError,
)  # fmt: skip
_MISCONFIGURED: Final = (
    errind.UnknownCommunityName, errind.NoEncryption, errind.EncryptionError, errind.DecryptionError,
    errind.NoAuthentication, errind.AuthenticationError, errind.AuthenticationFailure,
    errind.UnsupportedAuthProtocol, errind.UnsupportedPrivProtocol, errind.UnknownSecurityName,
    errind.UnsupportedSecurityModel, errind.UnsupportedSecurityLevel, errind.UnknownUserName,
    errind.WrongDigest, errind.UnsupportedMsgProcessingModel, errind.UnknownPDUHandler,
    errind.UnsupportedPDUtype, errind.NonReportable, errind.NoSuchView, errind.NoAccessEntry,
    errind.NoGroupName, errind.NoSuchContext, errind.NotInView, errind.AccessAllowed,
)  # fmt: skip
_REJECTED: Final = (errind.SerializationError, errind.TooBig, errind.OidNotIncreasing)

# Statuses of an inform's response (RFC 3416, 3) that are neither a bad message nor bad luck.
_STATUS_TRANSIENT: Final = frozenset({5, 13})  # genErr, resourceUnavailable
_STATUS_MISCONFIGURED: Final = frozenset({6, 16})  # noAccess, authorizationError


def _check_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not MIN_KEY <= len(text) <= MAX_SHORT or not text.isascii() or not text.isprintable():
        raise ValueError(f"must be {MIN_KEY} to {MAX_SHORT} printable ASCII characters")
    return key


def _check_community(community: SecretStr) -> SecretStr:
    text = community.get_secret_value()
    if not 1 <= len(text) <= MAX_SHORT or not text.isascii() or not text.isprintable():
        raise ValueError(f"must be 1 to {MAX_SHORT} printable ASCII characters")
    return community


class SnmpConfig(ChannelConfig):
    """A manager that takes notifications, and how it knows us."""

    host: Annotated[str, AfterValidator(check_host)]
    port: int = Field(default=162, ge=1, le=65535)
    version: Literal["2c", "3"] = "2c"
    notification: Literal["trap", "inform"] = "trap"
    community: Annotated[SecretStr, AfterValidator(_check_community)] | None = None
    user: Annotated[str, Field(pattern=r"^[!-~]{1,32}$")] | None = None  # RFC 3414, 5: 1 to 32
    auth_protocol: Literal["MD5", "SHA", "SHA224", "SHA256", "SHA384", "SHA512"] | None = None
    auth_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = None
    priv_protocol: Literal["DES", "AES", "AES192", "AES256"] | None = None
    priv_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = None

    @model_validator(mode="after")
    def _check_version(self) -> Self:
        v3_only = (self.user, self.auth_protocol, self.auth_key, self.priv_protocol, self.priv_key)
        if self.version == "2c" and (self.community is None or any(v3_only)):
            raise ValueError("version 2c needs a community, and neither user nor keys")
        if self.version == "3" and (self.user is None or self.community is not None):
            raise ValueError("version 3 needs a user, and no community")
        if (self.auth_protocol is None) != (self.auth_key is None):
            raise ValueError("auth_protocol and auth_key go together")
        if (self.priv_protocol is None) != (self.priv_key is None):
            raise ValueError("priv_protocol and priv_key go together")
        if self.priv_key is not None and self.auth_key is None:
            raise ValueError("priv_key needs an auth_key: SNMP encrypts nothing that it cannot authenticate")
        return self


_Key = tuple[SnmpConfig, str, tuple[str, int]]


class SnmpSender(Sender[SnmpConfig]):
    """Sends traps and informs."""

    name: ClassVar[str] = "snmp"
    Config: ClassVar[type[ChannelConfig]] = SnmpConfig

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        super().__init__(settings, http)
        self._engines: OrderedDict[_Key, hlapi.SnmpEngine] = OrderedDict()

    async def send(self, notification: Notification[SnmpConfig]) -> Receipt:
        """Send one notification. For v3 traps the receipt's detail names our engine id.

        Raises:
            Transient: an inform was not answered; or the name does not resolve.
            Misconfigured: the manager does not accept the user, the keys or the security level.
            Rejected: the manager calls the notification too big or malformed.
        """
        config, deadline = notification.config, self.settings.send_deadline
        try:
            async with asyncio.timeout(deadline):
                address, *_ = await addresses(
                    config.host, config.port, socket.SOCK_DGRAM, self.settings.allowed_networks
                )
                engine = self._engine((config, notification.tenant_id, address))
                said = await _notify(engine, notification, address, deadline)
        except TimeoutError:
            raise Transient("timeout", f"no answer to the inform in {deadline:g} s") from None
        except PySnmpError as error:
            raise translate(error) from None
        indication, status, *_ = said
        if indication:
            raise translate(indication)
        if int(status):
            raise answered(int(status))
        if config.notification == "inform":
            return Receipt("answered")
        engine_id = f"engine id 0x{engine.snmpEngineID.asOctets().hex()}" if config.version == "3" else None
        return Receipt("sent", detail=engine_id)

    def _engine(self, key: _Key) -> hlapi.SnmpEngine:
        """The engine of one channel and address: a shared one repeats a trap for every target it knows."""
        engine = self._engines.pop(key, None)
        if engine is None:
            config, tenant_id, _ = key
            engine = hlapi.SnmpEngine()
            _identify(engine, engine_id(config, tenant_id))
        self._engines[key] = engine
        while len(self._engines) > MAX_ENGINES:
            _, oldest = self._engines.popitem(last=False)
            oldest.close_dispatcher()
        return engine

    async def aclose(self) -> None:
        """Close every engine's socket."""
        while self._engines:
            _, engine = self._engines.popitem()
            engine.close_dispatcher()


def engine_id(config: SnmpConfig, tenant_id: str) -> bytes:
    """The SnmpEngineID under which a channel authenticates its traps, 21 octets (RFC 3411, 5).

    The enterprise is that of the SNMP implementation, pysnmp; format 5 is "octets, administratively
    assigned". Keys are no part of it, so that they can change.
    """
    words = "\0".join((tenant_id, config.host, str(config.port), config.user or ""))
    return bytes.fromhex("80004fb805") + hashlib.sha256(words.encode()).digest()[:16]


def _symbol(engine: hlapi.SnmpEngine, name: str) -> Any:
    (symbol,) = engine.get_mib_builder().import_symbols("__SNMP-FRAMEWORK-MIB", name)
    return symbol


def _identify(engine: hlapi.SnmpEngine, octets: bytes) -> None:
    """Name the engine. The constructor would also count boots in a world-writable directory."""
    symbol = _symbol(engine, "snmpEngineID")
    symbol.syntax = symbol.syntax.clone(octets)
    engine.snmpEngineID = symbol.syntax


def _set_clock(engine: hlapi.SnmpEngine, now: float) -> None:
    """Set (boots, time) from the wall clock: a manager drops traps that are 150 s behind (RFC 3414, 3.2, 7b).

    pysnmp's engine time stands still, and boots counted by each process would make the manager drop the traps
    of all processes but the last. Derived from the clock, both agree between processes and over restarts.
    """
    boots, seconds = divmod(int(now), _MAX_INTEGER + 1)
    for name, value in (("snmpEngineBoots", boots + 1), ("snmpEngineTime", seconds)):
        symbol = _symbol(engine, name)
        symbol.syntax = symbol.syntax.clone(value)


async def _notify(
    engine: hlapi.SnmpEngine,
    notification: Notification[SnmpConfig],
    address: tuple[str, int],
    deadline: float,
) -> tuple[Any, Any, Any, Any]:
    config = notification.config
    kind = hlapi.Udp6TransportTarget if ":" in address[0] else hlapi.UdpTransportTarget
    # One repetition, for the datagram that got lost; the rest of the deadline is for v3's discovery.
    target = await kind.create(address, timeout=max(1, int(deadline // 4)), retries=1)
    _set_clock(engine, time.time())
    content = hlapi.NotificationType(
        hlapi.ObjectIdentity(f"{ARC}.0.{_EVENTS[notification.event]}")
    ).add_varbinds(*variables(notification))
    answer: tuple[Any, Any, Any, Any] = await hlapi.send_notification(
        engine,
        _credentials(config),
        target,
        hlapi.ContextData(),
        config.notification,
        content,
        lookupMib=False,
    )
    return answer


def _credentials(config: SnmpConfig) -> hlapi.CommunityData | hlapi.UsmUserData:
    if config.version == "2c":
        community = config.community.get_secret_value() if config.community else ""
        return hlapi.CommunityData("tocsin", community, mpModel=1)  # noqa: S508  # the channel says so
    return hlapi.UsmUserData(
        config.user,
        authKey=config.auth_key.get_secret_value() if config.auth_key else None,
        privKey=config.priv_key.get_secret_value() if config.priv_key else None,
        authProtocol=_AUTH[config.auth_protocol] if config.auth_protocol else None,
        privProtocol=_PRIV[config.priv_protocol] if config.priv_protocol else None,
    )


def variables(notification: Notification[Any]) -> list[tuple[str, OctetString | Integer32]]:
    """The objects of TOCSIN-MIB in its order, texts clipped to their sizes."""
    alert = notification.alert

    def text(value: object, limit: int = MAX_SHORT) -> OctetString:
        return OctetString(clip(one_line(value), limit, utf8_length).encode())

    values = (
        text(notification.tenant_id),
        text(alert.get("alert_id")),
        text(notification.thread),
        text(str(notification.id)),
        Integer32(_EVENTS[notification.event]),
        Integer32(_LEVELS[level(notification)]),
        Integer32(max(0, min(notification.severity, _MAX_INTEGER))),
        text(alert.get("alert_type") or ""),
        text(alert.get("device_id") or ""),
        text(alert.get("site_id") or ""),
        text(alert.get("triggered_at") or rfc3339(notification.accepted_at)),
        text(body(notification), MAX_MESSAGE),
    )
    return [(f"{ARC}.1.{number}.0", value) for number, value in enumerate(values, 1)]


def translate(error: Exception) -> SendError:
    """The outcome for what pysnmp says instead of an answer.

    Args:
        error: an errind.ErrorIndication, or a PySnmpError that holds one.
    """
    cause = getattr(error, "cause", None)
    inner = next((part for part in (error, cause) if isinstance(part, errind.ErrorIndication)), None) or error
    code = type(inner).__name__
    if isinstance(inner, _REJECTED):
        return Rejected(code, one_line(str(inner)))
    if isinstance(inner, errind.RequestTimedOut):
        return Transient("timeout", "the manager did not answer the inform")
    if isinstance(inner, _TRANSIENT):
        return Transient(code, one_line(str(inner)))
    if isinstance(inner, _MISCONFIGURED):
        return Misconfigured(code, f"the manager does not accept us: {one_line(str(inner))}")
    raise error


def answered(status: int) -> SendError:
    """The outcome for an inform's response with this error status (RFC 3416, 3), of 1 to 18."""
    code = f"error-status {status}"
    if status in _STATUS_TRANSIENT:
        return Transient(code, "the manager could not take the inform now")
    if status in _STATUS_MISCONFIGURED:
        return Misconfigured(code, "the manager does not allow us to send it")
    return Rejected(code, "the manager does not take this inform")
