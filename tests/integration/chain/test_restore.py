"""After a restore of an older state: what was under way at the backup is sent, what had ended is not."""

from __future__ import annotations

import sqlite3
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any

import pytest

from actors.broker import runtime
from model import channels, rulebook
from model.database import database, is_sqlite, open_database
from receivers.records import Answer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from tests.integration.chain.conftest import Chain
    from tests.servers import PostgresServer

#: What waits for a retry is not through with it before the backup; what has no message any more is found soon.
PACE = {"retry_min_backoff": 1.0, "sweep_grace": 1.0, "sweep_grace_idle": 0.1}


def back_up(chain: Chain, directory: Path, request: pytest.FixtureRequest) -> Callable[[], str]:
    """Back up while the database is open; what restores it beside the old one, and gives its URL."""
    if is_sqlite():
        kept = directory / "backup.db"
        with (
            closing(sqlite3.connect(chain.settings.sqlite_path)) as source,
            closing(sqlite3.connect(kept)) as target,
        ):
            source.backup(target)
        return lambda: f"sqlite:///{kept}"
    server: PostgresServer = request.getfixturevalue("postgres")
    dump = server.dump(chain.settings.database_url.get_secret_value())
    return lambda: server.restore(dump)


@contextmanager
def opened(chain: Chain, url: str) -> Iterator[None]:
    """Work on another database, as processes do that are started on it."""
    before = runtime.settings
    database.close()
    runtime.settings = chain.settings = before.model_copy(
        update={"database_url": type(before.database_url)(url)}
    )
    restored: Any = open_database(chain.settings)
    rulebook.forget()
    channels.forget()
    try:
        yield
    finally:
        chain.stop()
        chain.totals()
        restored.close_all()
        runtime.settings = chain.settings = before
        open_database(before)


@pytest.mark.parametrize("chain", [PACE], indirect=True)
def test_what_was_under_way_at_the_backup_is_sent_and_what_was_delivered_is_not(
    chain: Chain, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    def sent() -> dict[str, list[str]]:
        """Which alerts arrived since it was asked last, under which ids; of each attempt that was taken."""
        found: dict[str, list[str]] = {}
        for each in chain.far.webhook.received:
            if each.accepted:
                found.setdefault(each.content["data"]["alert_id"], []).append(each.id)
        chain.far.webhook.clear()
        return found

    # Given an alert that was delivered, one that waits for its retry, and one that was accepted and no more
    chain.rule(chain.channel("hook"))
    chain.send({"alert_id": "delivered"})
    chain.settled()
    chain.far.webhook.always("*", Answer(503))
    chain.send({"alert_id": "retrying"})
    chain.until(lambda: chain.lines()[-1][3] == "RETRYING")
    chain.stop()
    chain.send({"alert_id": "accepted"})
    chain.far.normal()
    first = sent()
    assert first.keys() == {"delivered"}
    # And a backup, after which all of it was delivered, and one alert more
    restore = back_up(chain, tmp_path, request)
    chain.start()
    chain.settled()
    chain.send({"alert_id": "later"})
    chain.settled()
    chain.stop()
    before = sent()
    assert before.keys() == {"retrying", "accepted", "later"}

    # When the backup is restored, and work begins again
    with opened(chain, restore()):
        chain.start()
        chain.until(lambda: len(chain.lines()) == 3)
        lines = chain.settled()

        # Then what was under way at the backup is delivered, and nothing else
        assert [(line[0], line[3]) for line in lines] == [
            ("delivered", "DELIVERED"), ("retrying", "DELIVERED"), ("accepted", "DELIVERED"),
        ]  # fmt: skip
        after = sent()
        # As what it is: a repeat, which the far side can drop by its id
        assert after == {"retrying": before["retrying"], "accepted": before["accepted"]}
        # And what comes now is none, although its job has the number of one that is gone
        chain.send({"alert_id": "afterwards"})
        chain.settled()
        assert [job.id for job in chain.jobs()] == [1, 2, 3, 4]
        (new,) = sent()["afterwards"]
        assert new not in {number for ids in (*first.values(), *before.values()) for number in ids}
