"""What a mail of ours looks like: headers, a text and an HTML alternative. Pure.

Every mail of one alert names the same root in References and In-Reply-To, so that mail programs show its
events as one thread; the Message-ID is the same for every attempt, so that a mailbox can drop a repeat.

Facts: RFC 5322 3.6.4 (identification fields), RFC 3834 5 (Auto-Submitted keeps vacation replies away),
RFC 2046 5.1.4 (alternatives, best one last), RFC 2047 2 (encoded words and their lines), RFC 5322 2.2.3 (folding).
"""

from __future__ import annotations

import html
import textwrap
from email.header import Header
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, Any, Final

from senders.notes import Notes, links
from senders.template import TemplateFailedError, render
from senders.text import body, facts, level, one_line, title, words

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from senders.base import Notification

MAX_SUBJECT: Final = 200
MAX_SENDER: Final = 60
"""Characters of the From address's name."""

MAX_LINE: Final = 76
"""Characters of a header's line that has an encoded word (RFC 2047, 2); other lines are kept to it, too."""

MAX_BODY: Final = 20_000
"""Characters of the alert's message; longer mails are attachments in disguise."""

MAX_FACTS: Final = 50
MAX_NAME: Final = 100
MAX_VALUE: Final = 1_000

# An image is a link, too: one that a mail program fetches by itself tells its host who has read the mail.
_LINK_NAMES: Final = {"url": "Open", "image_url": "Image"}

_COLOURS: Final = {"info": "#2f6fde", "warning": "#c98a00", "error": "#d9541e", "critical": "#c8102e"}
_CLOSED: Final = "#2e8b57"

# No background and no text colour: mail programs in dark mode then bring their own, and both are readable.
_PAGE: Final = """\
<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><meta name="color-scheme" content="light dark">
<meta name="supported-color-schemes" content="light dark"><title>{title}</title></head>
<body style="font:16px/1.5 system-ui,-apple-system,'Segoe UI',sans-serif;margin:16px">
<div style="border-left:6px solid {colour};padding-left:14px">
<h1 style="font-size:20px;margin:0 0 8px">{title}</h1>
<p style="white-space:pre-line;margin:0 0 12px">{body}</p>
<table role="presentation" style="border-collapse:collapse;font-size:14px">
{rows}
</table>{links}</div>
<p style="font-size:12px;opacity:.7">{footer}</p>
</body></html>
"""
_ROW: Final = (
    '<tr><td style="padding:2px 16px 2px 0;opacity:.7">{}</td><td style="padding:2px 0">{}</td></tr>'
)
_LINK: Final = '\n<p style="margin:12px 0 0"><a href="{}">{}</a></p>'


def compose(
    notification: Notification[Any],
    *,
    sender: Address,
    recipients: Sequence[str],
    subject_template: str | None,
) -> tuple[EmailMessage, str | None]:
    """The mail, and a note on what was left out.

    Args:
        notification: what to say.
        sender: the From address; its domain is that of the Message-ID.
        recipients: addr-specs of the To header, checked.
        subject_template: accepted by template.check_template; None for the alert's title.
    """
    notes = Notes(notification)
    rows = facts(notification)
    if len(rows) > MAX_FACTS:
        notes.add(f"{len(rows) - MAX_FACTS} details left out")
    rows = [
        (notes.clip("details", name, MAX_NAME), notes.clip("details", value, MAX_VALUE))
        for name, value in rows[:MAX_FACTS]
    ]
    said = notes.clip("message", body(notification), MAX_BODY)
    found = {_LINK_NAMES[name]: url for name, url in links(notification, notes).items()}
    heading = notes.clip("title", title(notification), MAX_VALUE)
    subject = _subject(subject_template, notification, notes) or heading

    # 7bit: not every server takes 8BITMIME, and what goes through one signed stays as it was signed.
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit", refold_source="none"))
    _add(message, "Message-ID", f"<{notification.id}@{sender.domain}>")
    root = f"<{notification.thread}@{sender.domain}>"
    _add(message, "In-Reply-To", root)
    _add(message, "References", root)
    message["Date"] = notification.accepted_at
    name = notes.clip("sender", _literal(sender.display_name), MAX_SENDER)
    _add(message, "From", _mailbox(name, sender))
    _add(message, "To", ", ".join(recipients))
    _add(message, "Subject", _encoded(notes.clip("subject", _literal(subject), MAX_SUBJECT)))
    message["Auto-Submitted"] = "auto-generated"
    tenant = notes.clip("tenant", one_line(notification.tenant_id), MAX_NAME)
    footer = f"{notification.event} · {tenant} · job {notification.job_id}"
    message.set_content(_text(said, rows, found, footer))
    page = _html(said, rows, found, footer, heading=heading, colour=_colour(notification))
    message.add_alternative(page, subtype="html")
    return message, notes.detail


