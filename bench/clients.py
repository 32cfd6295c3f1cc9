"""Bare clients, the ceilings: `python -m bench.clients KIND --url URL --count N --in-flight N`.

The same messages to the same receiver, and nothing around it: no database, no queue, no record, no guard.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import ssl
import time
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import aiohttp
import httpx
import uvloop
from aioapns import APNs, NotificationRequest
from aioapns.connection import APNsProductionClientProtocol
from httpx_aiohttp import AiohttpTransport
from pywebpush import WebPusher

from bench import talk
from bench.load import apns_body, fcm_body, webhook_body, webpush_plaintext

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    Send = Callable[[int], Awaitable[bool]]

JSON = {"content-type": "application/json", "user-agent": "bare"}


@asynccontextmanager
async def aiohttp_webhook(options: argparse.Namespace) -> AsyncIterator[Send]:
    """POST with aiohttp."""
    connector = aiohttp.TCPConnector(limit=options.in_flight)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def send(number: int) -> bool:
            name = f"a-{number}"
            async with session.post(
                options.url, data=webhook_body(name), headers=JSON | {"webhook-id": name}
            ) as answer:
                await answer.read()
                return answer.ok

        yield send


@asynccontextmanager
async def httpx_webhook(options: argparse.Namespace) -> AsyncIterator[Send]:
    """POST with httpx's client over its aiohttp transport, which its own documentation of scale leads to."""
    limits = httpx.Limits(max_connections=options.in_flight)
    async with httpx.AsyncClient(transport=AiohttpTransport(limits=limits), timeout=15) as client:

        async def send(number: int) -> bool:
            name = f"a-{number}"
            answer = await client.post(
                options.url, content=webhook_body(name), headers=JSON | {"webhook-id": name}
            )
            return answer.is_success

        yield send


@asynccontextmanager
async def fcm(options: argparse.Namespace) -> AsyncIterator[Send]:
    """POST FCM requests with aiohttp, with a bearer token that needs no fetching."""
    connector = aiohttp.TCPConnector(limit=options.in_flight)
    headers = JSON | {"authorization": "Bearer ya29.bare"}
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def send(number: int) -> bool:
            body = fcm_body(f"a-{number}", f"bare:{number:020}")
            async with session.post(options.url, data=body, headers=headers) as answer:
                await answer.read()
                return answer.ok

        yield send


@asynccontextmanager
async def webpush(options: argparse.Namespace) -> AsyncIterator[Send]:
    """Encrypt each message with pywebpush and POST it with aiohttp, with a VAPID header made once."""
    connector = aiohttp.TCPConnector(limit=options.in_flight)
    subscription = json.loads(options.subscription)
    headers = {
        "ttl": "14399",
        "urgency": "normal",
        "topic": "YmVuY2htYXJrLXRocmVhZC0wMDAwMDAw",
        "content-encoding": "aes128gcm",
        "authorization": "vapid t=bare, k=bare",
    }
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def send(number: int) -> bool:
            body = WebPusher(subscription).encode(webpush_plaintext(f"a-{number}"), "aes128gcm")["body"]
            async with session.post(f"{options.url}/bare-{number}", data=body, headers=headers) as answer:
                await answer.read()
                return answer.ok

        yield send


@asynccontextmanager
async def aioapns(options: argparse.Namespace) -> AsyncIterator[Send]:
    """Send with aioapns as it is shipped, as many in flight as it does best with."""
    host, _, port = options.url.partition(":")
    APNsProductionClientProtocol.APNS_SERVER, APNsProductionClientProtocol.APNS_PORT = host, int(port)
    context = ssl.create_default_context(cafile=options.ca_file)
    context.set_alpn_protocols(["h2"])
    key = Path(options.key_file).read_text(encoding="utf-8")  # noqa: ASYNC240  # before anything is measured
    client = APNs(
        key=key, key_id=options.key_id, team_id=options.team_id, topic=options.topic, ssl_context=context
    )

    async def send(number: int) -> bool:
        request = NotificationRequest(device_token=f"{number:064x}", message=apns_body(f"a-{number}"))
        answer = await client.send_notification(request)
        return bool(answer.is_successful)

    yield send


KINDS = {
    "aiohttp": aiohttp_webhook,
    "httpx": httpx_webhook,
    "aioapns": aioapns,
    "fcm": fcm,
    "webpush": webpush,
}


async def run(options: argparse.Namespace) -> None:
    """Send `count` messages, `in_flight` at a time."""
    async with KINDS[options.kind](options) as send:
        await send(options.first)  # connects; not counted
        talk.ready()
        numbers = iter(range(options.first + 1, options.first + 1 + options.count))
        refused = 0

        async def worker() -> None:
            nonlocal refused
            for number in numbers:
                refused += not await send(number)

        began = time.time()
        async with asyncio.TaskGroup() as group:
            for _ in range(options.in_flight):
                group.create_task(worker())
        talk.done(began=began, ended=time.time(), refused=refused)


def main() -> None:
    """Run one client."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=sorted(KINDS))
    parser.add_argument("--url", required=True, help="of the receiver; HOST:PORT for aioapns")
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--first", type=int, default=0, help="number of the first message")
    parser.add_argument("--in-flight", type=int, default=100)
    parser.add_argument("--subscription", help="webpush: a browser's PushSubscription, JSON")
    for name in ("key-file", "key-id", "team-id", "topic", "ca-file"):
        parser.add_argument(f"--{name}", help="aioapns")
    uvloop.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
