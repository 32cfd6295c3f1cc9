"""What holds up the tests that need servers, where no server is needed to see it."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from tests.servers.programs import ServersMissingError, free_port, wait_until
from tests.servers.session import SessionServers
from tests.support.alone import Room

ROOT = Path(__file__).parents[2]


class _Recorded:
    """A server that starts when the other one does: two that start one after the other never would."""

    def __init__(self, together: threading.Barrier, *, broken: bool = False) -> None:
        self._together = together
        self._broken = broken
        self.events: list[str] = []

    def start(self) -> None:
        self._together.wait(5)
        self.events.append("start")
        if self._broken:
            raise TimeoutError("did not come up")

    def close(self) -> None:
        self.events.append("close")


def test_servers_start_side_by_side_and_are_all_closed() -> None:
    # Given two servers, one of which will not come up
    together = threading.Barrier(2)
    good, bad = _Recorded(together), _Recorded(together, broken=True)
    servers = SessionServers(
        ["postgres", "rabbitmq"], strict=True, makers={"postgres": lambda: good, "rabbitmq": lambda: bad}
    )
    # When they are asked for
    assert servers.get("postgres") is good
    with pytest.raises(TimeoutError, match="did not come up"):
        servers.get("rabbitmq")
    servers.close()
    # Then both were started once, and both are closed
    assert good.events == bad.events == ["start", "close"]


def test_only_what_is_needed_is_made() -> None:
    def unexpected() -> _Recorded:
        raise AssertionError("nobody asked for it")

    server = _Recorded(threading.Barrier(1))
    servers = SessionServers(
        ["postgres"], strict=True, makers={"postgres": lambda: server, "rabbitmq": unexpected}
    )
    assert servers.get("postgres") is server
    servers.close()


@pytest.mark.parametrize(
    ("strict", "outcome"), [(True, pytest.fail.Exception), (False, pytest.skip.Exception)]
)
def test_a_missing_server_fails_in_ci_and_skips_elsewhere(*, strict: bool, outcome: type[Exception]) -> None:
    def missing() -> _Recorded:
        raise ServersMissingError("apt-get install it")

    servers = SessionServers(["postgres"], strict=strict, makers={"postgres": missing})
    with pytest.raises(outcome, match="apt-get install it"):
        servers.get("postgres")
    servers.close()


SKIPS = "import pytest\ndef test_it(): pytest.skip('not here')"


@pytest.mark.parametrize(
    ("body", "processes", "status"),
    [
        ("def test_it(): pass", 0, pytest.ExitCode.OK),
        ("def test_it(): assert False", 0, pytest.ExitCode.TESTS_FAILED),
        (SKIPS, 0, pytest.ExitCode.NO_TESTS_COLLECTED),
        (SKIPS, 2, pytest.ExitCode.NO_TESTS_COLLECTED),
        ("def of_another_kind(): pass", 2, pytest.ExitCode.NO_TESTS_COLLECTED),
    ],
)
def test_a_run_is_green_only_if_something_ran(tmp_path: Path, body: str, processes: int, status: int) -> None:
    ran = run_pytest(tmp_path, body, "-n", str(processes))
    assert ran.returncode == status, ran.stdout


#: Tests that write down when they came and went, 20 of them and four that must be alone.
SIDE_BY_SIDE = """
import pathlib, time, pytest
LOG = pathlib.Path(__file__).with_name("log")

def be(there, gone):
    for what in there, gone:
        with LOG.open("a") as log:
            log.write(what + " ")
        time.sleep(0.05)

@pytest.mark.parametrize("number", range(20))
def test_beside_others(number):
    be("in", "out")

@pytest.mark.alone("to see it")
@pytest.mark.parametrize("number", range(4))
def test_alone(number):
    be("IN", "OUT")
"""


def test_tests_run_side_by_side_and_those_that_must_be_alone_do_not(tmp_path: Path) -> None:
    ran = run_pytest(tmp_path, SIDE_BY_SIDE, "-n", "2")
    assert ran.returncode == pytest.ExitCode.OK, ran.stdout
    noted = (tmp_path / "log").read_text().split()
    assert (noted.count("in"), noted.count("out")) == (20, 20)
    assert "in in" in " ".join(noted)  # else nothing is shown by this:
    inside = 0
    for number, what in enumerate(noted):
        inside += {"in": 1, "out": -1}.get(what, 0)
        if what == "IN":
            assert (inside, noted[number + 1]) == (0, "OUT")
    assert noted.count("IN") == 4


def test_who_must_be_alone_waits_until_all_have_left_and_keeps_them_out(tmp_path: Path) -> None:
    first, second, third = (Room(tmp_path) for _ in range(3))
    with closing(first), closing(second), closing(third), ThreadPoolExecutor(2) as threads:
        # Given two processes that test side by side
        first.enter(alone=False)
        second.enter(alone=False)
        # When a third must be alone, then it waits for both, and who comes later waits for it
        alone = threads.submit(third.enter, alone=True)
        first.leave()
        with pytest.raises(TimeoutError):
            alone.result(0.2)
        again = threads.submit(first.enter, alone=False)
        second.leave()
        alone.result(10)
        # As long as it has more of the kind
        third.enter(alone=True)
        with pytest.raises(TimeoutError):
            again.result(0.2)
        third.leave()
        again.result(10)


def run_pytest(folder: Path, body: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run these tests with our hooks, and of all the plugins that are installed with the one that they are about."""
    (folder / "test_one.py").write_text(body, encoding="utf-8")
    plugins = ["-p", "no:cacheprovider", "-p", "xdist", "-p", "tests.conftest"]
    return subprocess.run(
        [sys.executable, "-m", "pytest", *plugins, "-c", "/dev/null", "--rootdir", folder, *arguments, folder],
        cwd=ROOT, env=os.environ | {"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1"},
        capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_free_port_can_be_listened_on_and_is_nobodys_near_end() -> None:
    port = free_port()
    with socket.create_server(("127.0.0.1", port)) as server, socket.socket() as near:
        near.connect(server.getsockname())
        assert port < near.getsockname()[1]


def test_wait_until_gives_up_with_the_evidence() -> None:
    with pytest.raises(TimeoutError, match="waiting for rain after 0 s\nblue sky"):
        wait_until(lambda: False, 0, "rain", describe=lambda: "blue sky")


def test_wait_until_asks_again() -> None:
    answers = iter([False, False, True])
    wait_until(lambda: next(answers), 5, "the third answer")
    assert list(answers) == []
