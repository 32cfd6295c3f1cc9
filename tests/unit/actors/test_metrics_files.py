"""Worker groups keep their metrics' files apart, and leave none behind."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import stat
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from actors import metrics_files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from multiprocessing.connection import Connection


def work(pipe: Connection) -> None:
    """A process of a group: says where it counts, and ends when it is told to."""
    pipe.send(metrics_files.shared_directory())
    pipe.recv()


@contextlib.contextmanager
def worker(key: bytes, method: str = "spawn") -> Iterator[tuple[Path, Any]]:
    """The directory of a process whose master has this key, and the process."""
    context: Any = multiprocessing.get_context(method)
    ours, theirs = context.Pipe()
    process = context.Process(target=work, args=(theirs,))
    process.authkey = key
    process.start()
    try:
        assert ours.poll(30)
        yield Path(ours.recv()), process
        if process.is_alive():
            ours.send("end")
    finally:
        process.join(10)
        process.kill()


@pytest.fixture(autouse=True)
def base(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in metrics_files.OWN:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path / f"tocsin-metrics-{os.getuid()}"


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_a_group_has_a_directory_of_its_own_until_its_last_process_ends(base: Path, method: str) -> None:
    with worker(b"group", method) as (first, _):
        (first / "counter_1.db").touch()
        with worker(b"group", method) as (second, _), worker(b"another", method) as (other, _):
            assert second == first != other
            assert {first, other} == set(base.iterdir())
            assert {stat.S_IMODE(each.stat().st_mode) for each in (base, first, other)} == {0o700}
        assert list(base.iterdir()) == [first]
        assert (first / "counter_1.db").exists()
    assert list(base.iterdir()) == []


def test_what_a_killed_group_left_goes_at_the_next_start(base: Path) -> None:
    with worker(b"killed") as (left, process):
        (left / "gauge_all_1.db").touch()
        process.kill()
        process.join(10)
    assert list(base.iterdir()) == [left]
    with worker(b"next") as (own, _):
        assert list(base.iterdir()) == [own]


@pytest.mark.parametrize("name", metrics_files.OWN)
def test_an_operators_own_directory_is_taken_as_it_is(
    base: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    own = tmp_path / "of" / "ours"
    monkeypatch.setenv(name, str(own))
    assert metrics_files.shared_directory() == str(own)
    assert own.is_dir()
    assert not base.exists()


def test_a_directory_that_others_may_enter_is_not_used(base: Path) -> None:
    base.mkdir()
    base.chmod(0o755)
    with pytest.raises(PermissionError, match="dramatiq_prom_db"):
        metrics_files.shared_directory()
