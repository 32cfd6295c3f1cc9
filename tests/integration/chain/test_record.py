"""What attempts say of channels and devices is written by many workers at once."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

import pytest

from actors import record
from model.database import connection, database, transaction
from model.tables import Channel, Device
from senders.outcomes import TargetGone, Transient
from tests.servers.programs import wait_until
from tests.support.database import NOW, make_channel, make_tenant, open_test_database

if TYPE_CHECKING:
    from collections.abc import Callable

ROWS = 300


@dataclass
class _Claim:
    channel_id: int
    device_id: int
    claimed_at: Any = NOW


@dataclass
class _Attempt:
    claim: _Claim
    result: Any


class _Unknown:
    health = "unknown"


def _channels(ids: list[int]) -> None:
    made = [_Attempt(_Claim(id_, 0), Transient("503")) for id_ in ids]
    record.channel_health(cast("Any", made), cast("Any", dict.fromkeys(ids, _Unknown)), now=NOW)


def _devices(ids: list[int]) -> None:
    made = [_Attempt(_Claim(0, id_), TargetGone("410")) for id_ in ids]
    assert len(record.disable_devices(cast("Any", made), now=NOW)) == ROWS


@pytest.mark.parametrize(("write", "table"), [(_channels, Channel), (_devices, Device)])
def test_rows_are_locked_in_one_order_whatever_the_plan(
    postgres_url: str, write: Callable[[list[int]], None], table: Any
) -> None:
    with open_test_database(postgres_url), ThreadPoolExecutor(1) as pool:
        # Given channels and devices that lie in the opposite order of their ids
        with connection():
            make_tenant()
            ids = [make_channel(name=f"c{number}") for number in range(ROWS)]
            for id_ in ids:
                Device.create(
                    tenant="acme", user_id="u", platform="ios", address_hash=str(id_), registered_at=NOW
                )
            name = table._meta.table_name
            database.execute_sql(f"CREATE INDEX backwards ON {name} (id DESC)")
            database.execute_sql(f"CLUSTER {name} USING backwards")
            database.execute_sql("ANALYZE")

        def work() -> None:
            with transaction():
                # As PostgreSQL might for other numbers: to read the table as it lies
                for way in ("nestloop", "mergejoin", "indexscan", "bitmapscan"):
                    database.execute_sql(f"SET LOCAL enable_{way} = off")
                write(ids)

        # When somebody holds the first, and a worker writes of all
        with transaction():
            table.update(tenant="acme").where(table.id == ids[0]).execute()
            worker = pool.submit(work)
            waiting = "SELECT count(*) FROM pg_locks WHERE NOT granted"
            wait_until(lambda: bool(database.execute_sql(waiting).fetchone()[0]), 10, "the worker's wait")
            # Then it holds none of the others yet, for which somebody else might wait
            last = table.select(table.id).where(table.id == ids[-1]).for_update("FOR NO KEY UPDATE NOWAIT")
            assert [row.id for row in last] == [ids[-1]]
        worker.result(timeout=10)
