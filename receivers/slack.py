"""Slack's incoming webhooks.

Sources: docs.slack.dev/messaging/sending-messages-using-incoming-webhooks (answers and errors),
docs.slack.dev/reference/block-kit/blocks (limits of each block), docs.slack.dev/messaging#attachments.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs

from aiohttp import web
from typing_extensions import override

from receivers.checks import Findings, is_media_type, parse_object
from receivers.http import HttpReceiver
from receivers.records import Answer, Arrival, Reply

MOST_BLOCKS = 50
MOST_ATTACHMENTS = 100
LONGEST_TEXT = 40_000
_USUAL_REASON = {
    400: "invalid_payload",
    403: "invalid_token",
    404: "no_service",
    410: "channel_is_archived",
    429: "rate_limited",
    500: "rollup_error",
}


class Slack(HttpReceiver):
    """The local hooks.slack.com: any name in the path is a channel's hook."""

    name = "slack"
    dead = Answer(404, reason="no_service")

    def url(self, name: str) -> str:
        """The hook of this name."""
        return f"{self.origin}/slack/{name}"

    @override
    def routes(self) -> list[web.RouteDef]:
        return [web.post("/slack/{name}", self.handle)]

    @override
    def check(self, request: web.Request, body: bytes) -> Arrival:
        arrival = Arrival(target=request.match_info["name"])
        content_type = request.headers.get("Content-Type", "")
        if is_media_type(content_type, "application/x-www-form-urlencoded"):
            body = parse_qs(body.decode(errors="replace")).get("payload", [""])[0].encode()
        arrival.content = parse_object(body)
        if self.verify:
            reason, arrival.problems = message_problems(arrival.content)
            if arrival.problems:
                arrival.refusal = _text(400, reason)
        return arrival

    @override
    def accept(self, arrival: Arrival) -> Reply:  # Slack says the same to all, and gives no id
        return _text(200, "ok")

    @override
    def refuse(self, status: int, reason: str | None, arrival: Arrival) -> Reply:  # as above
        return _text(status, reason or _USUAL_REASON.get(status, "service_unavailable"))


def _text(status: int, word: str) -> Reply:
    return Reply(status, word.encode(), {"Content-Type": "text/html"}, reason="" if word == "ok" else word)


def message_problems(message: dict[str, Any] | None) -> tuple[str, list[str]]:
    """What Slack refuses in a message: its word for it ("" if nothing), and the details."""
    if message is None:
        return "invalid_payload", ["the body is no JSON object"]
    findings = Findings()
    text, blocks, attachments = (message.get(key) for key in ("text", "blocks", "attachments"))
    if not text and not blocks and not attachments:
        return "no_text", ["neither text nor blocks nor attachments"]
    findings.text("text", text, LONGEST_TEXT, required=False)
    reason = "invalid_payload" if findings.problems else ""
    if isinstance(attachments, list) and len(attachments) > MOST_ATTACHMENTS:
        findings.note("attachments", f"{len(attachments)}, at most {MOST_ATTACHMENTS}")
        reason = reason or "too_many_attachments"
    _blocks(findings, "blocks", blocks)
    for index, attachment in enumerate(findings.array("attachments", attachments, required=False)):
        if fields := findings.record(f"attachments[{index}]", attachment):
            _blocks(findings, f"attachments[{index}].blocks", fields.get("blocks"))
    return (reason or "invalid_blocks") if findings.problems else "", findings.problems


def _blocks(findings: Findings, where: str, blocks: Any) -> None:
    seen: set[str] = set()
    for index, block in enumerate(findings.array(where, blocks, MOST_BLOCKS, required=False)):
        place = f"{where}[{index}]"
        fields = findings.record(place, block)
        if fields is None or not findings.one_of(f"{place}.type", fields.get("type"), _BLOCKS):
            continue
        block_id = fields.get("block_id")
        if findings.text(f"{place}.block_id", block_id, 255, required=False) and block_id:
            if block_id in seen:
                findings.note(f"{place}.block_id", "used twice")
            seen.add(block_id)
        _BLOCKS[fields["type"]](findings, place, fields)


def _text_object(
    findings: Findings,
    where: str,
    value: Any,
    longest: int,
    types: tuple[str, ...] = ("plain_text", "mrkdwn"),
) -> None:
    if fields := findings.record(where, value, {"type", "text", "emoji", "verbatim"}):
        findings.one_of(f"{where}.type", fields.get("type"), types)
        findings.text(f"{where}.text", fields.get("text"), longest)


def _header(findings: Findings, where: str, block: dict[str, Any]) -> None:
    _text_object(findings, f"{where}.text", block.get("text"), 150, ("plain_text",))


def _section(findings: Findings, where: str, block: dict[str, Any]) -> None:
    if "text" not in block and "fields" not in block:
        findings.note(where, "text or fields are required")
    if "text" in block:
        _text_object(findings, f"{where}.text", block["text"], 3000)
    for index, each in enumerate(findings.array(f"{where}.fields", block.get("fields"), 10, required=False)):
        _text_object(findings, f"{where}.fields[{index}]", each, 2000)
    if "accessory" in block:
        _element(findings, f"{where}.accessory", block["accessory"])


def _context(findings: Findings, where: str, block: dict[str, Any]) -> None:
    for index, each in enumerate(findings.array(f"{where}.elements", block.get("elements"), 10)):
        place = f"{where}.elements[{index}]"
        if isinstance(each, dict) and each.get("type") == "image":
            _image(findings, place, each)
        else:
            _text_object(findings, place, each, 2000)


def _actions(findings: Findings, where: str, block: dict[str, Any]) -> None:
    for index, each in enumerate(findings.array(f"{where}.elements", block.get("elements"), 25)):
        _element(findings, f"{where}.elements[{index}]", each)


def _element(findings: Findings, where: str, element: Any) -> None:
    fields = findings.record(where, element)
    if not fields or not findings.text(f"{where}.type", fields.get("type")):
        return
    if fields["type"] == "image":
        _image(findings, where, fields)
    elif fields["type"] == "button":
        _text_object(findings, f"{where}.text", fields.get("text"), 75, ("plain_text",))
        findings.text(f"{where}.url", fields.get("url"), 3000, required=False)
        findings.text(f"{where}.value", fields.get("value"), 2000, required=False)
        findings.text(f"{where}.action_id", fields.get("action_id"), 255, required=False)
        findings.one_of(f"{where}.style", fields.get("style"), ("primary", "danger"), required=False)


def _image(findings: Findings, where: str, block: dict[str, Any]) -> None:
    findings.text(f"{where}.alt_text", block.get("alt_text"), 2000)
    if "slack_file" not in block:
        findings.text(f"{where}.image_url", block.get("image_url"), 3000)


def _unlimited(findings: Findings, where: str, block: dict[str, Any]) -> None:
    """A block without limits that matter here."""


_BLOCKS = {
    "header": _header,
    "section": _section,
    "context": _context,
    "actions": _actions,
    "image": _image,
    "divider": _unlimited,
    "rich_text": _unlimited,
    "markdown": _unlimited,
    "video": _unlimited,
}
