"""Channels come with their secrets as they are now, and no file of the database shows one."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet

from config import load_settings
from model import bulk
from model.channels import channels_of
from model.database import Unreadable, connection
from model.tables import Channel
from model.vault import vault
from tests.support.database import KEY, make_channel, make_tenant, open_test_database

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.usefixtures("acme")
def test_channels_come_with_their_secrets_as_they_are_now() -> None:
    first, second = (
        make_channel(name="a"),
        make_channel(name="b", config={"token": "c4nary"}, is_enabled=False),
    )

    found = channels_of([second, first, first, 10**6])
    assert {id_: channel.config for id_, channel in found.items()} == {
        first: {"url": "https://ops.example.org/in"},
        second: {"token": "c4nary"},
    }
    assert (found[first].is_enabled, found[second].is_enabled) == (True, False)
    assert "c4nary" not in repr(found)
    assert channels_of([]) == {}

    # A change counts at once, also one that leaves no trace in updated_at.
    Channel.update(config={"token": "two"}).where(Channel.id == second).execute()
    assert channels_of([second])[second].config == {"token": "two"}


def test_no_secret_is_found_in_the_files_of_the_database(tmp_path: Path) -> None:
    path = tmp_path / "test.db"
    with open_test_database(f"sqlite:///{path}"), connection():
        from_bulk = {
            "tenant_id": "acme",
            "name": "b",
            "channel_type": "webhook",
            "config": {"password": "c4nary"},
        }
        make_tenant()
        make_channel(config={"headers": {"Authorization": "c4nary"}, "url": "https://c4nary@example.org"})
        bulk.insert(Channel, [from_bulk])
        while_open = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    assert b"webhook" in while_open
    assert b"c4nary" not in while_open
    assert b"c4nary" not in b"".join(file.read_bytes() for file in tmp_path.iterdir())


@pytest.mark.usefixtures("acme")
def test_a_config_that_no_key_decrypts_is_unreadable_until_one_does(database_url: str) -> None:
    lost = make_channel(name="lost")
    vault.open(load_settings(database_url=database_url, secret_keys=Fernet.generate_key().decode()))
    well = make_channel(name="well")
    found = channels_of([lost, well])
    assert isinstance(found[lost].config, Unreadable)
    assert found[well].config == {"url": "https://ops.example.org/in"}
    vault.open(load_settings(database_url=database_url, secret_keys=KEY))
    assert channels_of([lost])[lost].config == found[well].config
