"""Mail: what every answer of a server means, TLS before passwords, and which configs are refused."""

from __future__ import annotations

import asyncio
import base64
import inspect
import re
import ssl
import sys
from typing import Any

import aiosmtplib
import pytest
from pydantic import SecretStr, ValidationError

from senders.email import CONNECTIONS, MAX_RECIPIENTS, EmailConfig, EmailSender, translate
from senders.outcomes import Misconfigured, NotConfigured, Receipt, Rejected, SendError, Transient
from senders.reach import tls_context
from tests.unit.senders.mail_support import AIOSMTPD_WARNINGS, mail, sender, settings
from tests.unit.senders.servers_support import Mailbox, mail_server, server_tls, trusting
from tests.unit.senders.support import closed_port, notification, outcome, raw_server

pytestmark = AIOSMTPD_WARNINGS

ANSWERS = [
    ("ann@example.org", "450 4.2.1 greylisted", Transient, "450"),
    ("ann@example.org", "452 4.2.2 mailbox full", Transient, "452"),
    ("ann@example.org", "550 5.1.1 no such user", Rejected, "550"),
    ("ann@example.org", "551 5.1.6 moved", Rejected, "551"),
    ("ann@example.org", "553 5.1.3 bad address", Rejected, "553"),
    ("ann@example.org", "530 5.7.0 authentication required", Misconfigured, "530"),
    ("MAIL", "451 4.3.0 later", Transient, "451"),
    ("MAIL", "552 5.3.4 too big", Rejected, "552"),
    ("MAIL", "554 5.6.0 no", Rejected, "554"),
    ("MAIL", "550 5.7.1 sender not allowed", Misconfigured, "550"),
    ("MAIL", "530 5.7.0 authentication required", Misconfigured, "530"),
    ("DATA", "451 4.3.0 later", Transient, "451"),
    ("DATA", "421 4.3.2 going down", Transient, "421"),
    ("DATA", "552 5.3.4 too big", Rejected, "552"),
    ("DATA", "554 5.7.1 spam", Rejected, "554"),
]


@pytest.mark.parametrize(("where", "answer", "kind", "code"), ANSWERS)
async def test_each_answer_has_its_outcome(where: str, answer: str, kind: type[SendError], code: str) -> None:
    async with mail_server(answers={where: answer}) as mailbox:
        result = await outcome(sender(), mail(mailbox))
    assert type(result) is kind
    assert result.code == code
    assert answer[4:] in str(result)
    assert not mailbox.mails


async def test_who_can_have_the_mail_gets_it_though_others_are_refused() -> None:
    answers = {"no@example.org": "550 5.1.1 unknown", "later@example.org": "450 4.2.1 greylisted"}
    async with mail_server(answers=answers) as mailbox:
        result = await outcome(sender(), mail(mailbox, "ann@example.org", *answers, "bob@example.org"))
    assert isinstance(result, Receipt)
    assert result.detail is not None
    assert "no@example.org: 550 5.1.1 unknown" in result.detail
    assert "later@example.org: 450 4.2.1 greylisted" in result.detail
    assert [to for to, _ in mailbox.mails] == [["ann@example.org", "bob@example.org"]]


async def test_a_server_that_takes_few_recipients_at_a_time_gets_several_transactions() -> None:
    everybody = [f"u{number}@example.org" for number in range(7)]
    async with mail_server(busy_after=3) as mailbox:
        result = await sender().send(mail(mailbox, *everybody))
    assert result.detail is None
    assert [to for to, _ in mailbox.mails] == [everybody[:3], everybody[3:6], everybody[6:]]


async def test_nobody_has_it_and_some_were_put_off_so_that_it_is_tried_again() -> None:
    answers = {"no@example.org": "550 5.1.1 unknown", "later@example.org": "450 4.2.1 greylisted"}
    async with mail_server(answers=answers) as mailbox:
        result = await outcome(sender(), mail(mailbox, *answers))
    assert isinstance(result, Transient)


