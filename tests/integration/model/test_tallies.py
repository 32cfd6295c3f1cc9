"""What was mended is counted for good, by many at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from model.database import connection
from model.status import status
from model.tables import Tally
from model.tallies import TallyName, tallies, tally


@pytest.mark.usefixtures("acme")
def test_counts_add_up_by_tenant_and_nothing_writes_nothing() -> None:
    assert tally(TallyName.LEASES_RECOVERED, []) == 0
    assert Tally.select().count() == 0
    assert tallies() == {"leases_recovered": 0, "duplicates_avoided": 0}

    assert tally(TallyName.LEASES_RECOVERED, ["acme", "other", "acme"]) == 3
    assert tally(TallyName.LEASES_RECOVERED, iter(["acme"])) == 1
    tally(TallyName.DUPLICATES_AVOIDED, ["other"])

    assert tallies("acme") == {"leases_recovered": 3, "duplicates_avoided": 0}
    assert tallies() == {"leases_recovered": 4, "duplicates_avoided": 1}
    assert status("other")["recovery"] == {"leases_recovered": 1, "duplicates_avoided": 1}


@pytest.mark.usefixtures("migrated")
def test_many_who_count_at_once_lose_nothing() -> None:
    def count(worker: int) -> None:
        for number in range(10):
            with connection():
                tally(TallyName.DUPLICATES_AVOIDED, [f"t{(worker + number) % 3}", "acme", "zone"])

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(count, range(4)))
    with connection():
        assert tallies()["duplicates_avoided"] == 120
        assert tallies("acme")["duplicates_avoided"] == 40
