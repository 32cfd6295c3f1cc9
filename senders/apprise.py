"""The long tail: services that Tocsin has no sender for, through the Apprise library.

Set up:
    1. Find the service at https://appriseit.com/services/ and write its URL as that page says.
    2. Give the URL to the channel as `url`. It holds the credentials and is kept as a secret.

Apprise makes requests of its own, past the guard. Allowed are therefore services whose requests can only go
to the vendor's own hosts; a service of your own is better reached by a webhook. Apprise says no more of a
failure than that it failed: it is tried again, but once only unless the channel says otherwise.

Facts: https://appriseit.com/services/, and the source of apprise 2.2
"""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import re
import threading
import warnings
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Final, Self
from urllib.parse import unquote, urlsplit

from pydantic import AfterValidator, Field, SecretStr

from senders.base import ChannelConfig, Notification, Sender
from senders.deadline import Deadline, check_deadline
from senders.notes import Notes, links
from senders.outcomes import Misconfigured, Receipt, Transient
from senders.reach import UNKNOWN
from senders.redaction import excerpt, url_secrets
from senders.text import body, level, title

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import ModuleType

    from config import Settings
    from senders.http import HttpClient

MAX_URL: Final = 2048
MAX_BODY: Final = 20_000
"""Characters of title and message together, as of a mail; most services take less and say so to Apprise."""

THREADS: Final = 8
"""Sends that a process makes through Apprise at a time; each has a thread, since Apprise blocks."""

# Services whose plugin has the vendor's host as a constant (a test holds it). Left out, for a reason: what
# acts on this machine (dbus, gnome, macosx, windows, syslog, blink1 and other local programs); what takes
# the host from the URL and so reaches private networks (json, xml, form, ntfy, gotify, matrix, zulip, mailto,
# mqtt, rsyslog ...); what reads files of this machine (fcm, vapid); what Tocsin speaks itself, and better.
SCHEMES: Final = frozenset({
    "bulksms", "clicksend", "d7sms", "dingtalk", "discord", "feishu", "flock", "gchat", "ifttt", "ilert",
    "join", "lark", "line", "msg91", "msgbird", "nexmo", "opsgenie", "pbul", "postmark", "pover", "prowl",
    "push", "pushed", "pushy", "resend", "sendgrid", "seven", "signl4", "spike", "splunk", "tgram", "threema",
    "twilio", "twist", "victorops", "vonage", "webex", "wxteams",
})  # fmt: skip

# Parameters of an Apprise URL that would undo what Tocsin promises: `template` reads a file or fetches one,
# `verify` switches certificates off, `redirect` follows redirects, others set waits and retries.
FORBIDDEN: Final = frozenset({
    "attach", "config", "cto", "include", "keyfile", "redirect", "retry", "rto", "store", "template", "verify",
    "wait",
})  # fmt: skip

_SEPARATOR: Final = re.compile("[&;]")
_NO_LETTER: Final = re.compile("[^a-z]")

_LOGGER: Final = "apprise"
_TITLE_MARKUP: Final = 20
"""Characters that Apprise puts around a title in the body, such as <b>, </b>, <br /> and a line break."""


def _parameters(url: str) -> list[tuple[str, str]]:
    """Names and values as Apprise reads them, with as many escapes as they have in the URL.

    To Apprise a question mark begins the parameters also where urllib sees a fragment, and a semicolon is a
    separator; so urllib must not be asked here.
    """
    pairs = (pair.partition("=") for pair in _SEPARATOR.split(url.partition("?")[2]))
    return [(name, value) for name, _, value in pairs]


def _check_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    if not 1 <= len(text) <= MAX_URL or not text.isprintable() or " " in text:
        raise ValueError(f"must be a URL of 1 to {MAX_URL} characters, without spaces and control characters")
    try:
        scheme = urlsplit(text).scheme
    except ValueError:
        raise ValueError("must be a well-formed URL") from None
    if scheme not in SCHEMES:
        raise ValueError(f"must begin with one of {', '.join(sorted(SCHEMES))}, followed by ://")
    # By its letters alone: Apprise drops spaces around a name, and has signs that may stand before one.
    named = {_NO_LETTER.sub("", unquote(name).lower()) for name, _ in _parameters(text)}
    if named & FORBIDDEN:
        raise ValueError(f"must not set {', '.join(sorted(named & FORBIDDEN))}")
    return url


class AppriseConfig(ChannelConfig):
    """A service, in the spelling of Apprise."""

    url: Annotated[SecretStr, AfterValidator(_check_url)]
    max_retries: int | None = Field(
        default=1, ge=0, le=100, description="low: a failure says nothing about why"
    )


