"""A Firebase service account: its project, and access tokens that are there before they are needed.

google-auth signs and reads, in a thread because the RSA signature and its first import stall an event loop; our own
HTTP client carries the request, so that the guard, the deadline and TOCSIN_TRUST_ENV hold for it too. No thread waits
for the answer: google-auth is called once to say what it asks for, and once more to read what was answered.
Facts: https://developers.google.com/identity/protocols/oauth2/service-account
"""

from __future__ import annotations

import asyncio
import contextvars
import json
import math
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import urlsplit

from senders.deadline import now
from senders.devices import MismatchWatch
from senders.guard import is_allowed
from senders.outcomes import Misconfigured, Transient
from senders.text import clip, one_line

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from concurrent.futures import Executor

    from senders.guard import Network
    from senders.http import HttpClient

GOOGLE_TOKEN_URIS: Final = frozenset(
    {"https://oauth2.googleapis.com/token", "https://accounts.google.com/o/oauth2/token"}
)
_PROJECT: Final = re.compile(r"[a-z0-9][a-z0-9.:-]{0,99}")
_NOT_NOW: Final = frozenset({"internal_failure", "server_error", "temporarily_unavailable"})


def check_token_uri(uri: str, allowed_networks: Sequence[Network]) -> None:
    """Accept the token endpoint that a tenant's service account names.

    The operator's own file may name any; a tenant's only Google's, or an address that the operator opened
    with TOCSIN_ALLOWED_NETWORKS: to any other place a tenant has no honest reason to send this machine.

    Raises:
        Misconfigured: it is another.
    """
    host = urlsplit(uri).hostname or ""
    if uri not in GOOGLE_TOKEN_URIS and not (is_allowed(host, allowed_networks) and not is_allowed(host)):
        raise Misconfigured("bad credentials", "FCM: the service account's token_uri is not Google's")


@dataclass(frozen=True, slots=True)
class _Response:
    """An answer as google-auth reads it."""

    status: int
    headers: Mapping[str, str]
    data: bytes


class _WantedError(Exception):
    """google-auth wants this request made."""

    def __init__(self, method: str, url: str, body: bytes, headers: Mapping[str, str]) -> None:
        super().__init__(method, url)
        self.method, self.url, self.body, self.headers = method, url, body, headers


