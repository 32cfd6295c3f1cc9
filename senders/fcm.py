"""FCM HTTP v1: alerts to Android.

Set-up: a service account's JSON file from the Firebase console (Project settings, Service accounts), as
TOCSIN_FCM_CREDENTIALS_FILE or as the channel's `fcm`. firebase-admin builds and validates the message; its
own sending hides retries and wedges in an outage, so that our HTTP client sends. Facts:
https://firebase.google.com/docs/reference/fcm/rest/v1/projects.messages and .../v1/ErrorCode
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, ClassVar, Final

from senders.base import Sender
from senders.deadline import Deadline
from senders.devices import check_token
from senders.fcm_account import ServiceAccount
from senders.http import classify
from senders.kept import Opened
from senders.outcomes import Misconfigured, NotConfigured, Receipt, Rejected, TargetGone, Transient
from senders.push import PushConfig
from senders.push_content import fit, is_urgent, rings
from senders.text import to_json

if TYPE_CHECKING:
    from collections.abc import Mapping
    from contextlib import AbstractContextManager

    from config import Settings
    from senders.base import Notification
    from senders.http import Answer, HttpClient

MAX_MESSAGE: Final = 4096
"""Bytes. FCM counts the payload alone; we count the whole request, which is safe and simple."""

MAX_TTL: Final = 2_419_200
"""Seconds: four weeks."""

QUOTA_WAIT: Final = 60.0
"""Seconds to wait after QUOTA_EXCEEDED without Retry-After (ErrorCode: at least a minute)."""

CRITICAL_CHANNEL: Final = "critical_alerts"
"""The Android notification channel that the app creates for alerts that break through silence."""


THREADS: Final = 4
"""For reading keys and signing; nobody waits for a far side in them."""


class FcmSender(Sender[PushConfig]):
    """Sends alerts to one device each. Accounts and their tokens are kept by credentials."""

    name: ClassVar[str] = "fcm"
    Config: ClassVar[type[PushConfig]] = PushConfig

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        super().__init__(settings, http)
        self._own = ""
        self._accounts: Opened[str, ServiceAccount] = Opened(ServiceAccount.aclose)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="tocsin-fcm")

    async def send(self, notification: Notification[PushConfig]) -> Receipt:
        """Make one attempt. See `Sender.send`."""
        if notification.device is None:
            raise ValueError("a push needs a device")
        try:
            check_token("android", notification.device.token)
        except ValueError as error:
            raise TargetGone("bad registration token", str(error)) from None
        deadline = self.settings.send_deadline
        try:
            async with Deadline(deadline):  # over token and message together
                with self._account(notification) as making:
                    account = await asyncio.shield(making)
                    body, note = fit(
                        notification,
                        lambda *parts: message(notification, *parts, now=datetime.now(UTC)),
                        MAX_MESSAGE,
                    )
                    return _classify(await self._post(account, body), account, note)
        except TimeoutError:
            pass
        raise Transient("timeout", f"no answer within {deadline:g} s; it may have been taken all the same")

    async def aclose(self) -> None:
        """Give up what is under way."""
        await self._accounts.aclose()
        self._threads.shutdown(wait=False, cancel_futures=True)

    async def _post(self, account: ServiceAccount, body: bytes) -> Answer:
        url = f"{self.settings.fcm_url.rstrip('/')}/v1/projects/{account.project}/messages:send"
        header = await account.header()
        headers = {"authorization": header, "content-type": "application/json; charset=utf-8"}
        answer = await self.http.post(url, content=body, headers=headers)
        # A refused token proves that the message was not taken: with another it is still the same attempt.
        if answer.status == 401 and _error_code(answer) is None and await account.renew(header):  # noqa: PLR2004
            headers["authorization"] = await account.header()
            answer = await self.http.post(url, content=body, headers=headers)
        return answer

    def _account(
        self, notification: Notification[PushConfig]
    ) -> AbstractContextManager[asyncio.Task[ServiceAccount]]:
        own = notification.config.fcm
        document = own.service_account.get_secret_value() if own else self._own_document()
        networks = self.settings.allowed_networks if own else None

        async def make() -> ServiceAccount:
            create = functools.partial(
                ServiceAccount.create,
                document,
                self.http,
                self._threads,
                self.settings.send_deadline,
                networks,
            )
            return await asyncio.get_running_loop().run_in_executor(self._threads, create)

        key = hashlib.sha256(document.encode()).hexdigest() + ("tenant" if own else "")
        return self._accounts.open(key, make)

    def _own_document(self) -> str:
        """The installation's own service account, from the settings."""
        if not self._own:
            path = self.settings.fcm_credentials_file
            if path is None:
                raise NotConfigured("FCM", "set TOCSIN_FCM_CREDENTIALS_FILE, or the channel's fcm")
            try:
                self._own = path.read_text(encoding="utf-8")
            except (OSError, UnicodeDecodeError):
                raise Misconfigured("bad credentials", "TOCSIN_FCM_CREDENTIALS_FILE cannot be read") from None
        return self._own


