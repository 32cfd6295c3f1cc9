"""Microsoft Teams, by a Workflows webhook ("When a Teams webhook request is received").

Sources: learn.microsoft.com/microsoftteams/platform/webhooks-and-connectors/how-to/add-incoming-webhook
(envelope, 28 KB), adaptivecards.io/explorer (elements and actions),
learn.microsoft.com/azure/logic-apps/logic-apps-http-endpoint (the signed URL, 202).
"""

from __future__ import annotations

import hmac
import re
import secrets
from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web
from typing_extensions import override

from receivers.checks import Findings, is_media_type, parse_object
from receivers.http import HttpReceiver
from receivers.records import Answer, Arrival, Reply

if TYPE_CHECKING:
    from collections.abc import Callable

    from receivers.records import Received

LARGEST_BODY = 28 * 1024
CARD_TYPE = "application/vnd.microsoft.card.adaptive"
MOST_ACTIONS = 6
_VERSION = re.compile(r"1\.[0-5]")  # Teams shows cards up to 1.5
_ENVELOPE = {"type", "attachments", "summary"}
_ELEMENTS = frozenset(
    {
        "TextBlock",
        "Image",
        "ImageSet",
        "Media",
        "RichTextBlock",
        "ActionSet",
        "Container",
        "ColumnSet",
        "FactSet",
        "Table",
        "Input.Text",
        "Input.Number",
        "Input.Date",
        "Input.Time",
        "Input.Toggle",
        "Input.ChoiceSet",
    }
)
_ACTIONS = frozenset(
    {"Action.OpenUrl", "Action.Submit", "Action.ShowCard", "Action.ToggleVisibility", "Action.Execute"}
)
_USUAL_CODE = {
    400: "InvalidRequestContent",
    401: "DirectApiAuthorizationRequired",
    403: "AuthorizationFailed",
    404: "WorkflowNotFound",
    410: "WorkflowDisabled",
    413: "RequestEntityTooLarge",
    429: "WorkflowRequestsThrottled",
    500: "InternalServerError",
    503: "ServiceUnavailable",
}


class Teams(HttpReceiver):
    """The local Workflows endpoint: any name in the path is a flow; the secret is `sig` in the query."""

    name = "teams"
    dead = Answer(404, reason="WorkflowNotFound")

    def __init__(
        self, origin: str, *, verify: bool = True, on_received: Callable[[Received], None] | None = None
    ) -> None:
        super().__init__(origin, verify=verify, on_received=on_received)
        self._signature = secrets.token_urlsafe(32)

    def url(self, name: str) -> str:
        """The flow of this name, its secret included."""
        query = f"api-version=1&sp=%2Ftriggers%2Fmanual%2Frun&sv=1.0&sig={self._signature}"
        return f"{self.origin}/teams/{name}?{query}"

    @override
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/teams/{name}", self.handle)]

    @override
    def check(self, request: web.Request, body: bytes) -> Arrival:
        arrival = Arrival(target=request.match_info["name"], content=parse_object(body))
        if not self.verify:
            return arrival
        status = 400
        if not hmac.compare_digest(request.query.get("sig", "").encode(), self._signature.encode()):
            status = 401
            arrival.problems.append("sig: missing or wrong")
        elif len(body) > LARGEST_BODY:
            status = 413
            arrival.problems.append(f"body: {len(body)} bytes, at most {LARGEST_BODY}")
        if not is_media_type(request.headers.get("Content-Type", ""), "application/json"):
            arrival.problems.append("Content-Type: must be application/json")
        arrival.problems += message_problems(arrival.content)
        if arrival.problems:
            arrival.refusal = self.refuse(status, None, arrival)
        return arrival

    @override
    def accept(self, arrival: Arrival) -> Reply:  # 202 and nothing else: the flow was triggered
        return Reply(202)

    @override
    def refuse(self, status: int, reason: str | None, arrival: Arrival) -> Reply:
        code = reason or _USUAL_CODE.get(status, "ServerError")
        text = arrival.problems[0] if arrival.problems else code
        body = orjson.dumps({"error": {"code": code, "message": text}})
        return Reply(status, body, {"Content-Type": "application/json"}, reason=code)


def message_problems(message: dict[str, Any] | None) -> list[str]:
    """What keeps the flow from posting a card."""
    findings = Findings()
    if message is None:
        return ["body: no JSON object"]
    findings.record("body", message, _ENVELOPE)
    findings.one_of("type", message.get("type"), {"message"})
    for index, attachment in enumerate(findings.array("attachments", message.get("attachments"))):
        place = f"attachments[{index}]"
        fields = findings.record(place, attachment, {"contentType", "contentUrl", "content"})
        if fields is None:
            continue
        findings.one_of(f"{place}.contentType", fields.get("contentType"), {CARD_TYPE})
        if fields.get("contentUrl") is not None:
            findings.note(f"{place}.contentUrl", "must be null")
        _card(findings, f"{place}.content", fields.get("content"))
    return findings.problems


def _card(findings: Findings, where: str, card: Any) -> None:
    fields = findings.record(where, card)
    if fields is None:
        return
    findings.one_of(f"{where}.type", fields.get("type"), {"AdaptiveCard"})
    if not _VERSION.fullmatch(str(fields.get("version"))):
        findings.note(f"{where}.version", "must be 1.0 to 1.5")
    _elements(findings, f"{where}.body", fields.get("body"))
    _actions(findings, f"{where}.actions", fields.get("actions"))


def _elements(findings: Findings, where: str, elements: Any) -> None:
    for index, element in enumerate(findings.array(where, elements, required=False)):
        place = f"{where}[{index}]"
        fields = findings.record(place, element)
        if fields is None or not findings.one_of(f"{place}.type", fields.get("type"), _ELEMENTS):
            continue
        match fields["type"]:
            case "TextBlock":
                findings.text(f"{place}.text", fields.get("text"))
            case "Image":
                findings.text(f"{place}.url", fields.get("url"))
            case "FactSet":
                _facts(findings, f"{place}.facts", fields.get("facts"))
            case "Container":
                _elements(findings, f"{place}.items", fields.get("items"))
            case "ColumnSet":
                _columns(findings, f"{place}.columns", fields.get("columns"))
            case "ActionSet":
                _actions(findings, f"{place}.actions", fields.get("actions"))


def _facts(findings: Findings, where: str, facts: Any) -> None:
    for index, fact in enumerate(findings.array(where, facts)):
        if pair := findings.record(f"{where}[{index}]", fact, {"title", "value"}):
            findings.text(f"{where}[{index}].title", pair.get("title"))
            findings.text(f"{where}[{index}].value", pair.get("value"))


def _columns(findings: Findings, where: str, columns: Any) -> None:
    for index, column in enumerate(findings.array(where, columns, required=False)):
        if fields := findings.record(f"{where}[{index}]", column):
            _elements(findings, f"{where}[{index}].items", fields.get("items"))


def _actions(findings: Findings, where: str, actions: Any) -> None:
    for index, action in enumerate(findings.array(where, actions, MOST_ACTIONS, required=False)):
        place = f"{where}[{index}]"
        fields = findings.record(place, action)
        if fields and findings.one_of(f"{place}.type", fields.get("type"), _ACTIONS):
            findings.text(f"{place}.title", fields.get("title"))
            if fields["type"] == "Action.OpenUrl":
                findings.text(f"{place}.url", fields.get("url"))
