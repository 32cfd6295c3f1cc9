"""Mails to a server of this machine, and the sender that sends them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from pydantic import SecretStr

from config.settings import load_settings
from senders.email import EmailConfig, EmailSender
from senders.reach import tls_context
from tests.unit.senders.servers_support import Mailbox, trusting
from tests.unit.senders.support import notification

if TYPE_CHECKING:
    from senders.base import Notification

# aiosmtpd warns of the passwords without TLS that these tests want, and of its own old interface.
AIOSMTPD_WARNINGS = [
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
