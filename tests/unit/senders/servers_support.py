"""Real servers for the senders that speak no HTTP: aiosmtpd in this process, mosquitto and snmptrapd beside it."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
from contextlib import ExitStack, asynccontextmanager, contextmanager
from dataclasses import dataclass, field
from email import message_from_bytes, policy
from typing import TYPE_CHECKING, Any

import aiomqtt
import pytest
import trustme
from aiosmtpd.smtp import SMTP, AuthResult, LoginPassword

from tests.servers.programs import free_port, wait_until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from email.message import EmailMessage
    from pathlib import Path

AUTHORITY = trustme.CA()
TRUSTED = AUTHORITY.cert_pem.bytes().decode()


def trusting(context: ssl.SSLContext) -> ssl.SSLContext:
    """The context, with the authority that signed the certificates of these servers."""
    AUTHORITY.configure_trust(context)
    return context


def server_tls(*names: str) -> ssl.SSLContext:
    """A server's side of TLS, with a certificate for these names."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    AUTHORITY.issue_cert(*names).configure_cert(context)
    return context


def program(name: str, package: str) -> str:
    """The path of a Debian program; the test is skipped without it, and fails in CI."""
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    if path is None:
        text = f"{name} is missing: apt-get install {package}"
        if os.environ.get("CI", "").lower() in {"1", "true"}:
            pytest.fail(text, pytrace=False)
        pytest.skip(text)
    return path


@dataclass
class Mailbox:
    """An SMTP server on 127.0.0.1 that answers what it is told to.

    Attributes:
        answers: what to answer instead of success: "MAIL", "DATA", or a recipient's address, to a full answer.
        busy_after: recipients of one transaction beyond which the answer is 452.
        mails: what was delivered: the recipients of the envelope, and the mail as its bytes.
    """

    answers: dict[str, str] = field(default_factory=dict)
    busy_after: int = 100
    stall: bool = False
    mails: list[tuple[list[str], bytes]] = field(default_factory=list)
    logins: list[tuple[str, str]] = field(default_factory=list)
    over_tls: list[bool] = field(default_factory=list)
    port: int = 0

    async def handle_MAIL(  # noqa: N802  # aiosmtpd's names, here and below
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        del options
        self.over_tls.append(
            session.ssl is not None or server.transport.get_extra_info("sslcontext") is not None
        )
        envelope.mail_from = address
        return self.answers.get("MAIL", "250 OK")

    async def handle_RCPT(  # noqa: N802
        self, server: Any, session: Any, envelope: Any, address: str, options: list[str]
    ) -> str:
        del server, session, options
        if address in self.answers:
            return self.answers[address]
        if len(envelope.rcpt_tos) >= self.busy_after:
            return "452 4.5.3 too many recipients"
        envelope.rcpt_tos.append(address)
        return "250 OK"

    async def handle_DATA(self, server: Any, session: Any, envelope: Any) -> str:  # noqa: N802
        del server, session
        if self.stall:
            await asyncio.Event().wait()
        if "DATA" in self.answers:
            return self.answers["DATA"]
        self.mails.append((envelope.rcpt_tos, envelope.original_content))
        return "250 2.0.0 queued as 4XYZ"

    def authenticate(self, server: Any, session: Any, envelope: Any, mechanism: str, data: Any) -> AuthResult:
        del server, session, envelope, mechanism
        assert isinstance(data, LoginPassword)
        login = data.login.decode(), data.password.decode()
        self.logins.append(login)
        return AuthResult(success=login == ("tocsin", "s3cr:t/@"), handled=False)

    def parsed(self, index: int = 0) -> EmailMessage:
        return message_from_bytes(self.mails[index][1], policy=policy.default)


@asynccontextmanager
async def mail_server(
    *,
    tls: ssl.SSLContext | None = None,
    starttls: ssl.SSLContext | None = None,
    auth: bool = False,
    host: str = "127.0.0.1",
    **behaviour: Any,
) -> AsyncIterator[Mailbox]:
    """Run an SMTP server: with TLS from the start, or on request, and with passwords, or not."""
    mailbox = Mailbox(**behaviour)
    loop = asyncio.get_running_loop()

    def session() -> SMTP:
        return SMTP(
            mailbox,
            hostname="localhost",
            tls_context=starttls,
            authenticator=mailbox.authenticate if auth else None,
            auth_required=auth,
            auth_require_tls=False,
            loop=loop,
        )

    server = await loop.create_server(session, host, 0, ssl=tls)
    mailbox.port = server.sockets[0].getsockname()[1]
    try:
        yield mailbox
    finally:
        server.close()


@contextmanager
def running(command: list[str], directory: Path, *, ready: str) -> Iterator[Path]:
    """Run a program until the end of the block; its output goes to the file that is given.

    Args:
        command: what to run, in the foreground.
        directory: where it runs and logs.
        ready: a pattern of its output that tells when it is up.
    """
    log = directory / "output.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        wait_until(
            lambda: bool(re.search(ready, log.read_text(errors="replace"))) or process.poll() is not None,
            10,
            command[0],
            describe=lambda: log.read_text(errors="replace"),
        )
        assert process.poll() is None, log.read_text(errors="replace")
        yield log
    finally:
        process.send_signal(signal.SIGTERM)
        try:
            process.wait(5)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(5)


