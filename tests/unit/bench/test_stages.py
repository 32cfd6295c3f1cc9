"""Where a profile's time went, by library."""

from __future__ import annotations

import sysconfig
from pathlib import Path

from bench.stages import ROOT, libraries

SITE = sysconfig.get_path("purelib")


def test_what_a_built_in_function_takes_is_its_callers() -> None:
    # Given a function of ours and one of a library, which both call a built-in one
    ours = (str(ROOT / "model" / "bulk.py"), 1, "insert")
    theirs = (str(Path(SITE) / "httpx" / "_models.py"), 2, "__init__")
    alone = (str(Path(SITE) / "peewee.py"), 3, "execute")
    stdlib = (sysconfig.get_path("stdlib") + "/uuid.py", 4, "uuid5")
    built_in = ("~", 0, "<built-in method len>")
    stats = {
        ours: (1, 1, 1.0, 2.0, {}),
        theirs: (1, 1, 2.0, 4.0, {}),
        alone: (1, 1, 4.0, 4.0, {}),
        stdlib: (1, 1, 8.0, 8.0, {}),
        built_in: (3, 3, 3.0, 3.0, {ours: (1, 1, 1.0, 1.0), theirs: (2, 2, 2.0, 2.0)}),
    }
    # Then nothing is lost, and each has its part
    assert libraries(stats) == {"model": 2.0, "httpx": 4.0, "peewee": 4.0, "Python": 8.0}


def test_what_nobody_of_the_profile_called_is_pythons() -> None:
    assert libraries({("~", 0, "disable"): (1, 1, 1.0, 1.0, {})}) == {"Python": 1.0}
