"""What the outbound guard costs: `python -m bench.guard`.

Our client with the guard on every connection, against the same client without, in turns in the same run, so that
whatever else the machine does falls on both. Once with connections that are kept, and once with a new one for each
request: the guard looks at addresses when a connection is made, so that is where its cost is.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path

import aiohttp
import uvloop

from bench.load import webhook_body
from bench.nginx import Nginx
from config import load_settings
from senders import guard
from senders.http import CONNECTIONS, CONNECTIONS_PER_HOST, KEEPALIVE, HttpClient
from senders.transport import Connector

IN_FLIGHT = 100

HEADERS = {"content-type": "application/json"}


class Client(HttpClient):
    """Our client, its connections guarded or not, kept or not; otherwise as in production."""

    def __init__(self, *, guarded: bool, kept: bool) -> None:
        super().__init__(load_settings(allowed_networks="127.0.0.0/8"))
        self._guarded, self._kept = guarded, kept

    def _open(self) -> Connector:
        if self._connector is None:
            networks = self._settings.allowed_networks
            resolver = aiohttp.ThreadedResolver()
            self._connector = Connector(
                resolver=guard.GuardedResolver(resolver, networks) if self._guarded else resolver,
                socket_factory=guard.guarded_socket_factory(networks) if self._guarded else None,
                limit=CONNECTIONS,
                limit_per_host=CONNECTIONS_PER_HOST,
                force_close=not self._kept,
                keepalive_timeout=KEEPALIVE if self._kept else None,
            )
        return self._connector


async def rate(url: str, count: int, *, guarded: bool, kept: bool) -> float:
    """Requests a second, with 100 in flight."""
    client = Client(guarded=guarded, kept=kept)
    room = asyncio.Semaphore(IN_FLIGHT)
    failed = 0

    async def one(number: int) -> None:
        nonlocal failed
        async with room:
            answer = await client.post(url, content=webhook_body(f"g-{number}"), headers=HEADERS)
            failed += not answer.ok

    await one(0)
    began = time.perf_counter()
    await asyncio.gather(*map(one, range(1, count)))
    seconds = time.perf_counter() - began
    await client.aclose()
    if failed:
        sys.exit(f"{failed} of {count} requests were not accepted: the figures would mean nothing")
    return (count - 1) / seconds


def main() -> None:
    """Print a line for each kind of connection: both rates, and their ratio."""
    parser = argparse.ArgumentParser(prog="python -m bench.guard", description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=4000, help="requests a round")
    parser.add_argument("--rounds", type=int, default=5, help="the median of so many counts")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="tocsin-bench-") as directory:
        Path(directory).chmod(0o755)
        with Nginx(Path(directory)) as nginx:
            for kept in (True, False):
                rates: dict[bool, list[float]] = {True: [], False: []}
                for _ in range(options.rounds):
                    for guarded in (True, False):
                        measured = uvloop.run(rate(nginx.url, options.count, guarded=guarded, kept=kept))
                        rates[guarded].append(measured)
                with_guard, without = (statistics.median(rates[guarded]) for guarded in (True, False))
                print(
                    f"{'kept connections' if kept else 'a new connection each':22}  guarded {with_guard:7,.0f}/s  "
                    f"unguarded {without:7,.0f}/s  ratio {with_guard / without:.2f}"
                )


if __name__ == "__main__":
    main()
