"""What lives in a worker process, from its boot to its end: the event loop, the senders on it, the sweeper.

Clients are made here, after the fork and on the loop that uses them; the loop's thread is a daemon, so that a second
SIGTERM ends a process whose sends hang (Dramatiq's own AsyncIO middleware waits for it for ever).
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import importlib
import os
import resource
import sys
import threading
from typing import TYPE_CHECKING, Any, TypeVar

import uvloop
from dramatiq.middleware import Middleware

from actors.lanes import Lanes
from actors.work_queue import WorkQueue
from config import SettingsError
from config.logging import configure_logging, get_logger
from senders.http import CONNECTIONS, HttpClient
from senders.registry import SENDERS

if TYPE_CHECKING:
    from collections.abc import Callable, Coroutine
    from concurrent.futures import Future

    from dramatiq import Broker, Worker

    from actors.handing import Lane
    from config import Settings
    from senders.base import Sender

T = TypeVar("T")

#: Seconds in which what was sent last is written.
SETTLING = 5.0

#: Open files of a process: its connections to destinations, and a few to the servers.
FILES = 2 * CONNECTIONS

log = get_logger(__name__)


class Runtime:
    """The event loop of a process and what lives on it. `start` and `stop` may follow each other, as tests do.

    Attributes:
        settings: this process's. Every actor asks here, so that one assignment before `start` changes them all.
        lanes: which destinations are slow at the moment.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._http: HttpClient | None = None
        self._senders: dict[str, Sender[Any]] = {}
        self._hooks: list[Callable[[int, str, str], None]] = []
        self._work: WorkQueue | None = None
        self.lanes = Lanes(self._makes_way)

    def start(self) -> None:
        """Open the loop. Senders are made when the first delivery wants them.

        Raises:
            SettingsError: TOCSIN_DEVICE_INVALID_HOOK cannot be imported.
        """
        if self._loop is not None:
            return
        if self.settings.device_invalid_hook:
            self.on_device_invalid(_imported(self.settings.device_invalid_hook))
        allow_connections()
        self.lanes = Lanes(self._makes_way)
        self._loop = uvloop.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="tocsin-loop", daemon=True)
        self._thread.start()

    @property
    def is_alive(self) -> bool:
        """Whether the event loop runs."""
        return self._thread is not None and self._thread.is_alive()

    def stop(self) -> None:
        """Wait for what is being sent, no longer than a send may take; then close the senders and the loop."""
        if self._loop is None or self._thread is None:
            return
        self.lanes.wait_until_empty(self.settings.send_deadline + SETTLING)
        loop, thread = self._loop, self._thread
        try:
            self.run(self._close())
        finally:
            self._loop = self._thread = None
            loop.call_soon_threadsafe(loop.stop)
            thread.join(timeout=5)
            if not thread.is_alive():
                loop.close()
            self.lanes.close()

    def begin(self, coroutine: Coroutine[Any, Any, T]) -> Future[T]:
        """Run a coroutine on the loop, from another thread, and do not wait for it."""
        if self._loop is None:
            coroutine.close()
            raise RuntimeError("the runtime is not started: it is a worker's, or start it yourself")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop, from another thread, and wait for it."""
        future = self.begin(coroutine)
        try:
            return future.result()
        finally:
            future.cancel()

    def take_work_from(self, queue: WorkQueue) -> None:
        """Name the queue from which this process's worker threads take their messages."""
        self._work = queue

    def awaiting(self, lane: Lane, number: int) -> contextlib.AbstractContextManager[None]:
        """What a worker thread is in while it waits for so many sends of a lane."""
        if self._work is None or not self.lanes.is_idle(lane, number):
            return contextlib.nullcontext()
        return self._work.aside()

    def _makes_way(self) -> bool:
        return self._work is not None and self._work.makes_way()

    def sender(self, name: str) -> Sender[Any]:
        """The one sender of this process for a provider. Call it on the loop.

        Raises:
            KeyError: there is no such sender.
        """
        if name not in self._senders:
            if self._http is None:
                self._http = HttpClient(self.settings)
            self._senders[name] = SENDERS[name](self.settings, self._http)
        return self._senders[name]

    def on_device_invalid(self, hook: Callable[[int, str, str], None]) -> None:
        """Have a function called after a device was disabled: (device id, user id, the provider's words)."""
        if hook not in self._hooks:
            self._hooks.append(hook)

    def device_invalid(self, device_id: int, user_id: str, why: str) -> None:
        """Call the hooks. One that fails is logged: it is somebody else's code, and the device stays disabled."""
        for hook in self._hooks:
            try:
                hook(device_id, user_id, why)
            except Exception:
                log.exception("device_invalid_hook_failed", device_id=device_id)

    async def _close(self) -> None:
        for sender in self._senders.values():
            await sender.aclose()
        self._senders.clear()
        if self._http is not None:
            await self._http.aclose()
            self._http = None


