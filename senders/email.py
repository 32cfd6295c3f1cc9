"""Mail over SMTP, to everybody a channel names, in one transaction.

Set up:
    1. Give the installation a mail server and a sender: TOCSIN_SMTP_URL and TOCSIN_MAIL_FROM.
    2. Give the channel its recipients as `to`. They see each other.
    3. A tenant with a mail server of its own gives the channel `smtp_url`, and may then give `mail_from`:
       that server vouches for the sender. Nobody chooses the sender's address on the operator's server.

`smtps://` is TLS from the start (port 465); `smtp://` (port 587) changes to TLS if the server offers it.
Certificates are verified, and a password is never sent in the clear but to this machine itself.

Several recipients, and not all accepted: those who can have the mail get it at once. Whoever the server put
off is tried again in a further transaction of the same connection, and then named in the receipt: a retry of
the delivery would mail everybody else a second time. The delivery is retried only while nobody has the mail.

Facts: RFC 5321 (4.2.1 reply codes, 3.3 transactions, 4.5.3.1.10 too many recipients), RFC 4954 6 (AUTH
codes), RFC 3207 (STARTTLS), https://aiosmtplib.readthedocs.io/en/stable/reference.html
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import ssl
from dataclasses import dataclass, field
from email.headerregistry import Address
from email.utils import parseaddr
from typing import TYPE_CHECKING, Annotated, ClassVar, Final, Self
from urllib.parse import unquote, urlsplit

import aiosmtplib
from pydantic import AfterValidator, Field, SecretStr, model_validator

from senders.base import ChannelConfig, Notification, Sender
from senders.deadline import Deadline, check_deadline
from senders.guard import UrlError
from senders.kept import Kept
from senders.mail_message import compose
from senders.outcomes import Misconfigured, NotConfigured, Receipt, Rejected, SendError, Transient
from senders.reach import UNKNOWN, check_host, connect, tls_context, tls_failure
from senders.redaction import excerpt
from senders.template import check_template
from senders.text import one_line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Sequence

    from config import Settings
    from senders.guard import Network
    from senders.http import HttpClient

MAX_RECIPIENTS: Final = 50
"""A server must take 100 (RFC 5321, 4.5.3.1.8); who wants to alert more people has a mailing list."""

CONNECTIONS: Final = 10
"""Open connections of a process to one mail server with one login; common servers turn away a client that opens many
more. So one tenant's storm keeps no other from the server that both use, each with a login of its own."""

_DEFAULT_PORTS: Final = {"smtp": 587, "smtps": 465}
_QUIT_TIMEOUT: Final = 1.0
# The HTML standard's definition of a valid address, without comments and quoted parts that nobody uses.
_ADDRESS: Final = re.compile(
    r"[A-Za-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@([A-Za-z0-9-]{1,63}\.)*[A-Za-z0-9-]{1,63}"
)
_MAX_ADDRESS: Final = 254
_AUTH_CODES: Final = frozenset({530, 534, 535, 538})  # RFC 4954, 6
_MESSAGE_CODES: Final = frozenset({552, 554})


def _check_address(address: str) -> str:
    if len(address) > _MAX_ADDRESS or not _ADDRESS.fullmatch(address):
        raise ValueError("must be an address such as ops@example.org (international domains as xn--...)")
    try:
        Address(addr_spec=address)
    except (ValueError, IndexError):
        raise ValueError("must be an address such as ops@example.org") from None
    return address


def _check_smtp_url(url: SecretStr) -> SecretStr:
    text = url.get_secret_value()
    rule = "must be smtp(s)://USER:PASSWORD@HOST:PORT, special characters of the password as %XX"
    try:
        parts = urlsplit(text)
        port = parts.port
        check_host(parts.hostname or "")
        plain = unquote(f"{parts.username or ''}{parts.password or ''}", errors="strict")
    except (UrlError, ValueError):
        raise ValueError(rule) from None
    if (
        parts.scheme not in _DEFAULT_PORTS
        or port == 0
        or parts.path.strip("/")
        or parts.query
        or parts.fragment
        or not text.isascii()
        or not plain.isprintable()
    ):
        raise ValueError(rule)
    return url


class EmailConfig(ChannelConfig):
    """Who gets the mail, and through which server."""

    to: tuple[Annotated[str, AfterValidator(_check_address)], ...] = Field(
        min_length=1, max_length=MAX_RECIPIENTS
    )
    subject_template: Annotated[str, AfterValidator(check_template)] | None = None
    smtp_url: Annotated[SecretStr, AfterValidator(_check_smtp_url)] | None = None
    mail_from: Annotated[str, AfterValidator(_check_address)] | None = None

    @model_validator(mode="after")
    def _check_sender(self) -> Self:
        if self.mail_from is not None and self.smtp_url is None:
            raise ValueError(
                "mail_from needs an smtp_url: the installation's server sends as TOCSIN_MAIL_FROM"
            )
        return self


