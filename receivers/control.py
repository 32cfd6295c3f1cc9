"""Ordering and reading over HTTP, for programs in another process. Loopback only, as all of this is.

    POST /control/script      {"receiver": "webhook", "target": "*", "answers": [{"status": 503}, ...]}
    POST /control/always      {"receiver": "apns", "target": "0f...", "answer": {"dead": true}}
    POST /control/normal      {"receiver": "apns", "target": "0f..."}
    POST /control/clear       {"receiver": "apns"}
    POST /control/subscribe   {"name": "alice-laptop"}
    GET  /control/received?receiver=webhook&target=ops

Without a receiver all are meant; without a target `*` (script, always) or all of them (normal, received).
An answer has the keys of `Answer`. `received` answers {"received": [...]}, `subscribe` the new browser's
PushSubscription. What is wrong gets 400 with a line that says what may be.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import orjson
from aiohttp import web

from receivers.base import ANY
from receivers.checks import parse_object
from receivers.records import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from receivers.base import Receiver
    from receivers.records import Received
    from receivers.webpush import WebPush


def as_json(received: Received) -> bytes:
    """One line of JSON, with all fields of `Received`."""
    return orjson.dumps(received, default=str, option=orjson.OPT_NON_STR_KEYS)


class Control:
    """The routes under /control."""

    def __init__(self, receivers: Mapping[str, Receiver], webpush: WebPush) -> None:
        self._receivers = receivers
        self._webpush = webpush

    def routes(self) -> list[web.RouteDef]:
        """The routes to mount."""
        return [web.post("/control/{order}", self._post), web.get("/control/received", self._get)]

    async def _get(self, request: web.Request) -> web.Response:
        target = request.query.get("target")
        try:
            receivers = self._named(request.query.get("receiver"))
        except ValueError as error:
            return _problem(error)
        found = [
            each for receiver in receivers for each in receiver.received if target in {None, each.target}
        ]
        body = b'{"received":[' + b",".join(as_json(each) for each in found) + b"]}"
        return web.Response(body=body, content_type="application/json")

    async def _post(self, request: web.Request) -> web.Response:
        order = request.match_info["order"]
        try:
            document = parse_object(await request.read())
            if document is None:
                raise ValueError("the body must be a JSON object")  # noqa: TRY301  # answered like the others
            result = self._carry_out(order, document)
        except ValueError as error:
            return _problem(error)
        return web.json_response(result)

    def _carry_out(self, order: str, document: dict[str, Any]) -> dict[str, Any]:
        target = _text(document, "target")
        receivers = self._named(_text(document, "receiver"))
        if order == "subscribe":
            return self._webpush.subscribe(_text(document, "name"))
        act = self._action(order, target, document)
        for receiver in receivers:
            act(receiver)
        return {"status": "ok"}

    @staticmethod
    def _action(order: str, target: str | None, document: dict[str, Any]) -> Callable[[Receiver], None]:
        match order:
            case "script":
                values = document.get("answers")
                if not isinstance(values, list) or not values:
                    raise ValueError("answers must be a list of answers")
                answers = [Answer.from_json(each) for each in values]
                return lambda receiver: receiver.script(target or ANY, answers)
            case "always":
                answer = Answer.from_json(document.get("answer"))
                return lambda receiver: receiver.always(target or ANY, answer)
            case "normal":
                return lambda receiver: receiver.normal(target)
            case "clear":
                return lambda receiver: receiver.clear()
        raise ValueError("no such order; there are script, always, normal, clear and subscribe")

    def _named(self, name: str | None) -> list[Receiver]:
        if name is None:
            return list(self._receivers.values())
        if name not in self._receivers:
            raise ValueError(f"no receiver {name}; there are {', '.join(self._receivers)}")
        return [self._receivers[name]]


def _text(document: dict[str, Any], key: str) -> str | None:
    value = document.get(key)
    if value is not None and not isinstance(value, str):
        raise ValueError(f"{key} must be a string")
    return value


def _problem(error: ValueError) -> web.Response:
    return web.json_response({"error": str(error)}, status=400)
