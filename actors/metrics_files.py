"""Where the processes of a worker group share what they count: a directory that is theirs alone.

Dramatiq's own is one for everybody on the machine: it grows with each start, shows what dead processes counted last,
and is closed to the second user. Here each process holds its group's with a lock while it lives, so that what nobody
holds can go, whoever made it, and however it ended.
"""

from __future__ import annotations

import contextlib
import functools
import hashlib
import multiprocessing
import os
import shutil
import stat
import tempfile
from multiprocessing.util import Finalize
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

#: By which an operator names a directory of their own, the first one first: Dramatiq's way, and prometheus_client's.
OWN = ("dramatiq_prom_db", "PROMETHEUS_MULTIPROC_DIR")


def shared_directory() -> str:
    """The directory of this process's group: the operator's, who keeps it tidy, or one that ends with the group.

    Raises:
        PermissionError: somebody else has put something in its place.
    """
    for name in OWN:
        if own := os.environ.get(name):
            Path(own).mkdir(parents=True, exist_ok=True)
            return own
    return _join()


@functools.cache
def _join() -> str:
    """Make the group's directory unless it is there, hold it until this process ends, and remove what nobody holds."""
    base = _private_base()
    # Random, made by the group's master as it starts, and handed on to all processes that it starts.
    key = bytes(multiprocessing.current_process().authkey)
    own = base / hashlib.sha256(b"tocsin metrics" + key).hexdigest()[:16]
    with _locked(base):
        for each in base.iterdir():
            if each != own:
                _remove_unless_held(each)
        own.mkdir(mode=0o700, exist_ok=True)
        held = _lock(own, exclusive=False)
    # Not atexit, which a forked process of multiprocessing's passes over.
    Finalize(None, _leave, (base, own, held), exitpriority=0)
    return str(own)


def _leave(base: Path, own: Path, held: int) -> None:
    """The last one out removes it."""
    with contextlib.suppress(FileNotFoundError), _locked(base):
        os.close(held)
        _remove_unless_held(own)


def _private_base() -> Path:
    """This user's directory for those of their groups."""
    base = Path(tempfile.gettempdir()) / f"tocsin-metrics-{os.getuid()}"
    with contextlib.suppress(FileExistsError):
        base.mkdir(mode=0o700)
    found = base.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise PermissionError(
            f"{base} is not a directory of this user's alone: remove it, or set {OWN[0]} to another"
        )
    return base


@contextlib.contextmanager
def _locked(base: Path) -> Iterator[None]:
    """Alone among this user's processes, so that nobody removes what another has just made."""
    held = _lock(base, exclusive=True)
    try:
        yield
    finally:
        os.close(held)


def _lock(directory: Path, *, exclusive: bool, wait: bool = True) -> int:
    """Hold a directory until its descriptor, which is returned, is closed: at the end of the process at the latest."""
    import fcntl  # noqa: PLC0415  # not everywhere, and who starts no workers needs none

    held = os.open(directory, os.O_RDONLY)
    try:
        fcntl.flock(held, (fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH) | (0 if wait else fcntl.LOCK_NB))
    except BaseException:
        os.close(held)
        raise
    return held


def _remove_unless_held(directory: Path) -> None:
    try:
        held = _lock(directory, exclusive=True, wait=False)
    except OSError:  # somebody works there, or it has gone
        return
    shutil.rmtree(directory, ignore_errors=True)
    os.close(held)