def _add(message: EmailMessage, name: str, text: str) -> None:
    """Add a header of ASCII text, folded at its spaces; a word that is longer than a line stays whole.

    EmailMessage would fold it, too, but it loses the space between two encoded words or glues them together
    (https://github.com/python/cpython/issues/144156), encodes a long word, be it a message id, and decodes what
    looks encoded, with the line breaks in it (CVE-2024-6923).
    """
    first = f"{name}: "
    lines = textwrap.wrap(
        text,
        MAX_LINE,
        initial_indent=first,
        subsequent_indent=" ",
        break_long_words=False,
        break_on_hyphens=False,
    )
    message.set_raw(name, "\r\n".join(lines).removeprefix(first))


def _encoded(text: str) -> str:
    """ASCII as it is; else encoded words with a space between them, each of which fits behind "Subject: "."""
    return text if text.isascii() else Header(text, "utf-8", MAX_LINE, "Subject").encode(linesep="")


def _mailbox(name: str, address: Address) -> str:
    """The address under a name, which is quoted where it is ASCII, and encoded where it is not."""
    if name.isascii():
        return str(Address(name, address.username, address.domain))
    return f"{_encoded(name)} <{address.addr_spec}>"


def _literal(text: str) -> str:
    """One line for a header, without the beginning of an encoded word.

    Who reads it would decode that, and Python below 3.11.10 then writes the line breaks inside it as they are
    (CVE-2024-6923): an alert could add headers, and a body of its own.
    """
    return text.replace("=?", "= ?")


def _subject(template: str | None, notification: Notification[Any], notes: Notes) -> str:
    """What the template makes; empty where there is none, or it makes nothing."""
    if template is None:
        return ""
    try:
        subject = one_line(render(template, words(notification)))
    except TemplateFailedError as error:
        notes.add(f"subject_template failed ({error}), the title was sent")
        return ""
    if not subject:
        notes.add("subject_template made no text, the title was sent")
    return subject


def _text(said: str, rows: Sequence[tuple[str, str]], found: Mapping[str, str], footer: str) -> str:
    tables = ["\n".join(f"{name}: {value}" for name, value in table) for table in (found.items(), rows)]
    return "\n\n".join([said, *filter(None, tables), f"-- \n{footer}\n"])


def _html(
    said: str,
    rows: Sequence[tuple[str, str]],
    found: Mapping[str, str],
    footer: str,
    *,
    heading: str,
    colour: str,
) -> str:
    return _PAGE.format(
        title=html.escape(heading),
        colour=colour,
        body=html.escape(said),
        rows="\n".join(_ROW.format(html.escape(name), html.escape(value)) for name, value in rows),
        links="".join(_LINK.format(html.escape(url), name) for name, url in found.items()),
        footer=html.escape(footer),
    )


def _colour(notification: Notification[Any]) -> str:
    return _CLOSED if notification.event == "CLOSED" else _COLOURS[level(notification)]