@pytest.mark.parametrize("how", ["starttls", "tls"])
async def test_tls_is_used_before_the_password_is_sent(how: str) -> None:
    async with mail_server(auth=True, **{how: server_tls("localhost")}) as mailbox:  # type: ignore[arg-type]  # tls or starttls
        scheme = "smtps" if how == "tls" else "smtp"
        result = await outcome(sender(), mail(mailbox, login="tocsin:s3cr%3At%2F%40@", scheme=scheme))
    assert isinstance(result, Receipt)
    assert mailbox.logins == [("tocsin", "s3cr:t/@")]
    assert mailbox.over_tls == [True]


@pytest.mark.parametrize(
    ("names", "reason"), [("elsewhere.example", "Hostname mismatch"), ("localhost", "self")]
)
@pytest.mark.parametrize("how", ["starttls", "tls"])
async def test_a_certificate_must_be_valid(how: str, names: str, reason: str) -> None:
    trusted = tls_context() if names == "localhost" else trusting(tls_context())
    sending = EmailSender(settings(), None, ssl_context=trusted)  # type: ignore[arg-type]  # sends no HTTP
    async with mail_server(**{how: server_tls(names)}) as mailbox:  # type: ignore[arg-type]  # one of two
        result = await outcome(sending, mail(mailbox, scheme="smtps" if how == "tls" else "smtp"))
    assert isinstance(result, Misconfigured)
    assert result.code == "tls certificate"
    assert reason in result.detail or "unable to get local issuer" in result.detail
    assert not mailbox.mails


async def test_a_wrong_password_needs_a_person_and_is_not_shown() -> None:
    async with mail_server(auth=True) as mailbox:
        result = await outcome(sender(), mail(mailbox, login="tocsin:canary-9f3a@"))
    assert isinstance(result, Misconfigured)
    assert result.code == "535"
    assert "canary-9f3a" not in f"{result!r} {result} {result.__context__!r}"


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")
async def test_a_password_is_not_sent_in_the_clear() -> None:
    async with mail_server(auth=True, host="127.0.0.2") as mailbox:
        url = SecretStr(f"smtp://tocsin:s3cr%3At%2F%40@127.0.0.2:{mailbox.port}")
        result = await outcome(sender(), notification(EmailConfig(to=("ann@example.org",), smtp_url=url)))
    assert isinstance(result, Misconfigured)
    assert result.code == "no tls"
    assert not mailbox.logins


