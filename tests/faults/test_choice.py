"""Which faults a run of the suite takes."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from config import load_settings
from tests.faults.__main__ import chosen, shard
from tests.faults.embedded import EMBEDDED_FAULTS
from tests.faults.faults import FAULTS
from tests.faults.stack import PACE

if TYPE_CHECKING:
    from tests.faults.cycle import Fault

ALL = [fault.name for fault in FAULTS] + [fault.name for fault in EMBEDDED_FAULTS]


@given(st.integers(1, 40))
def test_parts_are_the_whole_and_as_large_as_each_other(parts: int) -> None:
    found = [chosen([], shard(f"{part}/{parts}")) for part in range(1, parts + 1)]

    assert sorted(name for part in found for name in part) == sorted(ALL)
    assert max(map(len, found)) - min(map(len, found)) <= 1


def test_those_that_are_named_are_taken_and_what_is_none_is_refused() -> None:
    assert chosen(["zombie", "all-killed"], (0, 1)) == ["all-killed", "zombie"]
    with pytest.raises(SystemExit, match=r"there is no earthquake; there are .*zombie"):
        chosen(["earthquake"], (0, 1))


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_workers_can_start_with_a_fault_s_settings(fault: Fault) -> None:
    given = PACE | fault.settings
    settings = load_settings(**{name.removeprefix("TOCSIN_").lower(): value for name, value in given.items()})

    assert settings.send_deadline < settings.lease


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "a/b", "-1/2", "1/2/3"])
def test_what_is_no_part_is_refused(text: str) -> None:
    with pytest.raises(argparse.ArgumentTypeError):
        shard(text)
