"""Producers in Python: a process of their own that knows two calls, and may be the first to open the database."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from model.database import connection
from model.tables import Alert, Job
from tests.support.database import KEY, open_test_database

ROOT = Path(__file__).parents[2]

ALERTS = """
import actors
for alerts in ([{"alert_id": 1}, {"alert_id": 2}], {"alert_id": 3}, {"alert_id": 3}):
    print(actors.dispatch_alerts(alerts).accepted)
"""
USER = "import actors; print(actors.dispatch_to_user('alice', {'message': 'Your parcel is here'}))"


def produce(code: str, folder: Path, database_url: str) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("TOCSIN_")}
    environment |= {
        "PYTHONPATH": str(ROOT),
        "TOCSIN_DATABASE_URL": database_url,
        "TOCSIN_SECRET_KEYS": KEY,
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        cwd=folder, env=environment, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("code", "answers", "rows"), [(ALERTS, ["2", "1", "0"], (3, 0)), (USER, ["1"], (1, 1))]
)
def test_a_producer_may_come_first_where_the_file_is_its_own(
    tmp_path: Path, code: str, answers: list[str], rows: tuple[int, int]
) -> None:
    # Given no file, when a producer calls
    url = f"sqlite:///{tmp_path / 'tocsin.db'}"
    done = produce(code, tmp_path, url)
    # Then alerts are accepted, a list or one by itself
    assert (done.returncode, done.stdout.split()) == (0, answers), done.stderr
    with open_test_database(url, migrated=False), connection():
        assert (Alert.select().count(), Job.select().count()) == rows


def test_where_the_schema_is_not_its_own_a_producer_is_told_what_to_do(
    tmp_path: Path, postgres_url: str
) -> None:
    for code in (ALERTS, USER):
        done = produce(code, tmp_path, postgres_url)
        assert done.returncode == 1
        assert done.stderr.strip().splitlines()[-1].startswith("model.migrate.SchemaError: ")
        assert "run `tocsin migrate`" in done.stderr