@pytest.mark.parametrize("offered", [b"PLAIN", b"LOGIN", b"PLAIN LOGIN", b"CRAM-MD5"])
async def test_a_server_that_quotes_the_login_gives_nothing_away(offered: bytes) -> None:
    async def quote(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 hello\r\n")
        while heard := await reader.readline():
            if heard.startswith(b"EHLO"):
                writer.write(b"250-me\r\n250 AUTH " + offered + b"\r\n")
            elif heard.split() == [b"AUTH", b"CRAM-MD5"]:
                writer.write(b"334 PDE4OTYuNjk3QHBvc3RvZmZpY2U+\r\n")
            else:
                writer.write(b"535 5.7.8 no: " + heard.strip() + b"\r\n")

    async with raw_server(quote) as url:
        port = int(url.rpartition(":")[2])
        result = await outcome(sender(), mail(Mailbox(port=port), login="canary-ann:canary-9f3a@"))
    assert isinstance(result, Misconfigured)
    assert "***" in result.detail
    for word in re.findall(r"[A-Za-z0-9+/]{6,}", result.detail):
        for cut in range(4):
            part = word[cut:]
            assert b"canar" not in base64.b64decode(part[: len(part) // 4 * 4])


async def test_a_server_without_logins_needs_a_person() -> None:
    async with mail_server() as mailbox:
        result = await outcome(sender(), mail(mailbox, login="tocsin:secret@"))
    assert isinstance(result, Misconfigured)


async def test_the_operators_server_needs_no_guard_and_a_tenants_does() -> None:
    async with mail_server() as mailbox:
        url = f"smtp://127.0.0.1:{mailbox.port}"
        strict = settings(allowed_networks="", smtp_url=url)
        sending = EmailSender(strict, None)  # type: ignore[arg-type]  # sends no HTTP
        operators = await outcome(sending, notification(EmailConfig(to=("ann@example.org",))))
        tenants = await outcome(
            sending, notification(EmailConfig(to=("ann@example.org",), smtp_url=SecretStr(url)))
        )
    assert isinstance(operators, Receipt)
    assert isinstance(tenants, Misconfigured)
    assert tenants.code == "blocked address"
    assert len(mailbox.mails) == 1


@pytest.mark.parametrize("missing", [{"mail_from": None}, {}])
async def test_without_server_or_sender_it_is_not_configured(missing: dict[str, Any]) -> None:
    smtp = {"smtp_url": "smtp://127.0.0.1:1"} if missing else {}
    result = await outcome(sender(**missing, **smtp), notification(EmailConfig(to=("ann@example.org",))))
    assert isinstance(result, NotConfigured)


async def test_a_tenants_own_server_may_have_its_own_sender() -> None:
    async with mail_server() as mailbox:
        await sender().send(mail(mailbox, mail_from="noc@tenant.example"))
    assert mailbox.parsed()["From"] == "noc@tenant.example"
    with pytest.raises(ValidationError, match="mail_from needs an smtp_url"):
        EmailConfig(to=("ann@example.org",), mail_from="ceo@bank.example")


async def test_nobody_listens() -> None:
    result = await outcome(sender(), mail(Mailbox(port=closed_port())))
    assert isinstance(result, Transient)
    assert result.code == "connect refused"


@pytest.mark.parametrize("stall", ["banner", "data"])
async def test_a_server_that_says_nothing_is_given_up(stall: str) -> None:
    hang = asyncio.Event()

    async def silent(_: asyncio.StreamReader, __: asyncio.StreamWriter) -> None:
        await hang.wait()

    async with raw_server(silent) as url, mail_server(stall=True) as mailbox:
        port = int(url.rpartition(":")[2]) if stall == "banner" else mailbox.port
        result = await outcome(sender(send_deadline=0.4), mail(Mailbox(port=port)))
    assert isinstance(result, Transient)
    assert result.code == "timeout"


async def test_a_server_that_hangs_keeps_nobody_from_another() -> None:
    # Given as many mails as a server may have connections, to one that says nothing
    async with mail_server(stall=True) as hanging, mail_server() as mailbox:
        mails = sender(send_deadline=3)
        stuck = [asyncio.create_task(outcome(mails, mail(hanging))) for _ in range(CONNECTIONS)]
        await asyncio.sleep(0.1)
        # Then another server's mail goes at once
        async with asyncio.timeout(2):
            assert isinstance(await outcome(mails, mail(mailbox)), Receipt)
        for task in stuck:
            task.cancel()


async def test_a_mail_for_which_no_connection_is_free_was_no_attempt() -> None:
    async with mail_server(stall=True) as hanging:
        mails = sender(send_deadline=1)
        stuck = [asyncio.create_task(outcome(mails, mail(hanging))) for _ in range(CONNECTIONS)]
        await asyncio.sleep(0.1)
        result = await outcome(mails, mail(hanging))
        assert isinstance(result, Transient)
        assert not result.is_attempt
        assert "nothing was sent" in result.detail
        # While what has a connection may have been taken, and its end makes room for the next
        ended = [each for each in await asyncio.gather(*stuck) if isinstance(each, Transient)]
        assert [each.is_attempt for each in ended] == [True] * CONNECTIONS
        hanging.stall = False
        assert isinstance(await outcome(mails, mail(hanging)), Receipt)


async def test_who_logs_in_as_another_has_connections_of_its_own() -> None:
    async with mail_server(auth=True, stall=True) as mailbox:
        mails = sender(send_deadline=3)
        stuck = [
            asyncio.create_task(outcome(mails, mail(mailbox, login="ann:s3cr%3At%2F%40@")))
            for _ in range(CONNECTIONS)
        ]
        await asyncio.sleep(0.3)
        mailbox.stall = False
        async with asyncio.timeout(2):
            assert isinstance(await outcome(mails, mail(mailbox, login="tocsin:s3cr%3At%2F%40@")), Receipt)
        for task in stuck:
            task.cancel()


@pytest.mark.parametrize(
    ("greeting", "kind"),
    [
        (b"554 5.3.2 no service for you\r\n", Misconfigured),
        (b"421 4.3.2 too busy\r\n", Transient),
        (b"220 hello\r\n", Transient),  # and then hangs up
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", SendError),
    ],
)
async def test_a_server_that_turns_us_away(greeting: bytes, kind: type[SendError]) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(greeting)
        await writer.drain()

    async with raw_server(greet) as url:
        result = await outcome(sender(), mail(Mailbox(port=int(url.rpartition(":")[2]))))
    assert isinstance(result, kind)


def _exceptions() -> list[type[Exception]]:
    found = [each for _, each in inspect.getmembers(aiosmtplib.errors, inspect.isclass)]
    return [each for each in found if issubclass(each, Exception) and each.__module__ == "aiosmtplib.errors"]


@pytest.mark.parametrize("kind", _exceptions())
def test_every_exception_of_the_library_has_an_outcome(kind: type[Exception]) -> None:
    """A new version with a new exception makes a new case here."""
    takes_code = issubclass(kind, aiosmtplib.SMTPResponseException)
    names = ["x"] * (len(inspect.signature(kind.__init__).parameters) - 3) if takes_code else []
    for code in (450, 550) if takes_code else (0,):
        parts: list[Any] = [code, "said", *names] if takes_code else ["said"]
        result = translate(kind(*parts))
        assert isinstance(result, SendError)
        assert isinstance(result, Transient) == (
            code == 450 or (not takes_code and issubclass(kind, OSError))
        )


def test_other_errors_are_bugs_and_stay_what_they_are() -> None:
    with pytest.raises(ZeroDivisionError):
        translate(ZeroDivisionError())
    assert isinstance(translate(ssl.SSLError(1, "bad")), Transient)


BAD = [
    ({"to": []}, "at least 1"),
    ({"to": [f"u{n}@example.org" for n in range(MAX_RECIPIENTS + 1)]}, "at most 50"),
    *(
        ({"to": [address]}, "must be an address")
        for address in (
            "ann", "ann@", "@example.org", "a b@example.org", "ann@example.org\r\nBcc: x@example.org", "a\0@b.c",
            "Ann <ann@example.org>", "ann@exa mple.org", "ann@example..org", ".a@b.org", "a" * 65 + "@b.org",
            "a@" + "b." * 130 + "org", "ä@b.org", "ann@[127.0.0.1]",
        )
    ),
    *(
        ({"to": ["ann@example.org"], "smtp_url": url}, r"must be smtp\(s\)://")
        for url in (
            "http://mail.example.org", "smtp://", "smtp://mail.example.org:0", "smtp://mail.example.org:99999",
            "smtp://mail.example.org/path", "smtp://u:p%0d%0aQUIT@mail.example.org", "smtp://0x7f000001",
            "smtp://mail.example.org?x=1", "smtp://127.1",
        )
    ),
    ({"to": ["ann@example.org"], "subject_template": "{{ nope }}"}, "names nope"),
    ({"to": ["ann@example.org"], "cc": ["x@example.org"]}, "Extra inputs"),
]  # fmt: skip


@pytest.mark.parametrize(("config", "rule"), BAD)
def test_a_bad_config_is_refused_with_its_rule(config: dict[str, Any], rule: str) -> None:
    with pytest.raises(ValidationError, match=rule) as caught:
        EmailConfig(**config)
    assert "p%0d" not in str(caught.value)
