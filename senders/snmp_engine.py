"""What the SNMP sender does with pysnmp: engines, their clock, the notification, what its errors mean.

Apart from senders.snmp because pysnmp takes half a second to import, which only who sends traps shall pay.

Facts: RFC 3416 3 (error statuses), 4.2.6 and 4.2.7 (trap, inform); RFC 3414 2.2 and 3.2 (time windows);
https://docs.lextudio.com/pysnmp/v7.1/ and the source of pysnmp 7.1
"""

from __future__ import annotations

import asyncio
import time
import warnings
from typing import TYPE_CHECKING, Any, Final

from senders.deadline import check_deadline
from senders.outcomes import Misconfigured, Rejected, SendError, Transient
from senders.text import body, level, one_line, rfc3339, title, utf8_length

with warnings.catch_warnings():
    # Where there is pysmi, pysnmp imports it by names that pysmi calls deprecated.
    warnings.simplefilter("ignore", DeprecationWarning)
    from pysnmp.entity.rfc3413.ntforg import NotificationOriginator
    from pysnmp.error import PySnmpError
    from pysnmp.hlapi.v3arch import asyncio as hlapi
    from pysnmp.hlapi.v3arch.asyncio.lcd import NotificationOriginatorLcdConfigurator
    from pysnmp.proto import errind
    from pysnmp.proto.error import StatusInformation
    from pysnmp.proto.rfc1902 import Integer32, ObjectIdentifier, OctetString

if TYPE_CHECKING:
    from senders.base import Notification
    from senders.notes import Notes
    from senders.snmp import SnmpConfig

__all__ = ["ARC", "answered", "make_engine", "notify", "translate", "variables"]

ARC: Final = "1.3.6.1.4.1.8072.9999.9999.7867"
"""The root of TOCSIN-MIB.txt."""

MAX_SHORT: Final = 96
MAX_MESSAGE: Final = 480
"""Octets of UTF-8. With these limits a notification fits into the 1,472 octets of one Ethernet datagram."""

_TRAP_OID: Final = "1.3.6.1.6.3.1.1.4.1.0"
_LCD: Final = NotificationOriginatorLcdConfigurator()
_EVENTS: Final = {"OPEN": 1, "ACKNOWLEDGED": 2, "ESCALATED": 3, "CLOSED": 4}
_LEVELS: Final = {"info": 1, "warning": 2, "error": 3, "critical": 4}
_MIBS: Final = (
    "PYSNMP-MIB", "PYSNMP-USM-MIB", "__PYSNMP-USM-MIB", "PYSNMP-SOURCE-MIB", "SNMPv2-TM", "SNMP-NOTIFICATION-MIB",
    "SNMP-VIEW-BASED-ACM-MIB", "__SNMPv2-MIB", "__SNMP-MPD-MIB", "__SNMP-USER-BASED-SM-MIB", "__SNMP-TARGET-MIB",
)  # fmt: skip
"""What pysnmp otherwise loads in the midst of a send."""
_VERSION_3: Final = 3
"""SNMPv3's message processing model (RFC 3411, 5)."""
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


def make_engine(octets: bytes) -> hlapi.SnmpEngine:
    """An engine of this SnmpEngineID. It takes a sixth of a second, and needs no event loop yet."""
    engine = hlapi.SnmpEngine()
    engine.get_mib_builder().load_modules(*_MIBS)
    # Given to the constructor, the id would make pysnmp count boots in a world-writable directory.
    symbol = _symbol(engine, "snmpEngineID")
    symbol.syntax = symbol.syntax.clone(octets)
    engine.snmpEngineID = symbol.syntax
    return engine


def _symbol(engine: hlapi.SnmpEngine, name: str) -> Any:
    (symbol,) = engine.get_mib_builder().import_symbols("__SNMP-FRAMEWORK-MIB", name)
    return symbol


def _set_clock(engine: hlapi.SnmpEngine, now: float) -> None:
    """Set (boots, time) from the wall clock: a manager drops traps that are 150 s behind (RFC 3414, 3.2, 7b).

    pysnmp's engine time stands still, and boots counted by each process would make the manager drop the traps
    of all processes but the last. Derived from the clock, both agree between processes and over restarts.
    """
    boots, seconds = divmod(int(now), _MAX_INTEGER + 1)
    for name, value in (("snmpEngineBoots", boots + 1), ("snmpEngineTime", seconds)):
        symbol = _symbol(engine, name)
        symbol.syntax = symbol.syntax.clone(value)


