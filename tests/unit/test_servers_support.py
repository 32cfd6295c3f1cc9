"""What holds up the tests that need servers, where no server is needed to see it."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.servers.programs import ServersMissingError, free_port, wait_until
from tests.servers.session import SessionServers

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


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ("def test_it(): pass", pytest.ExitCode.OK),
        ("def test_it(): assert False", pytest.ExitCode.TESTS_FAILED),
        ("import pytest\ndef test_it(): pytest.skip('not here')", pytest.ExitCode.NO_TESTS_COLLECTED),
    ],
)
def test_a_run_is_green_only_if_something_ran(tmp_path: Path, body: str, status: int) -> None:
    (tmp_path / "test_one.py").write_text(body, encoding="utf-8")
    plain = ["-p", "no:cacheprovider", "-p", "tests.conftest", "-c", "/dev/null", "--rootdir", str(tmp_path)]
    ran = subprocess.run(
        [sys.executable, "-m", "pytest", *plain, str(tmp_path)], cwd=ROOT, capture_output=True, check=False
    )
    assert ran.returncode == status, ran.stdout.decode()


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