class ServiceAccount:
    """One service account. `create` makes it; the first token is fetched with the first header.

    How old a token is says a clock that is never set: Google counts its seconds, whatever time it is here.

    Attributes:
        project: the Firebase project's id.
        watch: see `MismatchWatch`.
    """

    EARLY: ClassVar[float] = 300.0
    """Seconds before its end at which a token is replaced in the background."""

    MARGIN: ClassVar[float] = 30.0
    """Seconds before its end from which a token is not used any more."""

    MIN_INTERVAL: ClassVar[float] = 60.0
    """Seconds between two tokens that are fetched because one was refused."""

    def __init__(
        self,
        project: str,
        credentials: Any,
        http: HttpClient,
        threads: Executor,
        deadline: float,
        *,
        clock: Callable[[], float] = now,
    ) -> None:
        self.project = project
        self.watch = MismatchWatch()
        self._credentials = credentials
        self._http = http
        self._threads = threads
        self._deadline = deadline
        self._clock = clock
        self._header = ""
        self._ends_at = self._forced_at = -math.inf
        self._refreshing: asyncio.Task[None] | None = None

    @classmethod
    def create(
        cls,
        document: str,
        http: HttpClient,
        threads: Executor,
        deadline: float,
        tenants_networks: Sequence[Network] | None = None,
    ) -> ServiceAccount:
        """Read a service account's JSON. Slow the first time: call it in a thread.

        Args:
            document: text of the JSON file.
            http: carries the token requests.
            threads: where tokens are asked for and read.
            deadline: seconds for one of them.
            tenants_networks: given where the document is a tenant's, see `check_token_uri`.

        Raises:
            Misconfigured: it is no service account's, or names a token endpoint that it may not.
        """
        from firebase_admin import credentials  # noqa: PLC0415  # 0.3 s, and not every process sends to FCM

        try:
            fields = json.loads(document)
            account = credentials.Certificate(fields)
        except Exception:  # noqa: BLE001  # half a dozen types, and their texts may quote the key
            raise Misconfigured("bad credentials", "FCM: this is no service account's JSON") from None
        if not _PROJECT.fullmatch(str(account.project_id)):
            raise Misconfigured("bad credentials", "FCM: the service account names no project_id")
        if tenants_networks is not None:
            check_token_uri(str(fields.get("token_uri")), tenants_networks)
        return cls(account.project_id, account.get_credential(), http, threads, deadline)

    async def header(self) -> str:
        """The value of the `authorization` header to use now.

        Raises:
            Transient, Misconfigured: there is no token, and none can be had.
        """
        left = self._ends_at - self._clock()
        if left < self.EARLY:
            refreshing = self._refresh()
            if left < self.MARGIN:
                await asyncio.shield(refreshing)  # shared: one sender's cancellation stops it for nobody
        return self._header

    async def renew(self, refused: str) -> bool:
        """FCM refused this header: fetch another token, unless somebody did, or one was fetched just now.

        Returns:
            Whether there is another header now.
        """
        if refused == self._header:
            if self._refreshing is None:
                if self._clock() - self._forced_at < self.MIN_INTERVAL:
                    return False
                self._forced_at = self._clock()
            await asyncio.shield(self._refresh())
        return refused != self._header

    async def aclose(self) -> None:
        """Give up the refresh that is under way."""
        if self._refreshing is not None:
            self._refreshing.cancel()
            await asyncio.gather(self._refreshing, return_exceptions=True)

    def _refresh(self) -> asyncio.Task[None]:
        if self._refreshing is None:
            # In a context of its own: the token is everybody's, and so not bound to the deadline of who asks first.
            self._refreshing = asyncio.create_task(self._fetch(), context=contextvars.Context())
            # Looked at even if nobody waits: in the background a failure only means that the next send tries.
            self._refreshing.add_done_callback(lambda task: task.cancelled() or task.exception())
        return self._refreshing

    async def _fetch(self) -> None:
        from google.auth.exceptions import GoogleAuthError  # noqa: PLC0415  # as in `create`

        answers: dict[tuple[str, str], _Response] = {}

        def request(
            url: str,
            method: str = "GET",
            body: bytes = b"",
            headers: Mapping[str, str] | None = None,
            **_: Any,
        ) -> _Response:
            """google-auth's transport, which it calls in the thread."""
            if (method, url) not in answers:
                raise _WantedError(method, url, body, headers or {})
            return answers[method, url]

        loop = asyncio.get_running_loop()
        try:
            while True:
                try:
                    await loop.run_in_executor(self._threads, self._credentials.refresh, request)
                    break
                except _WantedError as wanted:
                    asked = wanted
                answers[asked.method, asked.url] = await self._ask(asked)
        except GoogleAuthError as error:
            words = clip(one_line(str(error.args[0] if error.args else error)), 200)
            raise Misconfigured(
                "no access token", f"the token endpoint refuses the account: {words}"
            ) from None
        finally:
            self._refreshing = None
        self._header = f"Bearer {self._credentials.token}"
        left = self._credentials.expiry.replace(tzinfo=UTC) - datetime.now(UTC)  # google-auth's are naive UTC
        self._ends_at = self._clock() + left.total_seconds()

    async def _ask(self, wanted: _WantedError) -> _Response:
        """What the token endpoint answers.

        Raises:
            Transient: nothing, or to ask again.
        """
        answer = await self._http.post(
            wanted.url,
            content=wanted.body,
            headers=wanted.headers,
            method=wanted.method,
            timeout=self._deadline,
        )
        said = answer.json()
        error = said.get("error") if isinstance(said, dict) else None
        # google-auth would try these again itself, and sleep in between.
        if answer.status in {408, 429} or answer.status >= 500 or error in _NOT_NOW:  # noqa: PLR2004  # 5xx
            raise Transient(f"token endpoint: {answer.code}", retry_after=answer.retry_after())
        return _Response(answer.status, answer.headers, answer.body)