@dataclass(frozen=True, slots=True)
class _Server:
    host: str
    port: int
    implicit_tls: bool
    username: str
    password: str = field(repr=False)
    allowed_networks: Sequence[Network] | None

    def redact(self, text: str) -> str:
        return excerpt(text, (self.password, self.username))


@dataclass(slots=True)
class _Progress:
    """What became of each recipient; survives an attempt that breaks off."""

    reached: list[str] = field(default_factory=list)
    refused: dict[str, str] = field(default_factory=dict)
    deferred: dict[str, str] = field(default_factory=dict)
    said: str = ""


class EmailSender(Sender[EmailConfig]):
    """Mails the recipients of a channel.

    Args:
        ssl_context: whom to trust; else certifi's and the system's authorities.
    """

    name: ClassVar[str] = "email"
    Config: ClassVar[type[ChannelConfig]] = EmailConfig
    places: ClassVar[int] = CONNECTIONS

    def __init__(
        self, settings: Settings, http: HttpClient, *, ssl_context: ssl.SSLContext | None = None
    ) -> None:
        super().__init__(settings, http)
        self._ssl = ssl_context or tls_context()
        self._connections: Kept[_Server, asyncio.Semaphore] = Kept()

    async def send(self, notification: Notification[EmailConfig]) -> Receipt:
        """Mail everybody. The receipt has the Message-ID as provider_id, and names whom the server refused.

        Raises:
            Transient: no connection free, no server, a timeout, or 4xx for everybody who was not refused.
            Rejected: every recipient, or the message itself, is refused for good.
            Misconfigured: login, sender or certificate is not accepted.
        """
        config = notification.config
        server, sender = self._server(config), sender_address(self.settings, config)
        message, note = compose(
            notification, sender=sender, recipients=config.to, subject_template=config.subject_template
        )
        progress = _Progress()
        try:
            async with Deadline(self.settings.send_deadline), self._turn(server):
                await self._deliver(server, sender.addr_spec, config.to, message.as_bytes(), progress)
        except (aiosmtplib.SMTPException, OSError, ValueError) as error:
            outcome = translate(error, server.redact)
        except SendError as error:
            outcome = error
        else:
            return _outcome(progress, str(message["Message-ID"]), note, server)
        if progress.reached:
            return _outcome(progress, str(message["Message-ID"]), note, server)
        raise outcome

    @contextlib.asynccontextmanager
    async def _turn(self, server: _Server) -> AsyncIterator[None]:
        """One of the connections, for which half of the time is waited: the mail needs the rest."""
        with self._connections.use(server, lambda: asyncio.Semaphore(CONNECTIONS)) as free:
            try:
                async with asyncio.timeout(self.settings.send_deadline / 2):
                    await free.acquire()
            except TimeoutError:
                raise Transient(
                    "no connection free",
                    f"{CONNECTIONS} other mails are on their way to the server; nothing was sent",
                    is_attempt=False,
                ) from None
            try:
                yield
            finally:
                free.release()

    def _server(self, config: EmailConfig) -> _Server:
        url = config.smtp_url or self.settings.smtp_url
        if url is None:
            raise NotConfigured("email", "set TOCSIN_SMTP_URL, or the channel's smtp_url")
        parts = urlsplit(url.get_secret_value())
        return _Server(
            parts.hostname or "",
            parts.port or _DEFAULT_PORTS[parts.scheme],
            parts.scheme == "smtps",
            unquote(parts.username or ""),
            unquote(parts.password or ""),
            None if config.smtp_url is None else self.settings.allowed_networks,
        )

    async def _deliver(
        self, server: _Server, sender: str, recipients: Sequence[str], content: bytes, progress: _Progress
    ) -> None:
        connection = await connect(server.host, server.port, server.allowed_networks)
        smtp = aiosmtplib.SMTP(
            hostname=server.host,
            sock=connection,
            use_tls=server.implicit_tls,
            tls_context=self._ssl,
            local_hostname=sender.rpartition("@")[2],
            timeout=self.settings.send_deadline,
        )
        try:
            peer = connection.getpeername()[0]
            await smtp.connect()
            _write_in_time(smtp)
            await _login(smtp, server, is_local=peer in {"127.0.0.1", "::1"})
            waiting = list(recipients)
            while waiting:
                before = len(progress.reached)
                await _transact(smtp, sender, waiting, content, progress)
                # 452 also means "enough recipients for one transaction": go on while each reaches somebody.
                waiting = list(progress.deferred) if len(progress.reached) > before else []
            with contextlib.suppress(aiosmtplib.SMTPException, OSError):
                await smtp.quit(timeout=_QUIT_TIMEOUT)
        finally:
            smtp.close()
            connection.close()


def sender_address(settings: Settings, config: EmailConfig) -> Address:
    """Whom a channel's mails come from.

    Raises:
        NotConfigured: nobody was named, or TOCSIN_MAIL_FROM is no address.
    """
    mail_from = config.mail_from or settings.mail_from
    if mail_from is None:
        raise NotConfigured("email", "set TOCSIN_MAIL_FROM, or the channel's mail_from")
    name, address = parseaddr(mail_from)
    try:
        return Address(one_line(name), addr_spec=_check_address(address))
    except ValueError:
        raise NotConfigured("email", "TOCSIN_MAIL_FROM must be an address such as ops@example.org") from None