def _imported(hook: str) -> Callable[[int, str, str], None]:
    """The function that TOCSIN_DEVICE_INVALID_HOOK names."""
    module, _, name = hook.partition(":")
    try:
        found: Callable[[int, str, str], None] = getattr(importlib.import_module(module), name)
    except Exception as error:  # noqa: BLE001  # somebody else's code runs here, too
        why = " ".join(f"{type(error).__name__}: {error}".split())
        raise SettingsError(f"TOCSIN_DEVICE_INVALID_HOOK: cannot be imported: {why}") from None
    if not callable(found):
        raise SettingsError("TOCSIN_DEVICE_INVALID_HOOK: must be package.module:function")
    return found


def calm_the_collector() -> None:
    """Have Python's cycle collector leave the loaded program alone, and come by less often.

    What a notification allocates is freed by its reference counts. The collector, at its defaults, took a fifth of a
    worker's processor time to find nothing (measured with perf; 680 us of Python a notification, then 540).
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)


def allow_connections() -> None:
    """Raise the limit of open files, 1,024 on many systems, as far as a process may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = FILES if hard == resource.RLIM_INFINITY else min(FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


class RuntimeMiddleware(Middleware):
    """Ties a runtime, and the sweep, to the life of a Dramatiq worker.

    Args:
        runtime: what to start and stop.
        boot: called before a worker begins.
        sweep: one round of the sweep; runs in a thread of its own, since the queue may be what was lost.
    """

    def __init__(self, runtime: Runtime, *, boot: Callable[[], None], sweep: Callable[[], object]) -> None:
        self.runtime = runtime
        self._boot = boot
        self._sweep = sweep
        self._stopping = threading.Event()
        self._sweeper: threading.Thread | None = None

    def after_process_boot(self, broker: Broker) -> None:  # noqa: ARG002  # Dramatiq's signature, here and below
        """In a process of Dramatiq's CLI, which has set up logs of its own by now: speak through ours."""
        configure_logging(self.runtime.settings)
        calm_the_collector()

    def before_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """The process is up, its threads are not."""
        worker.work_queue = WorkQueue(worker)
        self.runtime.take_work_from(worker.work_queue)
        self._boot()
        try:
            self.runtime.start()
        except SettingsError as error:
            # Dramatiq would log any other exception, and let the worker work on.
            sys.exit(f"tocsin: {error}")

    def after_worker_boot(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Threads are up: begin to sweep, and to watch them."""
        self._stopping.clear()
        self._sweeper = threading.Thread(target=self._run, args=(worker,), name="tocsin-sweep", daemon=True)
        self._sweeper.start()

    def before_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """No new work from here on."""
        self._stopping.set()

    def after_worker_shutdown(self, broker: Broker, worker: Worker) -> None:  # noqa: ARG002
        """Every message in hand is done."""
        if self._sweeper is not None:
            self._sweeper.join(timeout=5)
        self.runtime.stop()

    def _run(self, worker: Worker) -> None:
        while not self._stopping.wait(self.runtime.settings.sweep_interval):
            try:
                self._sweep()
            except Exception:
                # The database may be away. The next round finds what this one did not.
                log.exception("sweep_failed")
            if not self._stopping.is_set() and (dead := self.dead_threads(worker)):
                # An interrupt came at the wrong moment. Dramatiq would go on with fewer threads, in the end with none
                # or deaf to a queue: better to end the process, whose supervisor starts a whole one.
                log.critical(
                    "thread_died", threads=dead, remedy="the process ends; its supervisor starts another"
                )
                os._exit(70)

    def dead_threads(self, worker: Worker) -> list[str]:
        """Which of a worker's threads have ended: of those that work, that consume, and the event loop's."""
        threads = [*worker.workers, *worker.consumers.values()]
        found = [thread.name for thread in threads if not thread.is_alive()]
        return found if self.runtime.is_alive else [*found, "tocsin-loop"]
