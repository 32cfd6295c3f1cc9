"""PagerDuty, by its Events API v2: an alert opens, acknowledges and resolves one incident.

Set up:
    1. In PagerDuty: the service, "Integrations", "Add an integration", "Events API V2".
    2. Give its Integration Key to the channel as `integration_key`; `region: eu` for an account in the EU.
    3. `endpoint` is for software that takes the same events, or for a relay; a path of its own is kept.

OPEN and ESCALATED trigger, ACKNOWLEDGED acknowledges, CLOSED resolves, all with the alert's thread as
dedup_key, so that a repeat changes nothing. Let a rule deliver all of them (`deliver_on`), or incidents stay
open.

Facts: https://developer.pagerduty.com/docs/send-alert-event, .../docs/events-api-v2-overview
"""

from __future__ import annotations

import re
from http import HTTPStatus
from typing import Annotated, Any, ClassVar, Final, Literal, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, SecretStr, model_validator

from senders.base import ChannelConfig, Notification, Sender
from senders.guard import check_url
from senders.http import Answer, classify
from senders.notes import Notes, links
from senders.outcomes import Misconfigured, Receipt
from senders.redaction import url_secrets
from senders.text import body, level, one_line, rfc3339, title, to_json

MAX_EVENT: Final = 512_000
MAX_SUMMARY: Final = 1024
MAX_FIELD: Final = 255
"""Characters of source, component, group and class; PagerDuty names no limit for them."""

HOSTS: Final = {"us": "https://events.pagerduty.com", "eu": "https://events.eu.pagerduty.com"}
PATH: Final = "/v2/enqueue"

_ACTIONS: Final = {"ACKNOWLEDGED": "acknowledge", "CLOSED": "resolve"}
_KEY: Final = re.compile(r"[A-Za-z0-9]{32}")
_FOREIGN_KEY: Final = re.compile(r"[!-~]{1,255}")
_ABOUT_KEY: Final = re.compile(r"routing[_ ]key", re.IGNORECASE)


class PagerDutyConfig(ChannelConfig):
    """The Events API v2 integration of one PagerDuty service."""

    integration_key: SecretStr
    region: Literal["us", "eu"] = "us"
    endpoint: Annotated[str, AfterValidator(check_url)] | None = None

    @model_validator(mode="after")
    def _check_key(self) -> Self:
        key = self.integration_key.get_secret_value()
        # What stands behind an endpoint of its own, such as a relay, may use keys of another shape.
        if not (_KEY if self.endpoint is None else _FOREIGN_KEY).fullmatch(key):
            raise ValueError("integration_key must be the 32 letters and digits of an Events V2 integration")
        return self

    @property
    def url(self) -> str:
        """Where events go."""
        base = self.endpoint or HOSTS[self.region]
        return base if urlsplit(base).path.strip("/") else base.rstrip("/") + PATH


class PagerDutySender(Sender[PagerDutyConfig]):
    """Triggers, acknowledges and resolves PagerDuty incidents."""

    name: ClassVar[str] = "pagerduty"
    Config: ClassVar[type[ChannelConfig]] = PagerDutyConfig

    async def send(self, notification: Notification[PagerDutyConfig]) -> Receipt:
        """Enqueue the event. The receipt's provider_id is the dedup_key that PagerDuty confirms.

        Raises:
            Transient: 429, 5xx.
            Misconfigured: 400 that complains of the routing key.
            Rejected: other 4xx.
        """
        notes = Notes(notification)
        event = _event(notification, notes)
        content = to_json(event)
        if len(content) > MAX_EVENT and "payload" in event:
            size = f"the event had {len(content)} bytes, PagerDuty takes {MAX_EVENT}"
            notes.add(f"custom_details left out: {size}")
            del event["payload"]["custom_details"]
            content = to_json(event)
        config = notification.config
        headers = {"content-type": "application/json"}
        answer = await self.http.post(config.url, content=content, headers=headers)
        return _outcome(answer, config, notes.detail)


def _outcome(answer: Answer, config: PagerDutyConfig, note: str | None) -> Receipt:
    parsed = answer.json()
    said = parsed if isinstance(parsed, dict) else {}
    if answer.ok:
        key = said.get("dedup_key")
        return Receipt(answer.code, key if isinstance(key, str) else None, note)
    detail = answer.excerpt((config.integration_key.get_secret_value(), *url_secrets(config.url)))
    if answer.status == HTTPStatus.BAD_REQUEST and _ABOUT_KEY.search(str(said.get("errors"))):
        raise Misconfigured(answer.code, detail)
    return classify(answer, detail=detail)


def _event(notification: Notification[PagerDutyConfig], notes: Notes) -> dict[str, Any]:
    action = _ACTIONS.get(notification.event, "trigger")
    event: dict[str, Any] = {
        "routing_key": notification.config.integration_key.get_secret_value(),
        "event_action": action,
        "dedup_key": notification.thread,
    }
    if action == "trigger":
        event |= {"client": "Tocsin", "payload": _trigger(notification, notes), **_links(notification, notes)}
    return event


def _links(notification: Notification[PagerDutyConfig], notes: Notes) -> dict[str, Any]:
    """The alert's link, and its image, which must be https:// ("must be served via HTTPS")."""
    found = links(notification, notes)
    url, image = found.get("url"), found.get("image_url", "")
    shown: dict[str, Any] = {}
    if url:
        shown["links"] = [{"href": url, "text": "Open"}]
    if image.startswith("https://"):
        shown["images"] = [{"src": image, "alt": "image", **({"href": url} if url else {})}]
    elif image:
        notes.add("details.image_url left out: PagerDuty shows only https:// images")
    return shown


def _trigger(notification: Notification[PagerDutyConfig], notes: Notes) -> dict[str, Any]:
    alert = notification.alert

    def short(key: str) -> str:
        return notes.clip(key, one_line(alert.get(key) or ""), MAX_FIELD)

    optional = {"component": short("device_id"), "group": short("site_id"), "class": short("alert_type")}
    return {
        "summary": notes.clip(
            "summary", one_line(f"{title(notification)}: {body(notification)}"), MAX_SUMMARY
        ),
        "source": optional["component"] or optional["group"] or "tocsin",
        "severity": level(notification),
        "timestamp": str(alert.get("triggered_at") or rfc3339(notification.accepted_at)),
        **{name: value for name, value in optional.items() if value},
        "custom_details": {
            "alert_id": alert.get("alert_id"),
            "event": notification.event,
            "severity": notification.severity,
            "message": alert.get("message"),
            "details": alert.get("details"),
            "tenant_id": notification.tenant_id,
            "job_id": notification.job_id,
        },
    }
