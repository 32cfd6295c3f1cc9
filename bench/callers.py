"""Producers that hand in an alert at a time: `python -m bench.callers KIND --url URL --count N`.

`tocsin` and `alertmanager` are callers of an HTTP API, `--callers` of them at the same time, each of which waits for
its answer; `queue` publishes to RabbitMQ from one thread, with confirms, as docs/producers.md has it. CALLERS_KEY is
the key of Tocsin's API.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
import uuid
from typing import TYPE_CHECKING, Any

import aiohttp
import orjson
import pika
import uvloop

from bench import talk
from bench.load import alert
from bench.peers.alertmanager import as_alertmanager

if TYPE_CHECKING:
    from collections.abc import Iterator

QUEUE = "tocsin.accept"


def bodies(kind: str, count: int, tenant: str) -> Iterator[bytes]:
    """What each call brings."""
    for number in range(count):
        name = f"s-{number}"
        if kind == "alertmanager":
            yield orjson.dumps([as_alertmanager(name)])
        elif kind == "tocsin":
            yield orjson.dumps(alert(name))
        else:
            yield orjson.dumps(message([[alert(name)], tenant]))


def message(arguments: list[Any]) -> dict[str, Any]:
    """A message of docs/producers.md."""
    return {
        "queue_name": QUEUE,
        "actor_name": "accept_alerts",
        "args": arguments,
        "kwargs": {},
        "options": {},
        "message_id": str(uuid.uuid4()),
        "message_timestamp": int(time.time() * 1000),
    }


async def call(url: str, callers: int, given: list[bytes]) -> int:
    """Have callers post them, each one after the other; how many were refused."""
    refused = 0
    left = iter(given)
    headers = {
        "content-type": "application/json",
        "authorization": f"Bearer {os.environ.get('CALLERS_KEY', '')}",
    }
    async with aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=callers), headers=headers
    ) as session:

        async def caller() -> None:
            nonlocal refused
            for body in left:
                async with session.post(url, data=body) as answer:
                    await answer.read()
                    refused += not answer.ok

        await asyncio.gather(*(caller() for _ in range(callers)))
    return refused


def publish(url: str, given: list[bytes]) -> int:
    """Publish them; none is refused."""
    connection = pika.BlockingConnection(pika.URLParameters(url))
    channel = connection.channel()
    channel.confirm_delivery()
    for body in given:
        channel.basic_publish("", QUEUE, body, pika.BasicProperties(delivery_mode=2), mandatory=True)
    connection.close()
    return 0


def main() -> None:
    """Hand them in, and say when that was."""
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["tocsin", "alertmanager", "queue"])
    parser.add_argument("--url", required=True)
    parser.add_argument("--count", type=int, required=True)
    parser.add_argument("--callers", type=int, default=1)
    parser.add_argument("--tenant", default="default")
    options = parser.parse_args()
    given = list(bodies(options.kind, options.count, options.tenant))
    talk.ready()
    began = time.time()
    if options.kind == "queue":
        refused = publish(options.url, given)
    else:
        refused = uvloop.run(call(options.url, options.callers, given))
    talk.done(began=began, ended=time.time(), refused=refused)


if __name__ == "__main__":
    main()
