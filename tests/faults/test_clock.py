"""All processes go by the database server's clock, whatever their own says."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from config import load_settings
from model.database import connection, database, open_database, utcnow
from tests.faults.faults import can_step_clocks, stepped_clock

if TYPE_CHECKING:
    from pathlib import Path

#: Prints our time before and after the first look at the server's, and the wall clock.
PROGRAM = """
from datetime import UTC, datetime
from config import load_settings
from model.database import connection, open_database, utcnow
open_database(load_settings())
print(utcnow().isoformat())
with connection():
    print(utcnow().isoformat())
print(datetime.now(UTC).isoformat())
"""


def _told(url: str, **environment: str) -> list[datetime]:
    settings = {"TOCSIN_DATABASE_URL": url, "TOCSIN_SECRET_KEYS": Fernet.generate_key().decode()}
    command = [sys.executable, "-c", PROGRAM]
    ran = subprocess.run(
        command, env=os.environ | settings | environment, capture_output=True, text=True, check=True
    )
    return [datetime.fromisoformat(line) for line in ran.stdout.splitlines()]


@pytest.mark.skipif(
    not can_step_clocks(), reason="it takes Linux and a C compiler: apt-get install gcc libc6-dev"
)
def test_a_wrong_wall_clock_is_put_right_by_the_server(postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("-3600")
    before, after, wall = _told(postgres_url, **stepped_clock(tmp_path, tmp_path / "clock"))

    now = datetime.now(UTC)
    assert now - before > timedelta(minutes=59)
    assert now - wall > timedelta(minutes=59)
    assert abs(now - after) < timedelta(seconds=20)


@pytest.mark.skipif(
    not can_step_clocks(), reason="it takes Linux and a C compiler: apt-get install gcc libc6-dev"
)
def test_the_doctor_sees_a_wrong_wall_clock(postgres_url: str, tmp_path: Path) -> None:
    (tmp_path / "clock").write_text("3600")
    settings = {"TOCSIN_DATABASE_URL": postgres_url, "TOCSIN_SECRET_KEYS": Fernet.generate_key().decode()}
    environment = os.environ | settings | stepped_clock(tmp_path, tmp_path / "clock")
    for command in ("migrate", "doctor"):
        ran = subprocess.run(
            [sys.executable, "-m", "cli", command, "--json"],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip

    (clock,) = [each for each in json.loads(ran.stdout) if each["part"] == "clock"]
    assert clock["status"] == "fail"
    assert clock["found"].startswith(("3599.", "3600."))


def test_the_servers_clock_is_followed_closely(postgres_url: str) -> None:
    settings = load_settings(database_url=postgres_url, secret_keys=Fernet.generate_key().decode())
    opened = open_database(settings)
    with connection():
        ((server,),) = database.execute_sql("SELECT clock_timestamp()").fetchall()
        assert abs(utcnow() - server) < timedelta(seconds=1)
    opened.close()


def test_sqlite_goes_by_the_machines_clock(tmp_path: Path) -> None:
    _, after, wall = _told(f"sqlite:///{tmp_path}/test.db")

    assert abs(wall - after) < timedelta(seconds=1)
