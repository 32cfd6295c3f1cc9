from __future__ import annotations

import asyncio
import base64
import email.policy
import inspect
import re
import ssl
import sys
from email import message_from_bytes
from html.parser import HTMLParser
from typing import TYPE_CHECKING, Any

import aiosmtplib
import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from config.settings import load_settings
from senders.email import MAX_RECIPIENTS, EmailConfig, EmailSender, translate
from senders.mail_message import MAX_SUBJECT, compose
from senders.outcomes import Misconfigured, NotConfigured, Receipt, Rejected, SendError, Transient
from senders.reach import tls_context
from senders.template import MAX_TEMPLATE, NAMES, check_template
from senders.text import words
from tests.unit.senders.servers_support import Mailbox, mail_server, server_tls, trusting
from tests.unit.senders.support import closed_port, notification, outcome, raw_server

if TYPE_CHECKING:
    from email.headerregistry import Address

    from senders.base import Notification

# aiosmtpd warns of the passwords without TLS that these tests want, and of its own old interface.
pytestmark = [
    pytest.mark.filterwarnings("ignore:Requiring AUTH while not requiring TLS:UserWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:aiosmtpd"),
]

FROM = "Tocsin <tocsin@alerts.example>"


def settings(**overrides: Any) -> Any:
    loopback = {"allowed_networks": "127.0.0.0/8 ::1/128", "send_deadline": 5, "mail_from": FROM}
    return load_settings(**{**loopback, **overrides})


def sender(**overrides: Any) -> EmailSender:
    return EmailSender(settings(**overrides), None, ssl_context=trusting(tls_context()))  # type: ignore[arg-type]  # sends no HTTP


def mail(
    mailbox: Mailbox, *to: str, login: str = "", scheme: str = "smtp", **config: Any
) -> Notification[Any]:
    url = f"{scheme}://{login}localhost:{mailbox.port}"
    return notification(EmailConfig(to=to or ("ann@example.org",), smtp_url=SecretStr(url), **config))


async def test_a_mail_says_what_happened_and_belongs_to_a_thread() -> None:
    async with mail_server() as mailbox:
        for event in ("OPEN", "CLOSED"):
            opened = notification(mail(mailbox).config, event)
            result = await sender().send(opened)
    first, second = mailbox.parsed(0), mailbox.parsed(1)
    assert result.code == "250 2.0.0 queued as 4XYZ"
    assert result.provider_id == second["Message-ID"] == f"<{opened.id}@alerts.example>"
    assert first["References"] == second["References"] == second["In-Reply-To"]
    assert first["References"] == f"<{opened.thread}@alerts.example>"
    assert first["Subject"] == "Error: smoke detected at cam-3, berlin"
    assert second["Subject"] == "Resolved: smoke detected at cam-3, berlin"
    assert first["Auto-Submitted"] == "auto-generated"
    assert first["From"] == FROM
    assert first["To"] == "ann@example.org"
    assert first["Date"] == "Tue, 03 Nov 2026 20:26:10 +0000"
    text, html = first.get_body(("plain",)), first.get_body(("html",))
    assert text is not None
    assert html is not None
    assert "Smoke in the hall" in text.get_content()
    assert "note: <b>R&D</b>" in text.get_content()
    assert "&lt;b&gt;R&amp;D&lt;/b&gt;" in html.get_content()
    assert "color-scheme" in html.get_content()
    assert not re.search(r"src=|href=|url\(|background", html.get_content())


async def test_a_mail_is_seven_bit_and_its_dots_survive() -> None:
    async with mail_server() as mailbox:
        said = ".\n.. 🔥 ünï\r\n.\r\nMAIL FROM:<evil@example.org>\n" + "x" * 3000
        await sender().send(notification(mail(mailbox).config, alert={"message": said}))
    assert len(mailbox.mails) == 1
    assert mailbox.mails[0][1].isascii()
    assert max(map(len, mailbox.mails[0][1].split(b"\r\n"))) <= 998
    text = mailbox.parsed().get_body(("plain",))
    assert text is not None
    assert (
        text.get_content()
        .replace("\r\n", "\n")
        .startswith(".\n.. 🔥 ünï\n.\nMAIL FROM:<evil@example.org>\nxxx")
    )


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


