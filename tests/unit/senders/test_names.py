"""Name lookups: who shares one, who waits for whom, and what a name server that does not answer costs the others."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
from typing import TYPE_CHECKING, Any

import pytest

from senders import names
from senders.names import Names
from senders.outcomes import Misconfigured, Transient
from senders.reach import addresses
from tests.unit.senders.push_support import until
from tests.unit.senders.support import client, loopback_settings, receiving

if TYPE_CHECKING:
    from collections.abc import Iterator

STREAM = socket.SOCK_STREAM
LOOPBACK = [(socket.AF_INET, "127.0.0.1")]


class System:
    """The system's resolver: names that begin with `slow` wait until they are let go, `lost` ones are not found."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.go = threading.Event()

    def getaddrinfo(self, host: str, port: int | None, *_: Any, **__: Any) -> list[Any]:
        self.asked.append(host)
        if host.startswith("slow"):
            self.go.wait(30)
        if host.startswith("lost"):
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        if host.startswith("mixed"):
            return [
                (socket.AF_INET, STREAM, 6, "", ("8.8.8.8", 0)),
                (socket.AF_INET, STREAM, 6, "", ("10.0.0.1", 0)),
            ]
        return [(socket.AF_INET, STREAM, 6, "", ("127.0.0.1", port or 0))]


@pytest.fixture
def system(monkeypatch: pytest.MonkeyPatch) -> Iterator[System]:
    resolver = System()
    monkeypatch.setattr(names, "system", Names())
    monkeypatch.setattr(socket, "getaddrinfo", resolver.getaddrinfo)
    yield resolver
    resolver.go.set()


async def test_dead_names_delay_nobody_elses_send(system: System) -> None:
    async with receiving() as receiver, client() as http:
        # Given more names that hang than an event loop has threads for them, and senders that have given up
        for _ in range(2):
            asking = [
                asyncio.create_task(addresses(f"slow{number}.example", 25, STREAM, None))
                for number in range(40)
            ]
            await asyncio.sleep(0.1)
            for task in asking:
                task.cancel()
        # Then a healthy one is sent to at once
        url = receiver.url.replace("127.0.0.1", "healthy.example")
        async with asyncio.timeout(2):
            assert (await http.post(url, content=b"{}", headers={})).status == 200
    assert system.asked.count("healthy.example") == 1


async def test_a_prompt_name_is_found_though_new_ones_take_all_their_threads(system: System) -> None:
    await names.system.look_up("healthy.example", kind=STREAM)
    asking = [
        asyncio.create_task(names.system.look_up(f"slow{number}.example", kind=STREAM))
        for number in range(names.THREADS + 10)
    ]
    new = asyncio.create_task(names.system.look_up("new.example", kind=STREAM))
    async with asyncio.timeout(2):
        assert await names.system.look_up("healthy.example", kind=STREAM) == LOOPBACK
    await until(lambda: len(system.asked) == names.THREADS + 2)
    # And a new one when there is room, but for what nobody waits for any more
    asking[-1].cancel()
    await asyncio.sleep(0.01)
    system.go.set()
    assert await new == LOOPBACK
    await asyncio.gather(*asking, return_exceptions=True)
    assert f"slow{names.THREADS + 9}.example" not in system.asked


async def test_all_who_ask_at_once_share_one_lookup_and_none_takes_it_from_the_others(system: System) -> None:
    asking = [asyncio.create_task(names.system.look_up("slow.example", kind=STREAM)) for _ in range(5)]
    await asyncio.sleep(0.05)
    asking[0].cancel()
    await asyncio.wait(asking[:1])
    system.go.set()
    assert await asyncio.gather(*asking[1:]) == [LOOPBACK] * 4
    assert system.asked == ["slow.example"]
    assert asking[0].cancelled()


async def test_a_name_that_is_not_found_is_not_asked_for_again_at_once(
    system: System, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _ in range(3):
        with pytest.raises(socket.gaierror, match="not known"):
            await names.system.look_up("lost.example", kind=STREAM)
    assert system.asked == ["lost.example"]
    monkeypatch.setattr(names, "FAILURE_HOLDS", 0)
    with pytest.raises(Transient, match=r"name not resolved: lost\.example"):
        await addresses("lost.example", 25, STREAM, None)
    assert system.asked == ["lost.example"] * 2


async def test_each_address_is_judged_and_given_with_the_port(system: System) -> None:
    assert await addresses("ok.example", 25, STREAM, None) == [("127.0.0.1", 25)]
    with pytest.raises(Misconfigured, match=r"mixed\.example is at 10\.0\.0\.1, which is not public"):
        await addresses("mixed.example", 25, STREAM, ())
    async with client(loopback_settings()) as http:
        with pytest.raises(Misconfigured, match=r"10\.0\.0\.1, which is not public"):
            await http.post("http://mixed.example/", content=b"", headers={})
    assert len(system.asked) == 3


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
async def test_an_address_needs_no_thread(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(threading.Thread, "start", None)
    assert [each for _, each in await Names().look_up(address, kind=STREAM)] == [address]


async def test_a_link_local_address_keeps_its_interface() -> None:
    found = [(socket.AF_INET6, STREAM, 6, "", ("fe80::1", 0, 0, 2))]
    assert await Names(lambda *_, **__: found).look_up("near.example", kind=STREAM) == [
        (socket.AF_INET6, "fe80::1%2")
    ]


async def test_no_thread_is_left_when_there_is_nothing_to_look_up(system: System) -> None:
    await asyncio.gather(*(names.system.look_up(f"{number}.example", kind=STREAM) for number in range(100)))
    await until(lambda: all(thread.name != "names" for thread in threading.enumerate()))
    assert len(system.asked) == 100


@pytest.mark.usefixtures("system")
async def test_a_system_without_threads_fails_the_lookup_and_not_the_name(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", refuse)
        with pytest.raises(socket.gaierror, match="can't start new thread"):
            await names.system.look_up("ok.example", kind=STREAM)
    assert await names.system.look_up("ok.example", kind=STREAM) == LOOPBACK


def test_a_lookup_that_hangs_keeps_no_process_from_ending() -> None:
    program = """
import asyncio, time
from senders.names import Names

async def main():
    try:
        async with asyncio.timeout(0.1):
            await Names(lambda *_, **__: time.sleep(60)).look_up("slow.example", kind=1)
    except TimeoutError:
        print("given up")

asyncio.run(main())
"""
    ran = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True
    )
    assert ran.stdout == "given up\n"