def message(
    notification: Notification[PushConfig],
    title: str,
    body: str,
    data: Mapping[str, str | int],
    *,
    now: datetime,
) -> bytes:
    """The JSON of one request, built and validated by firebase-admin.

    Raises:
        Rejected: firebase-admin finds it malformed.
    """
    from firebase_admin import _messaging_encoder, messaging  # noqa: PLC0415  # 0.7 s; loaded with the account

    device = notification.device
    left = int((notification.expires_at - now).total_seconds())
    rung = rings(notification)
    try:
        built = messaging.Message(
            data={name: str(value) for name, value in data.items()},
            notification=messaging.Notification(title=title, body=body, image=data.get("image_url")),
            android=messaging.AndroidConfig(
                collapse_key=notification.thread,
                priority="high" if is_urgent(notification) else "normal",
                ttl=timedelta(seconds=min(max(left, 0), MAX_TTL)),
                notification=messaging.AndroidNotification(
                    tag=notification.thread,
                    channel_id=CRITICAL_CHANNEL if rung else None,
                    priority="max" if rung else "high" if is_urgent(notification) else "default",
                    default_sound=True,
                ),
            ),
        )
        # The constructor warns that tokens will give way to installation ids; what apps have now are tokens.
        built.token = device.token if device else ""
        # The encoder is what validates, and firebase-admin has no public name for it.
        return to_json({"message": _messaging_encoder.MessageEncoder().default(built)})
    except ValueError as error:
        raise Rejected("malformed message", str(error)) from None


def _details(answer: Answer) -> list[dict[str, Any]]:
    said = answer.json()
    error = said.get("error") if isinstance(said, dict) else None
    details = error.get("details") if isinstance(error, dict) else None
    return [detail for detail in details if isinstance(detail, dict)] if isinstance(details, list) else []


def _error_code(answer: Answer) -> str | None:
    """FCM's own word, such as UNREGISTERED; None where the error is not FCM's but that of Google's front."""
    for detail in _details(answer):
        if str(detail.get("@type", "")).endswith("google.firebase.fcm.v1.FcmError"):
            return str(detail.get("errorCode") or "")[:100]
    return None


def _names_more_than_the_token(answer: Answer) -> bool:
    """Whether Google's API names what is wrong (google.rpc.BadRequest), and that is not the token alone."""
    for detail in _details(answer):
        if str(detail.get("@type", "")).endswith("google.rpc.BadRequest"):
            found = detail.get("fieldViolations")
            violations = found if isinstance(found, list) else []
            fields = {each.get("field") if isinstance(each, dict) else None for each in violations}
            if fields != {"message.token"}:
                return True
    return False


def _classify(answer: Answer, account: ServiceAccount, note: str | None) -> Receipt:
    """What an answer means; rows as in FCM's ErrorCode."""
    word = _error_code(answer)
    code = f"{answer.status} {word}" if word else answer.code
    if answer.ok:
        account.watch.taken()
        said = answer.json()
        name = said.get("name") if isinstance(said, dict) else None
        return Receipt(code, str(name)[:255] if name else None, note)
    if word == "UNREGISTERED":
        raise TargetGone(code, "the app was removed, or the token replaced")
    if word == "SENDER_ID_MISMATCH":
        if account.watch.suspects_credentials():
            raise Misconfigured(
                code, f"many tokens are not of the project {account.project}: is it the right one?"
            )
        raise TargetGone(code, f"the token is not of the project {account.project}")
    if word == "INVALID_ARGUMENT":
        # Our own message has passed schema and size, so that only the token is left to be wrong; unless FCM
        # names another field (recorded answers: https://bloomberg.github.io/pushiko/fcm_responses).
        if _names_more_than_the_token(answer):
            raise Rejected(code, answer.excerpt())
        raise TargetGone(code, "no token of this kind")
    if word == "QUOTA_EXCEEDED" or answer.status == 429:  # noqa: PLR2004  # Too Many Requests
        raise Transient(code, retry_after=answer.retry_after() or QUOTA_WAIT)
    if answer.status in {401, 403, 404}:
        raise Misconfigured(
            code, f"FCM refuses the credentials or the project {account.project}: {answer.excerpt()}"
        )
    return classify(answer, code=code, detail=answer.excerpt())
