"""PagerDuty's Events API v2, with the incidents that its events open, acknowledge and resolve.

Sources: developer.pagerduty.com/docs/events-api-v2-overview and /docs/send-alert-event (fields, sizes,
answers), support.pagerduty.com "Event management" (deduplication).
"""

from __future__ import annotations

import hashlib
import re
import secrets
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web
from typing_extensions import override

from receivers.checks import Findings, is_media_type, is_rfc3339, parse_object
from receivers.http import HttpReceiver
from receivers.records import Answer, Arrival, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from receivers.records import Received

LARGEST_EVENT = 512_000  # bytes
_STATE_AFTER = {"trigger": "triggered", "acknowledge": "acknowledged", "resolve": "resolved"}
_ROUTING_KEY = re.compile(r"[A-Za-z0-9]{32}")
_EVENT = frozenset(
    {"routing_key", "event_action", "dedup_key", "payload", "client", "client_url", "links", "images"}
)
_PAYLOAD = frozenset(
    {"summary", "source", "severity", "timestamp", "component", "group", "class", "custom_details"}
)
_SEVERITIES = frozenset({"critical", "error", "warning", "info"})


@dataclass(slots=True)
class Incident:
    """What PagerDuty's people would see. States: triggered, acknowledged, resolved.

    Attributes:
        number: counts up for each incident of the receiver: a trigger after a resolve opens another one.
        history: the actions that it took in, in order.
    """

    number: int
    routing_key: str
    dedup_key: str
    summary: str
    severity: str
    state: str = "triggered"
    history: list[str] = field(default_factory=list)


class PagerDuty(HttpReceiver):
    """The local events.pagerduty.com: any well-formed routing key is an integration's."""

    name = "pagerduty"
    dead = Answer(400, reason="invalid event")

    def __init__(
        self, origin: str, *, verify: bool = True, on_received: Callable[[Received], None] | None = None
    ) -> None:
        super().__init__(origin, verify=verify, on_received=on_received)
        self._incidents: list[Incident] = []

    @property
    def url(self) -> str:
        """The whole address to post events to; a real one ends in /v2/enqueue, too."""
        return f"{self.origin}/pagerduty/v2/enqueue"

    @staticmethod
    def routing_key(name: str | None = None) -> str:
        """An integration's key; the same one for the same name."""
        return hashlib.md5((name or secrets.token_hex(16)).encode(), usedforsecurity=False).hexdigest()

    @property
    def incidents(self) -> list[Incident]:
        """All incidents, oldest first."""
        return self._incidents.copy()

    def incident(self, routing_key: str, dedup_key: str) -> Incident | None:
        """The latest incident of a key, None if there was none."""
        mine = (each for each in reversed(self._incidents) if each.dedup_key == dedup_key)
        return next((each for each in mine if each.routing_key == routing_key), None)

    @override
    def clear(self) -> None:
        """Forget what arrived, the incidents included."""
        super().clear()
        self._incidents.clear()

    @override
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/pagerduty/v2/enqueue", self.handle)]

    @override
    def check(self, request: web.Request, body: bytes) -> Arrival:
        event = parse_object(body)
        arrival = Arrival(content=event)
        if event is not None:
            arrival.target = str(event.get("routing_key", ""))
            arrival.id = str(event.get("dedup_key") or "")
        if not self.verify:
            return arrival
        if not is_media_type(request.headers.get("Content-Type", ""), "application/json"):
            arrival.problems.append("Content-Type: must be application/json")
        arrival.problems += ["body: no JSON object"] if event is None else event_problems(event)
        if len(body) > LARGEST_EVENT:
            arrival.problems.insert(0, f"body: {len(body)} bytes, at most {LARGEST_EVENT}")
            arrival.refusal = self.refuse(413, None, arrival)
        elif arrival.problems:
            arrival.refusal = self.refuse(400, None, arrival)
        return arrival

    @override
    def accept(self, arrival: Arrival) -> Reply:
        """202, and the event is applied to its incident. A trigger without a dedup_key is given one."""
        arrival.id = arrival.id or secrets.token_hex(16)
        if isinstance(arrival.content, dict):
            self._apply(arrival.target, arrival.id, arrival.content)
        body = {"status": "success", "message": "Event processed", "dedup_key": arrival.id}
        return Reply(202, orjson.dumps(body), {"Content-Type": "application/json"}, provider_id=arrival.id)

    @override
    def refuse(self, status: int, reason: str | None, arrival: Arrival) -> Reply:
        body: dict[str, Any]
        if status == 429:  # noqa: PLR2004  # its documented body
            body = {
                "status": reason or "throttle exceeded",
                "message": "Requests for this service are arriving too quickly.",
            }
        elif status < 500:  # noqa: PLR2004  # 4xx: the event is at fault
            errors = arrival.problems or ["Invalid routing key"]
            body = {
                "status": reason or "invalid event",
                "message": "Event object is invalid",
                "errors": errors,
            }
        else:
            body = {"status": reason or "internal server error", "message": "Try again later."}
        return Reply(status, orjson.dumps(body), {"Content-Type": "application/json"}, reason=body["status"])

    def _apply(self, routing_key: str, dedup_key: str, event: dict[str, Any]) -> None:
        action = str(event.get("event_action"))
        incident = self.incident(routing_key, dedup_key)
        if incident is None or incident.state == "resolved":
            if action != "trigger":
                return  # taken, and without effect: there is nothing open to act on
            payload = event.get("payload") or {}
            incident = Incident(
                number=len(self._incidents) + 1,
                routing_key=routing_key,
                dedup_key=dedup_key,
                summary=str(payload.get("summary", "")),
                severity=str(payload.get("severity", "")),
            )
            self._incidents.append(incident)
        incident.history.append(action)
        if action != "trigger":  # a repeated trigger is a duplicate: it does not undo an acknowledgement
            incident.state = _STATE_AFTER.get(action, incident.state)


