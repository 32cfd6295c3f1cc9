"""Encryption of secrets at rest: Fernet (AES-128-CBC, HMAC-SHA-256), newest key first: keys can rotate.

https://cryptography.io/en/latest/fernet/
"""

from __future__ import annotations

import os
import tempfile
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from config import SettingsError

if TYPE_CHECKING:
    from config import Settings


class LostKeyError(SettingsError):
    """None of the keys decrypts what the database holds."""


class Vault:
    """Holds the keys of this process. Closed until `open` is called."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._fernet: MultiFernet | None = None

    def open(self, settings: Settings) -> None:
        """Take the keys from the settings or, beside an SQLite file, from its own key file.

        They are read, and that file is made, when the first secret is. The file is read again where that matters, so
        that a rotation needs no restart: keys of the environment stay what they were at the start.
        """
        self._settings, self._fernet = settings, None

    def encrypt(self, plain: bytes) -> str:
        """Encrypt under the newest key: what went under an older one, nobody could read once that is gone."""
        return self._opened(again=True).encrypt(plain).decode()

    def decrypt(self, token: str) -> bytes:
        """Decrypt under any of the keys.

        Raises:
            LostKeyError: none of the keys fits.
        """
        try:
            with suppress(InvalidToken):
                return self._opened().decrypt(token)
            return self._opened(again=True).decrypt(token)
        except InvalidToken:
            raise LostKeyError(
                "TOCSIN_SECRET_KEYS: none of the keys decrypts what the database holds; "
                "add the key with which it was written (older keys go behind newer ones)"
            ) from None

    def rotate(self, token: str) -> str:
        """The same secret under the newest key.

        Raises:
            LostKeyError: none of the keys fits.
        """
        return self.encrypt(self.decrypt(token))

    def _opened(self, *, again: bool = False) -> MultiFernet:
        """The keys, from memory; `again`, those of a key file as it is now."""
        if self._settings is None:
            raise SettingsError("the database was not opened: call open_database(settings) first")
        given = [key.get_secret_value() for key in self._settings.secret_keys]
        if self._fernet is None:
            keys = given or _keys_beside(self._settings.sqlite_path)
        elif again and not given:
            # A file that is gone by now is not made anew: a fresh key would hide that the one of all secrets is lost.
            keys = _keys_in(key_file(self._settings.sqlite_path))
        else:
            return self._fernet
        self._fernet = MultiFernet([Fernet(key) for key in keys])
        return self._fernet


def key_file(sqlite_path: Path) -> Path:
    """Where the keys are that were generated beside an SQLite file."""
    return sqlite_path.with_name(sqlite_path.name + ".keys")


def _keys_beside(sqlite_path: Path) -> list[str]:
    path = key_file(sqlite_path)
    try:
        if not path.exists():
            _write_once(path, Fernet.generate_key() + b"\n")
    except OSError as error:
        raise _unusable(path, error) from None
    return _keys_in(path)


def _keys_in(path: Path) -> list[str]:
    try:
        keys = path.read_text(encoding="utf-8").split()
        for key in keys:
            Fernet(key)
    except OSError as error:
        raise _unusable(path, error) from None
    except ValueError:
        keys = []
    if not keys:
        raise SettingsError(f"{path} must hold Fernet keys; restore it, or set TOCSIN_SECRET_KEYS") from None
    return keys


def _unusable(path: Path, error: OSError) -> SettingsError:
    return SettingsError(f"TOCSIN_DATABASE_URL: {path}: {error.strerror}")


def _write_once(path: Path, content: bytes) -> None:
    """Make a file that only we may read, whole or not at all. Of several processes the first one wins."""
    descriptor, name = tempfile.mkstemp(prefix=path.name, dir=path.parent)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        with suppress(FileExistsError):
            # A link, not a rename: it never replaces what another process wrote, and never shows half a key.
            path.hardlink_to(name)
    finally:
        Path(name).unlink()


vault = Vault()
