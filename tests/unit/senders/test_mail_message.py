"""The mail itself: well-formed whatever an alert says, with a channel's own subject, title and body."""

from __future__ import annotations

import base64
import email.policy
import re
from email import message_from_bytes
from email.header import decode_header, make_header
from email.headerregistry import Address
from email.utils import parseaddr
from html.parser import HTMLParser
from typing import Any

import hypothesis
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from senders.email import EmailConfig, sender_address
from senders.mail_message import MAX_LINE, MAX_SENDER, MAX_SUBJECT, compose
from senders.template import MAX_TEMPLATE, NAMES, check_template
from senders.text import clip, one_line, title, words
from tests.unit.senders.mail_support import AIOSMTPD_WARNINGS, FROM, mail, sender, settings
from tests.unit.senders.servers_support import mail_server
from tests.unit.senders.support import notification

pytestmark = AIOSMTPD_WARNINGS


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


HEADERS = [
    "Message-ID", "In-Reply-To", "References", "Date", "From", "To", "Subject", "Auto-Submitted", "MIME-Version",
    "Content-Type",
]  # fmt: skip

TEXTS = st.text(max_size=400) | st.text(alphabet="\r\n\0\t .<>&\"'🔥👩‍👩‍👧 é\ud800\u202e:=?", max_size=200)


def _address(text: str) -> Address:
    return sender_address(settings(mail_from=text), EmailConfig(to=("a@b.org",)))


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
    assert sorted(parsed.keys()) == sorted(HEADERS)
    assert raw.isascii()
    assert b"\0" not in raw
    assert not re.search(rb"(?<!\r)\n|\r(?!\n)", raw)
    assert 0 < len(parsed["Subject"]) <= MAX_SUBJECT
    html = parsed.get_body(("html",))
    assert html is not None
    tags = _Tags()
    tags.feed(html.get_content())
    assert tags.seen <= {"html", "head", "meta", "title", "body", "div", "h1", "p", "table", "tr", "td"}


WORDS = st.lists(
    st.sampled_from([
        "water", "Genève", "„Küche“", "[Köln]", "漢字", "😀" * 12,
        "👩‍👩‍👧", "@edge", "<80", "a@b.example", '"q\\"', ",", ";",
        "(x)", ".", "=", "?", "=?", "?=", "=?utf-8?q?x?=", "x" * 90, "é" * 90,
    ]),
    min_size=1,
    max_size=30,
).map(" ".join)  # fmt: skip


def _headers(raw: bytes) -> dict[str, bytes]:
    """Each header as it is in the mail, folded."""
    found = re.findall(
        rb"^([\w-]+): (.*(?:\r\n[ \t].*)*)\r$", raw.partition(b"\r\n\r\n")[0] + b"\r\n", re.MULTILINE
    )
    return {name.decode(): value for name, value in found}


@hypothesis.settings(max_examples=150)
@given(said=WORDS | TEXTS, name=WORDS | TEXTS)
@hypothesis.example(said="Critical: machine gate call in 3 Zürich Köln in Zürich room", name="Überwachung")
@hypothesis.example(said="Porte ouverte: é @home", name="é [x] y")
def test_what_is_meant_is_what_is_read(said: str, name: str) -> None:
    sent = notification(EmailConfig(to=("a@b.org",)), alert={"details": {"title": said}})
    message, _ = compose(
        sent,
        sender=Address(one_line(name), addr_spec="tocsin@alerts.example"),
        recipients=sent.config.to,
        subject_template=None,
    )
    raw = message.as_bytes()
    headers = _headers(raw)
    # Then both are read as they were meant
    subject = clip(title(sent).replace("=?", "= ?"), MAX_SUBJECT)
    assert message_from_bytes(raw, policy=email.policy.default)["Subject"] == subject
    # by the older parser, too; email.policy.default keeps a space between two encoded words of a name
    shown, address = parseaddr(re.sub(rb"\r\n", b"", headers["From"]).decode())
    assert address == "tocsin@alerts.example"
    assert str(make_header(decode_header(shown))) == clip(one_line(name).replace("=?", "= ?"), MAX_SENDER)
    # and each encoded word is whole, on a line that is short enough, and has white space around it (RFC 2047, 2)
    for header, value in headers.items():
        for line in f"{header}: {value.decode()}".split("\r\n"):
            assert len(line) <= MAX_LINE or ("=?" not in line and len(line.split()) <= 2)
        for word in value.split() if b"=?" in value else ():
            assert b"=?" not in word or re.fullmatch(rb"=\?utf-8\?[bq]\?[!->@-~]+\?=", word)


