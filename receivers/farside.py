"""All receivers together, on an event loop of their own."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import tempfile
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Self

from aiohttp import web

from receivers.apns import Apns
from receivers.control import Control
from receivers.fcm import Fcm
from receivers.http import LARGEST_BODY
from receivers.pagerduty import PagerDuty
from receivers.slack import Slack
from receivers.teams import Teams
from receivers.webhook import Webhook
from receivers.webpush import SUBJECT, WebPush

if TYPE_CHECKING:
    from collections.abc import Callable
    from types import TracebackType

    from receivers.base import Receiver
    from receivers.http import HttpReceiver
    from receivers.records import Received

try:
    import uvloop
except ImportError:  # where uvloop does not build, asyncio's own loop does the same, slower
    _new_loop: Callable[[], asyncio.AbstractEventLoop] = asyncio.new_event_loop
else:
    _new_loop = uvloop.new_event_loop

HOST = "127.0.0.1"
START_TIMEOUT = 10.0


class FarSide:
    """Every provider, on the loopback interface; a context manager.

    Args:
        verify: False answers whatever arrives as if it were right (benchmarks).
        port, apns_port: fixed ports for HTTP and for APNs; 0 lets the system choose.
        on_received: called with each `Received`, on the receivers' event loop; it must be quick.

    Attributes:
        apns, fcm, webpush, slack, teams, pagerduty, webhook: the receivers.
        receivers: the same, by name.
        url: the HTTP receivers' origin.
        directory: keys and certificates, until the end.
    """

    def __init__(
        self,
        *,
        verify: bool = True,
        port: int = 0,
        apns_port: int = 0,
        on_received: Callable[[Received], None] | None = None,
    ) -> None:
        # Bound before the files are written, because they name the address.
        self._socket = socket.create_server((HOST, port), backlog=1024)
        self._files = tempfile.TemporaryDirectory(prefix="far-side-")
        self.directory = Path(self._files.name)
        self.url = f"http://{HOST}:{self._socket.getsockname()[1]}"
        self._apns_port = apns_port

        self.apns = Apns(self.directory, verify=verify, on_received=on_received)
        self.fcm = Fcm(self.directory, self.url, verify=verify, on_received=on_received)
        self.webpush = WebPush(self.directory, self.url, verify=verify, on_received=on_received)
        self.slack = Slack(self.url, verify=verify, on_received=on_received)
        self.teams = Teams(self.url, verify=verify, on_received=on_received)
        self.pagerduty = PagerDuty(self.url, verify=verify, on_received=on_received)
        self.webhook = Webhook(self.url, verify=verify, on_received=on_received)
        self._http: list[HttpReceiver] = [
            self.fcm,
            self.webpush,
            self.slack,
            self.teams,
            self.pagerduty,
            self.webhook,
        ]
        self.receivers: dict[str, Receiver] = {each.name: each for each in (self.apns, *self._http)}

        self._loop: asyncio.AbstractEventLoop | None = None
        self._stopping: asyncio.Event | None = None
        self._started = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="far-side", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        self._started.wait(START_TIMEOUT)
        if self._failure:
            self.stop()
            raise self._failure
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening, cut what is connected, remove the files."""
        if self._loop and self._stopping:
            with contextlib.suppress(RuntimeError):  # the loop ended by itself
                self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread.is_alive():
            self._thread.join()
        self._socket.close()
        self._files.cleanup()

    def environment(self) -> dict[str, str]:
        """The settings by which a worker reaches the push services; channels carry their own addresses."""
        apns = self.apns.credential
        return {
            "TOCSIN_ALLOWED_NETWORKS": "127.0.0.0/8",
            "TOCSIN_APNS_KEY_FILE": str(apns.key_file),
            "TOCSIN_APNS_KEY_ID": apns.key_id,
            "TOCSIN_APNS_TEAM_ID": apns.team_id,
            "TOCSIN_APNS_TOPIC": apns.topic,
            "TOCSIN_APNS_HOST": self.apns.host,
            "TOCSIN_APNS_PORT": str(self.apns.port),
            "TOCSIN_APNS_CA_FILE": str(self.apns.ca_file),
            "TOCSIN_FCM_CREDENTIALS_FILE": str(self.fcm.account.credentials_file),
            "TOCSIN_FCM_URL": self.url,
            "TOCSIN_VAPID_PRIVATE_KEY_FILE": str(self.webpush.vapid_key_file),
            "TOCSIN_VAPID_SUBJECT": SUBJECT,
        }

    def normal(self) -> None:
        """Forget all ordered answers."""
        for each in self.receivers.values():
            each.normal()

    def clear(self) -> None:
        """Forget all that arrived."""
        for each in self.receivers.values():
            each.clear()

    def _run(self) -> None:
        try:
            with asyncio.Runner(loop_factory=_new_loop) as runner:
                runner.run(self._serve())
        except BaseException as failure:  # noqa: BLE001  # whatever it is, the thread that waits must hear of it
            self._failure = failure
        finally:
            self._started.set()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        app = web.Application(client_max_size=LARGEST_BODY)
        for each in self._http:
            app.add_routes(each.routes())
        app.add_routes(Control(self.receivers, self.webpush).routes())
        # A client that hangs up cancels its handler, so that stalled requests do not gather.
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0.1)
        await runner.setup()
        try:
            await web.SockSite(runner, self._socket, backlog=1024).start()
            await self.apns.start(self._apns_port)
            self._started.set()
            await self._stopping.wait()
        finally:
            await self.apns.stop()
            await runner.cleanup()