def free_udp_port() -> int:
    """A UDP port of 127.0.0.1 that nobody uses at this moment."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@dataclass
class TrapDaemon:
    """Debian's snmptrapd, which prints what it takes."""

    port: int
    log: Path

    def lines(self) -> list[str]:
        """One line a notification: TRAP or INFORM fields as snmptrapd decoded them, octets in quotes."""
        text = self.log.read_text(errors="replace")
        return [line for line in text.splitlines() if line.startswith("TOCSIN|")]

    async def wait(self, count: int, timeout: float = 5) -> list[str]:  # noqa: ASYNC109  # a bound on polling
        deadline = asyncio.get_running_loop().time() + timeout
        while len(self.lines()) < count:
            if asyncio.get_running_loop().time() > deadline:
                raise TimeoutError(self.log.read_text(errors="replace"))
            await asyncio.sleep(0.02)
        return self.lines()


@contextmanager
def trap_daemon(directory: Path, *config: str, port: int | None = None) -> Iterator[TrapDaemon]:
    """Run snmptrapd with these lines of configuration."""
    path = program("snmptrapd", "snmptrapd snmp")
    port = port or free_udp_port()
    (directory / "snmptrapd.conf").write_text(
        "\n".join(
            [*config, r"format2 TOCSIN|%P|%v\n", "outputOption n", f"[snmp] persistentDir {directory}", ""]
        )
    )
    command = [path, "-f", "-Lo", "-C", "-c", "snmptrapd.conf", "-m", "", "-On", f"udp:127.0.0.1:{port}"]
    with running(command, directory, ready="NET-SNMP version") as log:
        yield TrapDaemon(port, log)


@contextmanager
def broker(directory: Path, *config: str, port: int | None = None) -> Iterator[int]:
    """Run mosquitto with these lines of configuration; its port."""
    path = program("mosquitto", "mosquitto")
    port = port or free_port()
    directory.mkdir(exist_ok=True)
    (directory / "mosquitto.conf").write_text(
        "\n".join(["user root", f"listener {port} 127.0.0.1", "max_queued_messages 5000", *config, ""])
    )
    with running([path, "-v", "-c", "mosquitto.conf"], directory, ready="running|Error"):
        yield port


@asynccontextmanager
async def subscriber(port: int, **options: Any) -> AsyncIterator[aiomqtt.Client]:
    """A subscriber to everything, in MQTT 5."""
    async with aiomqtt.Client("127.0.0.1", port, protocol=aiomqtt.ProtocolVersion.V5, **options) as client:
        await client.subscribe("#", qos=2)
        yield client


async def next_message(client: aiomqtt.Client) -> aiomqtt.Message:
    async with asyncio.timeout(5):
        return await anext(aiter(client.messages))


def answers(*addresses: str) -> list[Any]:
    """What getaddrinfo says of a name with these addresses."""
    return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0)) for address in addresses]


@contextmanager
def black_hole(address: str, port: int) -> Iterator[None]:
    """An address that takes no connection and refuses none: its queue of new ones is full."""
    with ExitStack() as opened:
        listening = opened.enter_context(socket.socket())
        listening.bind((address, port))
        listening.listen(0)
        for _ in range(3):
            waiting = opened.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex((address, port))
        yield
