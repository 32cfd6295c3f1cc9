"""A new SQLite file is its owner's alone: it holds device tokens."""

from __future__ import annotations

import stat
from typing import TYPE_CHECKING

from tests.support.database import open_test_database

if TYPE_CHECKING:
    from pathlib import Path


def test_a_new_database_file_is_private(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    with open_test_database(f"sqlite:///{path}"):
        modes = {each.name: stat.S_IMODE(each.stat().st_mode) for each in tmp_path.iterdir()}
    assert modes["new.db"] == 0o600
    assert set(modes.values()) == {0o600}


def test_the_mode_of_a_file_that_is_there_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "shared.db"
    path.touch(0o640)
    path.chmod(0o640)
    with open_test_database(f"sqlite:///{path}"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o640
