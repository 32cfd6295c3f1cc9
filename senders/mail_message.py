"""What a mail of ours looks like: headers, a text and an HTML alternative. Pure.

Every mail of one alert names the same root in References and In-Reply-To, so that mail programs show its
events as one thread; the Message-ID is the same for every attempt, so that a mailbox can drop a repeat.

Facts: RFC 5322 3.6.4 (identification fields), RFC 3834 5 (Auto-Submitted keeps vacation replies away),
RFC 2046 5.1.4 (alternatives, best one last).
"""

from __future__ import annotations

import html
from email.headerregistry import Address
from email.message import EmailMessage
from email.policy import SMTP
from typing import TYPE_CHECKING, Any, Final

from senders.template import TemplateFailedError, render
from senders.text import body, clip, facts, level, one_line, template_notes, title, words

if TYPE_CHECKING:
    from collections.abc import Sequence

    from senders.base import Notification

MAX_SUBJECT: Final = 200
MAX_BODY: Final = 20_000
"""Characters of the alert's message; longer mails are attachments in disguise."""

MAX_FACTS: Final = 50
MAX_NAME: Final = 100
MAX_VALUE: Final = 1_000

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
</table></div>
<p style="font-size:12px;opacity:.7">{footer}</p>
</body></html>
"""
_ROW: Final = (
    '<tr><td style="padding:2px 16px 2px 0;opacity:.7">{}</td><td style="padding:2px 0">{}</td></tr>'
)


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
    said, rows = body(notification), facts(notification)
    notes = template_notes(notification)
    if len(said) > MAX_BODY:
        notes.append(f"message clipped to {MAX_BODY} characters")
    if len(rows) > MAX_FACTS:
        notes.append(f"{len(rows) - MAX_FACTS} details left out")
    said = clip(said, MAX_BODY)
    rows = [(clip(name, MAX_NAME), clip(value, MAX_VALUE)) for name, value in rows[:MAX_FACTS]]
    heading = one_line(title(notification))
    subject = ""
    if subject_template is not None:
        try:
            subject = one_line(render(subject_template, words(notification)))
        except TemplateFailedError as error:
            notes.append(f"subject_template failed ({error}), the title was sent")

    # 7bit: not every server takes 8BITMIME, and what goes through one signed stays as it was signed.
    message = EmailMessage(policy=SMTP.clone(cte_type="7bit"))
    message["Message-ID"] = f"<{notification.id}@{sender.domain}>"
    root = f"<{notification.thread}@{sender.domain}>"
    message["In-Reply-To"] = root
    message["References"] = root
    message["Date"] = notification.accepted_at
    message["From"] = sender
    message["To"] = [Address(addr_spec=recipient) for recipient in recipients]
    message["Subject"] = clip(subject or heading, MAX_SUBJECT)
    message["Auto-Submitted"] = "auto-generated"
    tenant = clip(one_line(notification.tenant_id), MAX_NAME)
    footer = f"{notification.event} · {tenant} · job {notification.job_id}"
    message.set_content(_text(said, rows, footer))
    message.add_alternative(_html(notification, heading, said, rows, footer), subtype="html")
    return message, "; ".join(notes) or None


def _text(said: str, rows: Sequence[tuple[str, str]], footer: str) -> str:
    table = "\n".join(f"{name}: {value}" for name, value in rows)
    return f"{said}\n\n{table}\n\n-- \n{footer}\n"


def _html(
    notification: Notification[Any], heading: str, said: str, rows: Sequence[tuple[str, str]], footer: str
) -> str:
    return _PAGE.format(
        title=html.escape(clip(heading, MAX_VALUE)),
        colour=_CLOSED if notification.event == "CLOSED" else _COLOURS[level(notification)],
        body=html.escape(said),
        rows="\n".join(_ROW.format(html.escape(name), html.escape(value)) for name, value in rows),
        footer=html.escape(footer),
    )
