"""Name lookups in threads of our own: a name whose servers do not answer delays no other name's lookup.

uvloop looks names up in libuv's four threads, of which slow lookups may take half, and one whose asker has gone goes on
there: two dead names delayed everybody's sends. Here a few dozen may hang, what everybody asks for is looked up once,
and names that are known to answer have threads which no others may take.

Not aiodns (c-ares): it knows nothing of nsswitch.conf, by which many an installation finds its own hosts.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import copy
import ipaddress
import socket
import threading
import time
from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from aiohttp.abc import AbstractResolver, ResolveResult

if TYPE_CHECKING:
    from collections.abc import Callable

THREADS: Final = 48
"""Lookups under way in a process at most, of names that are new or were slow; more wait for one of these to end."""

PROMPT_THREADS: Final = 16
"""The same for names that have answered promptly."""

PROMPT: Final = 1.0
"""Seconds."""

FAILURE_HOLDS: Final = 1.0
"""Seconds for which a name that was not found is not asked for again."""

MOST_KNOWN: Final = 4096
"""Names that a process knows to be prompt, or not to be found."""

_NUMERIC: Final = socket.AI_NUMERICHOST | socket.AI_NUMERICSERV

Found = list[tuple[socket.AddressFamily, str]]


class _Question(NamedTuple):
    host: str
    family: int
    kind: int
    flags: int


class _Lookup:
    """One that is under way or waits for a thread, shared by all who ask the same."""

    def __init__(self) -> None:
        self.askers = 0
        self.answer: concurrent.futures.Future[Found | Exception] = concurrent.futures.Future()
        self.answer.set_running_or_notify_cancel()  # from here on an asker's cancellation is its own


class _Threads:
    """Made as they are needed, and gone when there is nothing to do.

    Daemons, since the interpreter waits at its end for the threads of an executor, whatever they do.
    """

    def __init__(self, most: int) -> None:
        self._most = most
        self._count = 0
        self._jobs: deque[Callable[[], None]] = deque()
        self._lock = threading.Lock()

    def do(self, job: Callable[[], None]) -> None:
        """Have it done, as soon as there is a thread for it. It must not raise.

        Raises:
            socket.gaierror: the system has no thread left.
        """
        with self._lock:
            self._jobs.append(job)
            if self._count == self._most:
                return
            self._count += 1
        try:
            threading.Thread(target=self._work, name="names", daemon=True).start()
        except RuntimeError as error:
            with self._lock:
                self._count -= 1
                if not self._count and job in self._jobs:
                    self._jobs.remove(job)
                    raise socket.gaierror(socket.EAI_AGAIN, str(error)) from None

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._jobs:
                    self._count -= 1
                    return
                job = self._jobs.popleft()
            job()


class Names:
    """Looks names up, for any number of event loops.

    Args:
        getaddrinfo: as the system's, which is what is called if it is None.
    """

    def __init__(self, getaddrinfo: Callable[..., list[Any]] | None = None) -> None:
        self._getaddrinfo = getaddrinfo
        self._lock = threading.Lock()
        self._threads, self._prompt_threads = _Threads(THREADS), _Threads(PROMPT_THREADS)
        self._lookups: dict[_Question, _Lookup] = {}
        self._prompt: OrderedDict[_Question, None] = OrderedDict()
        self._failures: OrderedDict[_Question, tuple[float, Exception]] = OrderedDict()

    async def look_up(
        self, host: str, *, kind: socket.SocketKind, family: int = socket.AF_UNSPEC, flags: int = 0
    ) -> Found:
        """The addresses of a host, in the resolver's order.

        Args:
            host: a name or an address.
            kind: SOCK_STREAM or SOCK_DGRAM.
            family: only these addresses.
            flags: getaddrinfo's.

        Raises:
            socket.gaierror, UnicodeError: it has none, or none is known now.
        """
        question = _Question(host, family, kind, flags)
        if _is_address(host):
            return self._ask(question._replace(flags=flags | socket.AI_NUMERICHOST))
        lookup = self._join(question)
        try:
            result = await asyncio.wrap_future(lookup.answer)
        finally:
            with self._lock:
                lookup.askers -= 1
        if isinstance(result, Exception):
            # Each asker has one of its own: they are raised, and keep what their raisers held.
            raise copy.copy(result) from None
        return result

    def _join(self, question: _Question) -> _Lookup:
        """The lookup that is under way, or a new one; or one that has failed just now."""
        with self._lock:
            lookup = self._lookups.get(question)
            if lookup is None:
                lookup = _Lookup()
                failed_at, failure = self._failures.get(question, (0.0, None))
                if failure is not None and time.monotonic() - failed_at < FAILURE_HOLDS:
                    lookup.answer.set_result(failure)
                else:
                    threads = self._prompt_threads if question in self._prompt else self._threads
                    threads.do(lambda: self._perform(question, lookup))
                    self._lookups[question] = lookup
            lookup.askers += 1
            return lookup

    def _perform(self, question: _Question, lookup: _Lookup) -> None:
        """What a thread does."""
        with self._lock:
            if not lookup.askers:
                del self._lookups[question]
                return
        began = time.monotonic()
        result: Found | Exception
        try:
            result = self._ask(question)
        except Exception as error:  # noqa: BLE001  # whatever it is, it is for those who asked
            result = error.with_traceback(None)
        ended = time.monotonic()
        with self._lock:
            del self._lookups[question]
            self._prompt.pop(question, None)
            self._failures.pop(question, None)
            if isinstance(result, Exception):
                self._failures[question] = ended, result
            elif ended - began < PROMPT:
                self._prompt[question] = None
            for known in (self._prompt, self._failures):
                if len(known) > MOST_KNOWN:
                    known.popitem(last=False)
        lookup.answer.set_result(result)

    def _ask(self, question: _Question) -> Found:
        ask = self._getaddrinfo or socket.getaddrinfo
        host, family, kind, flags = question
        found = ask(host, None, family=family, type=kind, flags=flags)
        return list(dict.fromkeys((family, _text(address)) for family, _, _, _, address in found))


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


def _text(address: tuple[Any, ...]) -> str:
    """A socket address without its port; link-local ones need their interface."""
    text, *rest = address
    scope = rest[2] if len(rest) > 2 else 0  # noqa: PLR2004  # (host, port, flow, scope) of IPv6
    return f"{text}%{scope}" if scope else str(text)


system = Names()
"""Those of this process."""


class Resolver(AbstractResolver):
    """`system` for aiohttp."""

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_INET
    ) -> list[ResolveResult]:
        """As aiohttp's own: only kinds of addresses that this machine has itself."""
        found = await system.look_up(host, kind=socket.SOCK_STREAM, family=family, flags=socket.AI_ADDRCONFIG)
        return [
            ResolveResult(hostname=host, host=address, port=port, family=kind, proto=0, flags=_NUMERIC)
            for kind, address in found
        ]

    async def close(self) -> None:
        """Nothing to close."""