def _write_in_time(smtp: aiosmtplib.SMTP) -> None:
    """Have each command, and above all the mail after its 354, written only while there is time."""
    protocol = smtp.protocol
    if protocol is None:
        raise aiosmtplib.SMTPServerDisconnected("connection lost")
    write = protocol.write

    def write_in_time(data: bytes) -> None:
        check_deadline()
        write(data)

    protocol.write = write_in_time  # type: ignore[method-assign]  # aiosmtplib makes its protocol by itself


async def _login(smtp: aiosmtplib.SMTP, server: _Server, *, is_local: bool) -> None:
    if not server.username:
        return
    if smtp.get_transport_info("sslcontext") is None and not is_local:
        raise Misconfigured("no tls", "the server offers no TLS, and a password is not sent in the clear")
    await smtp.login(server.username, server.password)


async def _transact(
    smtp: aiosmtplib.SMTP, sender: str, recipients: Sequence[str], content: bytes, progress: _Progress
) -> None:
    """One transaction. Moves every recipient into one part of the progress."""
    await smtp.mail(sender)
    accepted: list[str] = []
    for recipient in recipients:
        try:
            await smtp.rcpt(recipient)
        except aiosmtplib.SMTPRecipientRefused as error:
            if error.code in _AUTH_CODES:
                raise
            part = progress.deferred if error.code < 500 else progress.refused  # noqa: PLR2004  # RFC 5321, 4.2.1
            part[recipient] = f"{error.code} {error.message}"
        else:
            accepted.append(recipient)
    if accepted:
        progress.said = str(await smtp.data(content))
        progress.reached += accepted
        for recipient in recipients:
            if recipient in accepted or recipient in progress.refused:
                progress.deferred.pop(recipient, None)
    elif smtp.is_connected:
        await smtp.rset()


def _outcome(progress: _Progress, message_id: str, note: str | None, server: _Server) -> Receipt:
    lost = progress.deferred | progress.refused
    said = "; ".join(f"{recipient}: {server.redact(answer)}" for recipient, answer in lost.items())
    if progress.reached:
        missing = f"not delivered to {said}" if lost else None
        detail = "; ".join(filter(None, (missing, note))) or None
        return Receipt(server.redact(progress.said), message_id, detail)
    code = " ".join(next(iter(lost.values())).split()[:1])
    if progress.deferred:
        raise Transient(code, f"put off: {said}")
    raise Rejected(code, f"every recipient was refused: {said}")


def translate(  # noqa: PLR0911  # a table of what can be raised
    error: Exception, redacted: Callable[[str], str] = one_line
) -> SendError:
    """The outcome for whatever aiosmtplib or the socket raised, but for single refused recipients.

    Args:
        error: an SMTPException, OSError or ValueError.
        redacted: makes of the server's words a line without secrets.
    """
    tls = next((link for link in _chain(error) if isinstance(link, ssl.SSLError)), None)
    if tls is not None:
        return tls_failure(tls)
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _answered(error, f"{error.code}", redacted(error.message))
    if isinstance(error, TimeoutError):
        return Transient("timeout", f"no complete answer in time; {UNKNOWN}")
    if isinstance(error, aiosmtplib.SMTPRecipientsRefused):
        return Rejected("recipients refused", "the server refused every recipient")
    if isinstance(error, ConnectionError | OSError):
        return Transient("connection reset", f"the server hung up; {UNKNOWN}")
    if isinstance(error, aiosmtplib.SMTPNotSupported):
        return Misconfigured("not supported", f"the server cannot do what is asked: {redacted(str(error))}")
    if isinstance(error, aiosmtplib.SMTPException):
        return Misconfigured("smtp error", redacted(str(error)))
    raise error


def _answered(error: aiosmtplib.SMTPResponseException, code: str, said: str) -> SendError:
    if not 500 <= error.code < 600:  # noqa: PLR2004  # RFC 5321, 4.2.1; what is no SMTP may pass, too
        return Transient(code, said)
    if error.code in _AUTH_CODES or isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return Misconfigured(code, f"the server does not accept the login: {said}")
    if isinstance(error, aiosmtplib.SMTPDataError | aiosmtplib.SMTPRecipientRefused):
        return Rejected(code, said)
    if isinstance(error, aiosmtplib.SMTPSenderRefused):
        if error.code in _MESSAGE_CODES:
            return Rejected(code, said)
        return Misconfigured(code, f"the server does not accept the sender's address: {said}")
    return Misconfigured(code, f"the server turns us away: {said}")


def _chain(error: BaseException | None) -> list[BaseException]:
    chain: list[BaseException] = []
    while error is not None and error not in chain:
        chain.append(error)
        error = error.__cause__ or error.__context__
    return chain
