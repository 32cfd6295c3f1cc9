"""The console's overview says what was mended, and what it cannot know."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import httpx

from admin.keys import create_key
from api.app import create_app
from config import load_settings
from model.database import connection
from model.tallies import TallyName, tally
from tests.integration.api.conftest import running
from tests.servers.programs import free_port
from tests.support.database import KEY, open_test_database

if TYPE_CHECKING:
    from pathlib import Path


def test_the_overview_shows_what_was_mended_also_while_the_broker_is_away(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'test.db'}"
    settings = load_settings(
        database_url=url, secret_keys=KEY, broker_url=f"amqp://guest:guest@127.0.0.1:{free_port()}/"
    )
    with open_test_database(url):
        with connection():
            key = create_key("acme", "read")[1]
            tally(TallyName.LEASES_RECOVERED, ["acme"] * 7 + ["other"])
        with (
            running(create_app(settings)) as address,
            httpx.Client(base_url=address, trust_env=False, headers={"Accept": "text/html"}) as client,
        ):
            token = re.search(r'name="csrf" value="([^"]+)"', client.get("/sign-in").text)
            assert token
            client.post("/sign-in", data={"csrf": token[1], "key": key})

            page = client.get("/").text

    cells = re.findall(r'<tr><td>([\w ]+)</td><td class="number">([^<]+)</td></tr>', page)
    assert ("leases recovered", "7") in cells
    assert ("duplicates avoided", "0") in cells
    assert ("dead letters", "unknown, the broker is away") in cells
