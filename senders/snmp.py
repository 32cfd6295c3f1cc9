"""SNMP notifications, as traps or informs, over v2c or v3, with the objects of TOCSIN-MIB.txt.

Set up:
    1. Load TOCSIN-MIB.txt into the manager.
    2. v2c: give the channel `host` and the manager's `community`.
    3. v3: give it `user`, and `auth_protocol` with `auth_key`, and `priv_protocol` with `priv_key`, as the
       manager knows them. For traps the manager also needs our engine id: every receipt names it, and it
       never changes for one host, port, user and tenant. For informs the manager's own engine counts.

A trap is sent, never known to be delivered: the receipt says "sent". An inform is answered, or tried again. Where a
name has several addresses, an inform goes to one after the other until it is answered, and a trap to the first that
this machine has a way to: there is no answer to judge by, and a manager with two would show every alarm twice.
CLOSED has a notification of its own, which clears what the others raised with the same tocsinThread.
The MIB has no title: what a channel's title_template makes begins the message.

Facts: RFC 3417 3 (UDP), RFC 3411 5 (SnmpEngineID), RFC 3414 (users and keys); more in senders.snmp_engine
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import socket
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Literal, Self

from pydantic import AfterValidator, BeforeValidator, Field, SecretStr, model_validator

from senders.base import ChannelConfig, Notification, Sender
from senders.deadline import Deadline
from senders.kept import Opened
from senders.notes import Notes
from senders.outcomes import Receipt, SendError, Transient
from senders.reach import addresses, check_host, has_way_to

if TYPE_CHECKING:
    from types import ModuleType

    from pysnmp.hlapi.v3arch.asyncio import SnmpEngine

    from config import Settings
    from senders.http import HttpClient

MIN_KEY: Final = 8
"""RFC 3414, 11.2: a password of fewer characters must not be used."""

MAX_KEY: Final = 96


def _check_key(key: SecretStr) -> SecretStr:
    text = key.get_secret_value()
    if not MIN_KEY <= len(text) <= MAX_KEY or not text.isascii() or not text.isprintable():
        raise ValueError(f"must be {MIN_KEY} to {MAX_KEY} printable ASCII characters")
    return key


def _check_community(community: SecretStr) -> SecretStr:
    text = community.get_secret_value()
    if not 1 <= len(text) <= MAX_KEY or not text.isascii() or not text.isprintable():
        raise ValueError(f"must be 1 to {MAX_KEY} printable ASCII characters")
    return community


def _upper(value: Any) -> Any:
    return value.upper() if isinstance(value, str) else value


def _lower(value: Any) -> Any:
    return value.lower() if isinstance(value, str) else value


class SnmpConfig(ChannelConfig):
    """A manager that takes notifications, and how it knows us."""

    host: Annotated[str, AfterValidator(check_host)]
    port: int = Field(default=162, ge=1, le=65535)
    version: Literal["2c", "3"] = "2c"
    notification: Annotated[Literal["trap", "inform"], BeforeValidator(_lower)] = "trap"
    community: Annotated[SecretStr, AfterValidator(_check_community)] | None = None
    user: Annotated[str, Field(pattern=r"^[!-~]{1,32}$")] | None = None  # RFC 3414, 5: 1 to 32
    auth_protocol: Annotated[
        Literal["MD5", "SHA", "SHA224", "SHA256", "SHA384", "SHA512"] | None, BeforeValidator(_upper)
    ] = None
    auth_key: Annotated[SecretStr, AfterValidator(_check_key)] | None = None
    priv_protocol: Annotated[Literal["DES", "AES", "AES192", "AES256"] | None, BeforeValidator(_upper)] = None
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


@dataclass(slots=True)
class _Manager:
    """One address of a channel's manager.

    Attributes:
        engine: for it alone: a shared one repeats a trap for every target it knows.
        is_silent: whether it left the last inform unanswered.
    """

    engine: SnmpEngine
    is_silent: bool = False


class SnmpSender(Sender[SnmpConfig]):
    """Sends traps and informs."""

    name: ClassVar[str] = "snmp"
    Config: ClassVar[type[ChannelConfig]] = SnmpConfig

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        super().__init__(settings, http)
        self._engines: Opened[_Key, _Manager] = Opened(_close)
        # One, since pysnmp reads its MIBs with runpy, which is for one thread at a time.
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="tocsin-snmp")

    async def send(self, notification: Notification[SnmpConfig]) -> Receipt:
        """Send one notification. The receipt's detail says what was clipped, and for v3 traps our engine id.

        Raises:
            Transient: an inform was not answered; or the name does not resolve.
            Misconfigured: the manager does not accept the user, the keys or the security level.
            Rejected: the manager calls the notification too big or malformed.
        """
        config, deadline = notification.config, self.settings.send_deadline
        try:
            async with Deadline(deadline):
                code, notes = await self._notify(notification)
        except TimeoutError:
            raise Transient("timeout", f"no answer to the inform in {deadline:g} s") from None
        if config.version == "3" and config.notification == "trap":
            notes.add(f"engine id 0x{engine_id(config, notification.tenant_id).hex()}")
        return Receipt(code, detail=notes.detail)

    async def _notify(self, notification: Notification[SnmpConfig]) -> tuple[str, Notes]:
        """A trap goes to the first address, an inform to the first that answers it."""
        config = notification.config
        found = await addresses(config.host, config.port, socket.SOCK_DGRAM, self.settings.allowed_networks)
        found = [address for address in found if has_way_to(address)] or found
        keys = [(config, notification.tenant_id, address) for address in found]
        keys.sort(key=self._is_silent)
        # For one as much time as for two: with version 3 it is to be found out first who the manager is.
        seconds = self.settings.send_deadline / max(2, len(keys))
        for key in keys[:-1]:
            notes = Notes(notification)
            try:
                return await self._notify_at(key, notification, notes, seconds), notes
            except Transient as error:
                if error.code != "timeout":
                    raise
        notes = Notes(notification)
        return await self._notify_at(keys[-1], notification, notes, seconds), notes

    async def _notify_at(
        self, key: _Key, notification: Notification[SnmpConfig], notes: Notes, seconds: float
    ) -> str:
        with self._engines.open(key, functools.partial(self._make, key)) as making:
            manager = await asyncio.shield(making)
            is_silent = True
            try:
                code: str = await _pysnmp().notify(manager.engine, notification, notes, key[-1], seconds)
                is_silent = False
            except SendError as error:
                is_silent = error.code == "timeout"
                raise
            finally:
                manager.is_silent = is_silent
            return code

    def _is_silent(self, key: _Key) -> bool:
        making = self._engines.get(key)
        if making is None or not making.done() or making.cancelled() or making.exception() is not None:
            return False
        return making.result().is_silent

    async def _make(self, key: _Key) -> _Manager:
        config, tenant_id, _ = key
        octets = engine_id(config, tenant_id)
        loop = asyncio.get_running_loop()
        return _Manager(await loop.run_in_executor(self._thread, lambda: _pysnmp().make_engine(octets)))

    async def aclose(self) -> None:
        """Close every engine's socket."""
        await self._engines.aclose()
        self._thread.shutdown(wait=False, cancel_futures=True)


def _pysnmp() -> ModuleType:
    """What speaks to pysnmp. Slow the first time: call it in a thread."""
    from senders import snmp_engine  # noqa: PLC0415  # pysnmp takes half a second to import

    return snmp_engine


async def _close(manager: _Manager) -> None:
    manager.engine.close_dispatcher()


def engine_id(config: SnmpConfig, tenant_id: str) -> bytes:
    """The SnmpEngineID under which a channel authenticates its traps, 21 octets (RFC 3411, 5).

    The enterprise is that of the SNMP implementation, pysnmp; format 5 is "octets, administratively
    assigned". Keys are no part of it, so that they can change.
    """
    words = "\0".join((tenant_id, config.host, str(config.port), config.user or ""))
    return bytes.fromhex("80004fb805") + hashlib.sha256(words.encode()).digest()[:16]