@pytest.mark.parametrize(
    ("template", "subject"),
    [
        ("[{{ level | upper }}] {{ alert.message }}", "[ERROR] Smoke in the hall"),
        ("{{ alert.details.note }} {{ alert['site_id'] }}", "<b>R&D</b> berlin"),
        ("{% if event == 'OPEN' %}New{% else %}{{ lead }}{% endif %}: {{ title }}", None),
        ("{{ alert.nothing.at.all | default('none') }}", "none"),
        ("{{ alert.nothing }}", "Error: smoke detected at cam-3, berlin"),
        ("{{ symbol }} {{ tenant_id ~ '/' ~ job_id }} {{ severity }}", "🟠 acme/12 3"),
        ("{{ alert.items }}{{ alert.keys }}{{ alert.__class__ }}x", "x"),
    ],
)
async def test_a_subject_can_be_a_template(template: str, subject: str | None) -> None:
    async with mail_server() as mailbox:
        await sender().send(mail(mailbox, subject_template=template))
    assert mailbox.parsed()["Subject"] == (subject or "New: Error: smoke detected at cam-3, berlin")


@pytest.mark.parametrize(
    "template",
    [
        "", "   ", "x" * (MAX_TEMPLATE + 1), "{{", "{% endif %}", "{{ ''.__class__.__mro__ }}" * 200,
        "{{ cycler.__init__.__globals__ }}", "{{ title.upper() }}", "{% for a in title %}{{ a }}{% endfor %}",
        "{{ 'a' * 1000000000 }}", "{{ 10 ** 1000000 }}", "{{ range(10) }}", "{% set x = 1 %}", "{{ self }}",
        "{{ title | center(1000000000) }}", "{{ title | replace('', title) }}", "{{ title | attr('x') }}",
        "{% include 'x' %}", "{% import 'os' as o %}", "{% macro m() %}{% endmacro %}", "{{ [1, 2] }}",
        "{{ title is callable }}", "{{ title[0:3] }}", "{{ '%s' % title }}", "{{ lipsum() }}",
        "{% raw %}" * 3, "{{ (" * 100, "{% extends 'x' %}", "{{ title | default(default_value=title) }}",
    ],
)  # fmt: skip
def test_a_hostile_template_is_refused_when_it_is_saved(template: str) -> None:
    with pytest.raises(ValueError, match=r"(must|names) "):
        check_template(template)


TEXTS = st.text(max_size=400) | st.text(alphabet="\r\n\0\t .<>&\"'🔥👩‍👩‍👧 é\ud800\u202e:=?", max_size=200)


def _address(text: str) -> Address:
    return EmailSender(settings(mail_from=text), None)._from(EmailConfig(to=("a@b.org",)))  # type: ignore[arg-type]  # sends no HTTP


@hypothesis.settings(max_examples=25)  # each is a whole mail, made and parsed
@given(TEXTS, TEXTS, TEXTS)
def test_whatever_an_alert_says_makes_one_well_formed_mail(kind: str, said: str, tenant: str) -> None:
    alert = {
        "alert_type": kind,
        "message": said,
        "device_id": said,
        "details": {said: kind, kind: {"x": said}},
    }
    sent = notification(EmailConfig(to=("a@b.org", "c@d.org")), alert=alert, tenant_id=tenant)
    message, _ = compose(
        sent,
        sender=_address(FROM),
        recipients=sent.config.to,
        subject_template="{{ alert.message }}{{ tenant_id }}",
    )
    raw = message.as_bytes()
    parsed = message_from_bytes(raw, policy=email.policy.default)
    assert sorted(parsed.keys()) == sorted(
        ["Message-ID", "In-Reply-To", "References", "Date", "From", "To", "Subject", "Auto-Submitted",
         "MIME-Version", "Content-Type"]
    )  # fmt: skip
    assert raw.isascii()
    assert b"\0" not in raw
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)
    assert 0 < len(parsed["Subject"]) <= MAX_SUBJECT + 100  # folding may add a space at an encoded word
    html = parsed.get_body(("html",))
    assert html is not None
    tags = _Tags()
    tags.feed(html.get_content())
    assert tags.seen <= {"html", "head", "meta", "title", "body", "div", "h1", "p", "table", "tr", "td"}