def event_problems(event: dict[str, Any]) -> list[str]:
    """What the Events API refuses in an event; unknown fields, too, since PagerDuty loses them."""
    findings = Findings()
    findings.record("event", event, _EVENT)
    routing_key = event.get("routing_key")
    if not isinstance(routing_key, str) or not _ROUTING_KEY.fullmatch(routing_key):
        findings.note("routing_key", "must be 32 letters and digits")
    known_action = findings.one_of("event_action", event.get("event_action"), _STATE_AFTER)
    triggers = event.get("event_action") == "trigger"
    findings.text("dedup_key", event.get("dedup_key"), 255, required=known_action and not triggers)
    if triggers:
        _payload(findings, event.get("payload"))
    for key in ("client", "client_url"):
        findings.text(key, event.get(key), required=False)
    for index, link in enumerate(findings.array("links", event.get("links"), required=False)):
        if fields := findings.record(f"links[{index}]", link, {"href", "text"}):
            findings.text(f"links[{index}].href", fields.get("href"))
    for index, image in enumerate(findings.array("images", event.get("images"), required=False)):
        if fields := findings.record(f"images[{index}]", image, {"src", "href", "alt"}):
            findings.text(f"images[{index}].src", fields.get("src"))
    return findings.problems


def _payload(findings: Findings, payload: Any) -> None:
    fields = findings.record("payload", payload, _PAYLOAD)
    if fields is None:
        return
    findings.text("payload.summary", fields.get("summary"), 1024)
    findings.text("payload.source", fields.get("source"))
    findings.one_of("payload.severity", fields.get("severity"), _SEVERITIES)
    if fields.get("timestamp") is not None and not is_rfc3339(fields["timestamp"]):
        findings.note("payload.timestamp", "must be an ISO 8601 time with its zone")
    for key in ("component", "group", "class"):
        findings.text(f"payload.{key}", fields.get(key), required=False)
    if fields.get("custom_details") is not None:
        findings.record("payload.custom_details", fields["custom_details"])