class AppriseSender(Sender[AppriseConfig]):
    """Hands notifications to Apprise, in threads with a deadline."""

    name: ClassVar[str] = "apprise"
    Config: ClassVar[type[ChannelConfig]] = AppriseConfig

    def __init__(self, settings: Settings, http: HttpClient) -> None:
        super().__init__(settings, http)
        self._threads = ThreadPoolExecutor(THREADS, thread_name_prefix="tocsin-apprise")

    async def send(self, notification: Notification[AppriseConfig]) -> Receipt:
        """Notify the service.

        Raises:
            Transient: Apprise failed, with what it logged about it; or the deadline passed, and its thread is
                left to end by itself.
            Misconfigured: Apprise does not understand the URL.
        """
        deadline = self.settings.send_deadline
        work = functools.partial(_notify, notification)
        try:
            async with Deadline(deadline):
                context = contextvars.copy_context()
                return await asyncio.get_running_loop().run_in_executor(self._threads, context.run, work)
        except TimeoutError:
            raise Transient("timeout", f"no answer in {deadline:g} s; {UNKNOWN}") from None

    async def aclose(self) -> None:
        """Take no more work; threads that still wait for a service end by themselves."""
        self._threads.shutdown(wait=False, cancel_futures=True)


def _notify(notification: Notification[AppriseConfig]) -> Receipt:
    library = _library()
    url = notification.config.url.get_secret_value()
    secrets = (
        *url_secrets(url),
        *urlsplit(url).netloc.replace("@", ":").split(":"),
        *(value for _, value in _parameters(url)),
    )
    notes = Notes(notification)
    check_deadline()  # it may have waited for its thread
    with _Heard() as heard:
        service = library.Apprise.instantiate(url, asset=_asset(), suppress_exceptions=True)
        if service is not None:
            service.throttle = _in_time(service.throttle)
        taken = service is not None and service.notify(
            **_texts(notification, service, notes, library), notify_type=_kind(notification, library)
        )
    said = excerpt("; ".join(heard), secrets)
    if service is None:
        raise Misconfigured("no match", said or "Apprise does not understand the URL")
    if not taken:
        raise Transient("failure", said or "Apprise gives no reason")
    return Receipt("sent", detail="; ".join(filter(None, (notes.detail, said))) or None)


def _in_time(throttle: Callable[..., None]) -> Callable[..., None]:
    """What a service calls before each of its requests, to pace them; it then also ends a send whose time is over.

    A URL may name a hundred receivers, and each may be sent several messages: without this a thread goes on
    with them for minutes after its send was given up, while others wait for a thread.
    """

    def paced(*args: Any, **kwargs: Any) -> None:
        throttle(*args, **kwargs)
        check_deadline()

    return paced


def _texts(
    notification: Notification[Any], service: Any, notes: Notes, library: ModuleType
) -> dict[str, Any]:
    """Title and body as `service.notify` takes them: within the service's limits, the alert's link at the end.

    Apprise sends what is too long as it is, for the service to refuse or to cut, unless the URL has
    `overflow=split`, which makes several messages of it. So the limits of its plugin are kept here. Texts are
    declared as such: Apprise then escapes what HTML or Markdown would mean, and escapes count.
    """
    plain = library.NotifyFormat.TEXT
    shown_as = service.resolve_format(plain)

    def cost(text: str) -> int:
        return len(library.conversion.convert_between(plain, shown_as, text))

    most = MAX_BODY if service.overflow_mode == "split" else min(MAX_BODY, service.body_maxlen)
    if service.title_maxlen > 0:
        heading = notes.clip("title", title(notification), service.title_maxlen)
    else:  # Apprise makes it the first line of the body
        heading = notes.clip("title", title(notification), most // 2, cost)
    if service.title_maxlen <= 0 or service.overflow_amalgamate_title:
        most -= cost(heading) + _TITLE_MARKUP
    link = f"\n{url}" if (url := links(notification, notes).get("url")) else ""
    if cost(link) > most // 2:
        notes.add("details.url left out: the service takes too short messages")
        link = ""
    most -= cost(link)
    # First without the escapes: to escape megabytes takes a while.
    said = notes.clip("message", notes.clip("message", body(notification), most), most, cost)
    return {"title": heading, "body": said + link, "body_format": plain}


@functools.cache
def _library() -> ModuleType:
    """Apprise, imported when it is first needed: it costs a second and 55 MB."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of what some of its 150 plugins import
        import apprise  # noqa: PLC0415  # see above
        from apprise.plugins import N_MGR  # noqa: PLC0415  # see above

        N_MGR.load_modules()  # type: ignore[no-untyped-call]  # apprise leaves it unannotated
    # It logs URLs and payloads; what it says belongs into our outcomes, redacted, and nowhere else.
    logging.getLogger(_LOGGER).propagate = False
    return apprise


@functools.cache
def _asset() -> Any:
    return _library().AppriseAsset(
        app_id="Tocsin",
        app_desc="Tocsin",
        app_url="",
        secure_logging=True,
        http_redirects=False,  # Apprise's own default is to follow them, wherever they lead
    )


def _kind(notification: Notification[Any], library: ModuleType) -> Any:
    kinds = library.NotifyType
    if notification.event == "CLOSED":
        return kinds.SUCCESS
    return {"info": kinds.INFO, "warning": kinds.WARNING}.get(level(notification), kinds.FAILURE)


class _Heard(logging.Handler):
    """Collects the warnings that Apprise logs in this thread."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self._thread = threading.get_ident()
        self._lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.thread == self._thread:
            self._lines.append(record.getMessage())

    def __iter__(self) -> Iterator[str]:
        return iter(self._lines)

    def __enter__(self) -> Self:
        logging.getLogger(_LOGGER).addHandler(self)
        return self

    def __exit__(self, *_: object) -> None:
        logging.getLogger(_LOGGER).removeHandler(self)