@pytest.mark.parametrize("length", [20, 60, 180])
def test_ids_and_addresses_stay_whole_however_long_the_domain_is(length: int) -> None:
    domain = ".".join(["d" * 59] * (length // 60) + ["alerts", "example"])
    recipients = tuple(f"{number}{'r' * 50}@{domain}" for number in range(3))
    sent = notification(EmailConfig(to=recipients))
    message, _ = compose(
        sent,
        sender=Address("Ops", "tocsin", domain),
        recipients=recipients,
        subject_template="x" * 100 + " y",
    )
    raw = message.as_bytes()
    headers = _headers(raw)
    assert headers["Message-ID"] == f"<{sent.id}@{domain}>".encode()
    assert headers["References"] == headers["In-Reply-To"] == f"<{sent.thread}@{domain}>".encode()
    assert headers["Subject"] == b"x" * 100 + b" y" or headers["Subject"] == b"x" * 100 + b"\r\n y"
    parsed = message_from_bytes(raw, policy=email.policy.default)
    assert [each.addr_spec for each in parsed["To"].addresses] == list(recipients)
    assert max(map(len, raw.split(b"\r\n"))) <= 998


def _encoded_word(text: str, charset: str, encoding: str) -> str:
    data = text.encode(charset, "replace")
    said = (
        base64.b64encode(data).decode()
        if encoding in "bB"
        else "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"={byte:02x}" for byte in data)
    )
    return f"=?{charset}?{encoding}?{said}?="


ENCODED_WORDS = st.lists(
    st.builds(
        _encoded_word,
        st.sampled_from(["ok\r\nReply-To: evil@x.example\r\n\r\n<p>Log in", "\nBcc: a@b.org", "\0", "\r", "é"])
        | st.text(max_size=30),
        st.sampled_from(["utf-8", "us-ascii", "ISO-8859-1", "utf-16"]),
        st.sampled_from("bBqQ"),
    )
    | st.sampled_from([" ", "=", "?", "=?", "?=", "x", "🔥", "\n"]),
    min_size=1,
    max_size=6,
).map("".join)  # fmt: skip


@hypothesis.settings(max_examples=50)
@given(kind=ENCODED_WORDS, name=ENCODED_WORDS, subject=st.sampled_from([None, "{{ alert.alert_type }}"]))
@hypothesis.example(
    kind=_encoded_word("ok\r\nReply-To: evil@x.example\r\n\r\nhello", "utf-8", "b"), name="x", subject=None
)
@hypothesis.example(kind="x", name=_encoded_word("ok\r\nBcc: evil@x.example", "utf-8", "q"), subject=None)
def test_an_encoded_word_is_text_and_makes_no_header(kind: str, name: str, subject: str | None) -> None:
    sent = notification(EmailConfig(to=("a@b.org",)), alert={"alert_type": kind, "details": {"title": None}})
    message, _ = compose(
        sent,
        sender=Address(one_line(name), addr_spec="tocsin@alerts.example"),
        recipients=sent.config.to,
        subject_template=subject,
    )
    raw = message.as_bytes()
    lines = raw.partition(b"\r\n\r\n")[0].split(b"\r\n")
    names = [line.partition(b":")[0].decode() for line in lines if not line.startswith(b" ")]
    assert names == HEADERS
    values = message_from_bytes(raw, policy=email.policy.default).values()
    assert not any(set("\r\n\0") & set(value) for value in values)
    assert message_from_bytes(raw, policy=email.policy.default)["To"] == "a@b.org"


@pytest.mark.parametrize(
    ("charset", "encoding"), [("utf-8", "b"), ("utf-8", "q"), ("us-ascii", "B"), ("iso-8859-1", "Q")]
)
@pytest.mark.parametrize("form", ["{}@x.example", "a{}@x.example", "a.{}@x.example", "{}.a@x.example"])
def test_an_address_of_encoded_words_makes_no_header(form: str, charset: str, encoding: str) -> None:
    address = form.format(_encoded_word("a\r\nBcc: evil@x.example", charset, encoding))
    try:
        config = EmailConfig(to=(address,))
    except ValidationError:
        return
    message, _ = compose(
        notification(config), sender=_address(FROM), recipients=config.to, subject_template=None
    )
    assert f"\r\nTo: {address}\r\n" in message.as_string().replace("\n ", "")
    assert "\nBcc" not in message.as_string()


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