class _Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.seen: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.seen.add(tag)


def test_a_subject_may_name_what_every_template_may() -> None:
    assert set(words(notification(EmailConfig(to=("a@b.org",))))) == set(NAMES)


@pytest.mark.parametrize(
    ("template", "note"),
    [("{{ alert.nothing }}", "subject_template made no text, the title was sent"), ("{{ title }}", None)],
)
async def test_a_template_that_makes_nothing_is_noted(template: str, note: str | None) -> None:
    async with mail_server() as mailbox:
        result = await sender().send(mail(mailbox, subject_template=template))
    assert mailbox.parsed()["Subject"] == "Error: smoke detected at cam-3, berlin"
    assert result.detail == note


def _composed(config: EmailConfig, alert: dict[str, Any]) -> tuple[str, str, str | None]:
    """Text, HTML and note of a mail."""
    sent = notification(config, alert=alert)
    message, note = compose(
        sent, sender=_address(FROM), recipients=config.to, subject_template=config.subject_template
    )
    parsed = message_from_bytes(message.as_bytes(), policy=email.policy.default)
    parts = [parsed.get_body((kind,)) for kind in ("plain", "html")]
    text, html = (part.get_content().replace("\r\n", "\n") for part in parts if part is not None)
    return text, html, note


def test_a_mail_links_to_the_alert_and_fetches_no_image() -> None:
    url, image = "https://example.org/a?x=1&y=\"<b>'", "https://example.org/cam-3.jpg"
    text, html, note = _composed(EmailConfig(to=("a@b.org",)), {"details": {"url": url, "image_url": image}})
    assert f"\n\nOpen: {url}\nImage: {image}\n\nSeverity: error (3)\n" in text
    assert '<a href="https://example.org/a?x=1&amp;y=&quot;&lt;b&gt;&#x27;">Open</a>' in html
    assert f'<a href="{image}">Image</a>' in html
    assert "<img" not in html
    assert note is None


def test_a_link_that_is_none_costs_only_itself() -> None:
    bad = {"details": {"url": "javascript:alert(1)", "image_url": "data:image/png;base64,x"}}
    text, html, note = _composed(EmailConfig(to=("a@b.org",)), bad)
    assert "javascript" not in text + html
    assert "href" not in html
    assert note is not None
    assert note.count("left out: it must") == 2


def test_what_is_clipped_or_left_out_is_named() -> None:
    long = {
        "message": "m" * 30_000,
        "device_id": "d" * 2000,
        "details": {f"key {number}": "v" for number in range(60)},
    }
    _, html, note = _composed(EmailConfig(to=("a@b.org",), subject_template="{{ alert.message }}"), long)
    assert note == "16 details left out; clipped: details, message, title, subject"
    assert "m" * 20_001 not in html
    *_, note = _composed(EmailConfig(to=("a@b.org",)), {"details": {"trace": "x" * 1001}})
    assert note == "clipped: details"


def test_a_channels_templates_make_heading_and_message() -> None:
    config = EmailConfig(
        to=("a@b.org",),
        title_template="Hall {{ alert.site_id }}",
        body_template="{% if event > severity %}x{% endif %}",
    )
    text, html, note = _composed(config, {})
    assert "Hall berlin</h1>" in html
    assert text.startswith("Smoke in the hall\n")
    assert note is not None
    assert note.startswith("body_template failed (")


async def test_a_template_that_fails_for_an_alert_costs_nothing_but_its_words() -> None:
    async with mail_server() as mailbox:
        template = "{% if alert.message > severity %}x{% endif %}"
        result = await sender().send(mail(mailbox, subject_template=template))
    assert mailbox.parsed()["Subject"] == "Error: smoke detected at cam-3, berlin"
    assert result.detail is not None
    assert "subject_template failed" in result.detail
