"""(a) One alert to many devices of one push platform, beside the bare client of that platform."""

from __future__ import annotations

import json
from statistics import median
from typing import TYPE_CHECKING

from bench.results import Check, Rate, Scenario, middle, ratios, told
from bench.stack import TENANT, Installation

if TYPE_CHECKING:
    from bench.sizes import Sizes
    from bench.stack import Stack

RECEIVERS = {"ios": "apns", "android": "fcm", "web": "webpush"}
BARE = {"ios": "bare aioapns", "android": "bare aiohttp, FCM", "web": "bare pywebpush and aiohttp"}

#: aioapns as shipped does best with so many in flight a process; the others with a hundred.
IN_FLIGHT = {"ios": 50, "android": 100, "web": 100}

#: The least part of the bare client's rate that the whole chain must reach.
LEAST = 0.8


def pushes(stack: Stack, sizes: Sizes) -> Scenario:
    """Measure each platform."""
    rates, checks, rounds = [], [], []
    for platform in sizes.platforms:
        bare, ours = [], []
        for _ in range(sizes.rounds):
            bare.append(_bare(stack, platform, sizes.devices))
            ours.append(_tocsin(stack, platform, sizes.devices))
        rates += [middle(bare), middle(ours)]
        found = ratios(ours, bare)
        rounds.append(f"{told(found)} ({platform})")
        claim = f"{platform}: rate, as a part of the bare client's"
        checks.append(Check(claim=claim, value=median(found), limit=LEAST, at_most=False))
    return Scenario(
        key="a",
        title=f"One alert to {sizes.devices:,} devices of a platform",
        rates=rates,
        checks=checks,
        notes=[
            "Time runs from the call that hands the alert in to the last delivery that the record counts as delivered.",
            f"The bare clients run in {stack.workers.processes} processes, as many as there are worker processes.",
            "Client and Tocsin are measured in turn: these are the median rates, and the medians of the ratios.",
            f"The ratios were {', '.join(rounds)}.",
        ],
    )


def _tocsin(stack: Stack, platform: str, count: int) -> Rate:
    receiver = RECEIVERS[platform]
    stack.far.clear()
    with Installation(stack) as tocsin:
        tocsin.channel("phones", "push", {"all_users": True})
        # A few devices in another tenant's place would not do: connections are made by the first pushes to these.
        tocsin.devices(platform, count)
        tocsin.start_workers()
        warm = tocsin.producer("--alerts", "1", "--prefix", "warm", "--types", "1")
        tocsin.measure("warm-up", count, tocsin.delivered, warm)
        stack.far.clear()
        producer = tocsin.producer("--alerts", "1", "--prefix", "a")
        rate = tocsin.measure(f"Tocsin, {platform}", count, lambda: tocsin.delivered() - count, producer)
    arrived = stack.far.received(receiver)
    stack.far.clear()
    if len(arrived) != count or len({each["target"] for each in arrived}) != count:
        raise RuntimeError(
            f"{platform}: {len(arrived)} pushes arrived at the devices of {TENANT}, not {count}"
        )
    return rate


def _bare(stack: Stack, platform: str, count: int) -> Rate:
    environment, url = stack.far.environment, stack.far.url
    if platform == "ios":
        arguments = [
            *("aioapns", "--url", f"{environment['TOCSIN_APNS_HOST']}:{environment['TOCSIN_APNS_PORT']}"),
            *(
                "--key-file",
                environment["TOCSIN_APNS_KEY_FILE"],
                "--key-id",
                environment["TOCSIN_APNS_KEY_ID"],
            ),
            *("--team-id", environment["TOCSIN_APNS_TEAM_ID"], "--topic", environment["TOCSIN_APNS_TOPIC"]),
            *("--ca-file", environment["TOCSIN_APNS_CA_FILE"]),
        ]
    elif platform == "android":
        arguments = ["fcm", "--url", f"{url}/v1/projects/bench/messages:send"]
    else:
        subscription = json.dumps(stack.far.subscribe())
        arguments = ["webpush", "--url", f"{url}/push", "--subscription", subscription]
    processes = stack.workers.processes
    commands = [
        [
            *("bench.clients", *arguments, "--count", str(count // processes)),
            *("--first", str(index * count), "--in-flight", str(IN_FLIGHT[platform])),
        ]
        for index in range(processes)
    ]
    rate = stack.clients(BARE[platform], "ceiling", commands, count // processes * processes)
    stack.far.clear()
    return rate
