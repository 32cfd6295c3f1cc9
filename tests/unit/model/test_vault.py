"""The vault: what it writes only its keys can read, and the key beside an SQLite file is made once."""

from __future__ import annotations

import json
import stat
import subprocess
import sys
from typing import TYPE_CHECKING

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from config import Settings, SettingsError, load_settings
from model.vault import Vault

if TYPE_CHECKING:
    from pathlib import Path

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))


def _vault(settings: Settings) -> Vault:
    vault = Vault()
    vault.open(settings)
    return vault


@given(plain=st.binary(max_size=500))
def test_what_is_encrypted_comes_back_and_shows_nothing(plain: bytes) -> None:
    vault = _vault(load_settings(secret_keys=NEW))

    token = vault.encrypt(plain)

    assert vault.decrypt(token) == plain
    assert len(plain) < 6 or plain not in token.encode()


def test_rotation_moves_a_secret_to_the_newest_key() -> None:
    # Given a secret under the old key
    token = _vault(load_settings(secret_keys=OLD)).encrypt(b"secret")
    both = _vault(load_settings(secret_keys=f"{NEW} {OLD}"))
    assert both.decrypt(token) == b"secret"

    # When it is rotated
    rotated = both.rotate(token)

    # Then the new key alone reads it, and the old one no longer does
    assert _vault(load_settings(secret_keys=NEW)).decrypt(rotated) == b"secret"
    with pytest.raises(SettingsError, match="TOCSIN_SECRET_KEYS"):
        _vault(load_settings(secret_keys=OLD)).decrypt(rotated)


def test_a_key_that_does_not_fit_says_what_to_do() -> None:
    token = _vault(load_settings(secret_keys=OLD)).encrypt(b"secret")
    stranger = _vault(load_settings(secret_keys=NEW))

    for act in (stranger.decrypt, stranger.rotate):
        with pytest.raises(SettingsError, match="add the key with which it was written"):
            act(token)


def test_a_vault_that_nobody_opened_says_so() -> None:
    with pytest.raises(SettingsError, match="open_database"):
        Vault().encrypt(b"")


def test_the_key_beside_an_sqlite_file_is_made_once_for_its_owner_alone(tmp_path: Path) -> None:
    settings = load_settings(database_url=f"sqlite:///{tmp_path}/tocsin.db")

    token = _vault(settings).encrypt(b"secret")

    file = tmp_path / "tocsin.db.keys"
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert _vault(settings).decrypt(token) == b"secret"
    assert [path.name for path in tmp_path.iterdir()] == [file.name]


RACE = """
import json, multiprocessing, sys
from config import load_settings
from model.vault import Vault

context = multiprocessing.get_context("fork")
start = context.Barrier(8)

def encrypt(number):
    vault = Vault()
    vault.open(load_settings(database_url=f"{sys.argv[1]}/{number}.db"))
    start.wait()
    return vault.encrypt(b"secret")

with context.Pool(8) as pool:
    print(json.dumps([pool.map(encrypt, [number] * 8, chunksize=1) for number in range(100)]))
"""


def test_eight_processes_at_once_agree_on_one_key(tmp_path: Path) -> None:
    # When eight processes encrypt for the first time at the same moment, for a hundred files one after the other
    url = f"sqlite:///{tmp_path}"
    done = subprocess.run(
        [sys.executable, "-c", RACE, url], capture_output=True, text=True, timeout=60, check=False
    )

    # Then one key for each file reads what each of them wrote
    assert done.returncode == 0, done.stderr
    for number, tokens in enumerate(json.loads(done.stdout)):
        vault = _vault(load_settings(database_url=f"{url}/{number}.db"))
        assert [vault.decrypt(token) for token in tokens] == [b"secret"] * 8


@pytest.mark.parametrize("content", ["", "\n", "no key at all", "\u00e4"])
def test_a_key_file_without_keys_is_not_replaced(tmp_path: Path, content: str) -> None:
    file = tmp_path / "tocsin.db.keys"
    file.write_text(content, encoding="latin-1")

    with pytest.raises(SettingsError, match=r"tocsin\.db\.keys must hold Fernet keys"):
        _vault(load_settings(database_url=f"sqlite:///{tmp_path}/tocsin.db")).encrypt(b"")

    assert file.read_text(encoding="latin-1") == content


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"^TOCSIN_DATABASE_URL: .*missing.*No such file"):
        _vault(load_settings(database_url=f"sqlite:///{tmp_path}/missing/tocsin.db")).encrypt(b"")


def test_a_key_file_with_several_keys_rotates_too(tmp_path: Path) -> None:
    (tmp_path / "tocsin.db.keys").write_text(f"{NEW}\n{OLD}\n")
    token = _vault(load_settings(secret_keys=OLD)).encrypt(b"secret")

    rotated = _vault(load_settings(database_url=f"sqlite:///{tmp_path}/tocsin.db")).rotate(token)

    assert _vault(load_settings(secret_keys=NEW)).decrypt(rotated) == b"secret"


def test_a_key_file_that_was_rotated_is_read_again_by_who_had_read_it_before(tmp_path: Path) -> None:
    # Given a server that has used the key of its file
    file = tmp_path / "tocsin.db.keys"
    file.write_text(OLD)
    settings = load_settings(database_url=f"sqlite:///{tmp_path}/tocsin.db")
    server = _vault(settings)
    token = server.encrypt(b"secret")
    assert server.decrypt(token) == b"secret"

    # When another process rotates, as `tocsin rotate-keys --generate` says
    file.write_text(f"{NEW}\n{OLD}\n")
    written = server.encrypt(b"written meanwhile")
    rotated = _vault(settings).rotate(token)

    # Then the server reads what is under the new key, and had written nothing that goes with the old one
    assert server.decrypt(rotated) == b"secret"
    file.write_text(NEW)
    assert _vault(settings).decrypt(written) == b"written meanwhile"
    assert server.decrypt(rotated) == b"secret"


def test_a_server_that_did_not_write_since_a_rotation_reads_by_the_new_keys_too(tmp_path: Path) -> None:
    file = tmp_path / "tocsin.db.keys"
    file.write_text(OLD)
    server = _vault(load_settings(database_url=f"sqlite:///{tmp_path}/tocsin.db"))
    token = server.encrypt(b"secret")
    rotated = _vault(load_settings(secret_keys=f"{NEW} {OLD}")).rotate(token)

    file.write_text(NEW)

    assert server.decrypt(rotated) == b"secret"


def test_a_key_file_that_vanished_is_not_made_anew_by_who_had_read_it(tmp_path: Path) -> None:
    # Given a server whose key file is gone
    server = _vault(load_settings(database_url=f"sqlite:///{tmp_path}/tocsin.db"))
    token = server.encrypt(b"secret")
    (tmp_path / "tocsin.db.keys").unlink()

    # Then it reads on, and writes nothing that only its memory could read
    assert server.decrypt(token) == b"secret"
    with pytest.raises(SettingsError, match=r"tocsin\.db\.keys: No such file"):
        server.encrypt(b"more")
    assert not list(tmp_path.iterdir())
