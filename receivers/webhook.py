"""A consumer of signed webhooks.

Sources: the Standard Webhooks specification, github.com/standard-webhooks/standard-webhooks (headers,
signature, the body's type, timestamp and data, 20 kB), and the body that Tocsin's own documentation
promises in `data`.
"""

from __future__ import annotations

import base64
import re
import secrets
from typing import TYPE_CHECKING, Any

from aiohttp import web
from standardwebhooks.webhooks import Webhook as Verifier
from standardwebhooks.webhooks import WebhookVerificationError
from typing_extensions import override

from receivers.checks import Findings, is_media_type, is_rfc3339, parse_object
from receivers.http import HttpReceiver
from receivers.records import Answer, Arrival, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from receivers.records import Received

LARGEST_BODY = 20_000
_TYPE = re.compile(r"[A-Za-z0-9_]+(\.[A-Za-z0-9_]+)*")
_IN_EVERY_ALERT = ("alert_id", "event_type", "tenant_id", "job_id")


class Webhook(HttpReceiver):
    """Any name in the path is a hook.

    Attributes:
        secret: what all hooks are signed with, unless `use_secret` gave one its own.
    """

    name = "webhook"
    dead = Answer(410)

    def __init__(
        self, origin: str, *, verify: bool = True, on_received: Callable[[Received], None] | None = None
    ) -> None:
        super().__init__(origin, verify=verify, on_received=on_received)
        self.secret = f"whsec_{base64.b64encode(secrets.token_bytes(32)).decode()}"
        self._verifier = Verifier(self.secret)
        self._own: dict[str, Verifier | None] = {}

    def url(self, name: str) -> str:
        """The hook of this name."""
        return f"{self.origin}/hooks/{name}"

    def use_secret(self, name: str, secret: str | None) -> None:
        """Give a hook a secret of its own, `whsec_` and base64; None: it takes unsigned requests."""
        self._own[name] = Verifier(secret) if secret else None

    @override
    def routes(self) -> list[web.RouteDef]:
        return [web.route(method, "/hooks/{name}", self.handle) for method in ("POST", "PUT", "PATCH")]

    @override
    def check(self, request: web.Request, body: bytes) -> Arrival:
        arrival = Arrival(
            target=request.match_info["name"],
            id=request.headers.get("webhook-id", ""),
            content=parse_object(body),
        )
        if not self.verify:
            return arrival
        status = 400
        if problem := self._signature_problem(arrival.target, request, body):
            status = 401
            arrival.problems.append(problem)
        elif len(body) > LARGEST_BODY:
            status = 413
            arrival.problems.append(f"body: {len(body)} bytes, at most {LARGEST_BODY}")
        if not is_media_type(request.headers.get("Content-Type", ""), "application/json"):
            arrival.problems.append("Content-Type: must be application/json")
        arrival.problems += body_problems(arrival.content)
        if arrival.problems:
            arrival.refusal = self.refuse(status, None, arrival)
        return arrival

    def _signature_problem(self, name: str, request: web.Request, body: bytes) -> str:
        verifier = self._own.get(name, self._verifier)
        if verifier is None:
            return ""
        headers = {
            key.lower(): value for key, value in request.headers.items() if key.lower().startswith("webhook-")
        }
        if "." in headers.get("webhook-id", ""):
            return "webhook-id: must have no dot, which separates what is signed"
        try:
            verifier.verify(body, headers)
        except WebhookVerificationError as error:
            return f"signature: {error}"
        except ValueError as error:  # not base64, not JSON
            return f"signature: cannot be read: {error}"
        return ""

    @override
    def accept(self, arrival: Arrival) -> Reply:  # any 2xx will do
        return Reply(204)

    @override
    def refuse(self, status: int, reason: str | None, arrival: Arrival) -> Reply:
        text = reason or "; ".join(arrival.problems) or f"ordered: {status}"
        return Reply(
            status, text.encode(), {"Content-Type": "text/plain; charset=utf-8"}, reason=reason or ""
        )


def body_problems(body: dict[str, Any] | None) -> list[str]:
    """What a consumer that follows the documentation cannot read."""
    if body is None:
        return ["body: no JSON object"]
    findings = Findings()
    event = body.get("type")
    if not isinstance(event, str) or not _TYPE.fullmatch(event):
        findings.note("type", "must be words joined by dots")
        event = ""
    if not is_rfc3339(body.get("timestamp")):
        findings.note("timestamp", "must be an RFC 3339 time")
    data = findings.record("data", body.get("data"))
    if data is not None and event.startswith("alert."):
        for key in _IN_EVERY_ALERT:
            if data.get(key) in (None, ""):
                findings.note(f"data.{key}", "missing")
        if event != f"alert.{str(data.get('event_type')).lower()}":
            findings.note("type", "does not fit data.event_type")
    return findings.problems
