"""What can come of one attempt at one target: a receipt, or one of a closed set of errors.

    SendError
    ├── Transient       may work later: network, timeout, 408, 425, 429, 5xx
    ├── Rejected        this message can never work
    ├── TargetGone      this address can never work
    └── Misconfigured   nothing will work until a person acts
        └── NotConfigured   there are no credentials for this provider at all

A sender raises; it never retries, sleeps or decides what happens next. Anything else that escapes a sender is a bug of
ours. Texts given here are stored and shown to people: they name the provider's answer and never hold a secret.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Receipt:
    """The provider took it.

    Attributes:
        code: the provider's answer in its own words, such as "200" or "202 queued".
        provider_id: the id under which the provider knows the message, if it gives one.
        detail: what a person should know about this delivery, such as what had to be truncated.
    """

    code: str
    provider_id: str | None = None
    detail: str | None = None


class SendError(Exception):
    """The provider did not take it. Use one of the subclasses.

    Attributes:
        code: the provider's answer in its own words, such as "410 Unregistered" or "connect timeout".
        detail: what it means and what a person could do; redacted.
        provider_id: the id under which the provider knows the attempt, if it gave one.
    """

    def __init__(self, code: str, detail: str = "", *, provider_id: str | None = None) -> None:
        super().__init__(code, detail)
        self.code = code
        self.detail = detail
        self.provider_id = provider_id

    def __str__(self) -> str:
        return f"{self.code}: {self.detail}" if self.detail else self.code


class Transient(SendError):
    """May work later.

    Attributes:
        retry_after: seconds the provider asked us to wait, already clamped; None where it did not say.
        is_attempt: False where nothing was sent, since this process has as much under way there as it may have.
    """

    def __init__(
        self,
        code: str,
        detail: str = "",
        *,
        retry_after: float | None = None,
        provider_id: str | None = None,
        is_attempt: bool = True,
    ) -> None:
        super().__init__(code, detail, provider_id=provider_id)
        self.retry_after = retry_after
        self.is_attempt = is_attempt


class Rejected(SendError):
    """This message can never work, whatever we do: too large, malformed, forbidden content."""


class TargetGone(SendError):
    """This address can never work: the device is to be disabled.

    Attributes:
        since: when the provider learned that the address was gone. A device that registered again after that stays.
    """

    def __init__(
        self, code: str, detail: str = "", *, since: datetime | None = None, provider_id: str | None = None
    ) -> None:
        super().__init__(code, detail, provider_id=provider_id)
        self.since = since


class Misconfigured(SendError):
    """Nothing will work on this channel, or with these credentials, until a person acts."""


class NotConfigured(Misconfigured):
    """Neither the channel nor the settings hold credentials for this provider."""

    def __init__(self, provider: str, remedy: str) -> None:
        super().__init__("not configured", f"{provider} is not configured: {remedy}")