async def notify(
    engine: hlapi.SnmpEngine,
    notification: Notification[SnmpConfig],
    notes: Notes,
    address: tuple[str, int],
    seconds: float,
) -> str:
    """Send one notification.

    Args:
        engine: the channel's own.
        notification: what to say, and in its config to whom.
        notes: learns what had to be clipped.
        address: where to, numeric.
        seconds: for one exchange; an inform is repeated once, half way.

    Returns:
        "sent" for a trap, "answered" for an inform.

    Raises:
        SendError: an inform was refused or not answered, or pysnmp could not send it.
        TimeoutError: too late.
    """
    try:
        return await _notify(engine, notification, notes, address, seconds)
    except PySnmpError as error:
        raise translate(error) from None


async def _notify(
    engine: hlapi.SnmpEngine,
    notification: Notification[SnmpConfig],
    notes: Notes,
    address: tuple[str, int],
    seconds: float,
) -> str:
    config = notification.config
    kind = hlapi.Udp6TransportTarget if ":" in address[0] else hlapi.UdpTransportTarget
    # One repetition, for the datagram that got lost.
    target = await kind.create(address, timeout=max(1, int(seconds // 2)), retries=1)
    _set_clock(engine, time.time())
    # Not hlapi.send_notification: it looks every name up in a MIB, and where there is pysmi it asks the Internet.
    name = _LCD.configure(engine, _credentials(config), target, config.notification, b"")
    answer: asyncio.Future[tuple[Any, Any]] = asyncio.get_running_loop().create_future()
    objects = [
        (_TRAP_OID, ObjectIdentifier(f"{ARC}.0.{_EVENTS[notification.event]}")),
        *variables(notification, notes),
    ]
    check_deadline()  # pysnmp's own steps, a v3 inform's discovery and repetition, come without it
    NotificationOriginator().send_varbinds(engine, name, None, b"", objects, _settle, answer)
    if config.notification == "trap":
        return "sent"
    indication: Any = "cancelled"
    try:
        indication, status = await answer
    finally:
        if indication:
            _forget_manager(engine)
    if indication:
        raise translate(indication)
    if int(status):
        raise answered(int(status))
    return "answered"


def _forget_manager(engine: hlapi.SnmpEngine) -> None:
    """Have the next v3 inform ask who the manager is.

    pysnmp asks for the engine id that it once found out for five minutes more, also where a manager that was set up
    anew, or a cluster's other half, has taken the address over, and says nothing to that. An engine is for one channel
    and address; another would take a third of a second to make.
    """
    model = engine.message_processing_subsystems[_VERSION_3]
    for name in ("engineIdCache", "engineIdCacheExpQueue"):
        # No public way; the tests notice if pysnmp drops these names.
        getattr(model, f"_SnmpV3MessageProcessingModel__{name}").clear()


def _settle(
    _engine: Any, _request: Any, indication: Any, status: Any, _index: Any, _objects: Any, answer: Any
) -> None:
    """What pysnmp calls when an inform has ended, one way or the other."""
    if not answer.done():
        answer.set_result((indication, status))


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


def variables(notification: Notification[Any], notes: Notes) -> list[tuple[str, OctetString | Integer32]]:
    """The objects of TOCSIN-MIB in its order, texts clipped to their sizes and noted."""
    alert = notification.alert
    said = body(notification)
    if notification.config.title_template is not None:
        said = f"{title(notification)}: {said}"

    def text(name: str, value: object, limit: int = MAX_SHORT) -> OctetString:
        return OctetString(notes.clip(name, one_line(value), limit, utf8_length).encode())

    values = (
        text("tenant", notification.tenant_id),
        text("alert_id", alert.get("alert_id")),
        text("thread", notification.thread),
        text("id", str(notification.id)),
        Integer32(_EVENTS[notification.event]),
        Integer32(_LEVELS[level(notification)]),
        Integer32(max(0, min(notification.severity, _MAX_INTEGER))),
        text("alert_type", alert.get("alert_type") or ""),
        text("device_id", alert.get("device_id") or ""),
        text("site_id", alert.get("site_id") or ""),
        text("triggered_at", alert.get("triggered_at") or rfc3339(notification.accepted_at)),
        text("message", said, MAX_MESSAGE),
    )
    return [(f"{ARC}.1.{number}.0", value) for number, value in enumerate(values, 1)]


def translate(error: Exception) -> SendError:
    """The outcome for what pysnmp says instead of an answer.

    Args:
        error: an errind.ErrorIndication, or a PySnmpError that holds one.
    """
    cause = error.get("errorIndication") if isinstance(error, StatusInformation) else None
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
