"""What a worker process asks of the system."""

from __future__ import annotations

import resource
from typing import TYPE_CHECKING

import pytest

from actors.runtime import FILES, allow_connections

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(autouse=True)
def _as_before() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_process_may_open_more_files_than_the_systems_usual_thousand() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (512, hard))
    allow_connections()
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    assert soft == (FILES if hard == resource.RLIM_INFINITY else min(FILES, hard))


def test_a_limit_that_is_higher_stays() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard <= FILES:
        pytest.skip("this machine allows no more")
    resource.setrlimit(resource.RLIMIT_NOFILE, (FILES + 1, hard))
    allow_connections()
    assert resource.getrlimit(resource.RLIMIT_NOFILE)[0] == FILES + 1
