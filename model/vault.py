"""Encryption of secrets at rest: Fernet (AES-128-CBC, HMAC-SHA-256), newest key first: keys can rotate.

https://cryptography.io/en/latest/fernet/
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from config import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

    from config import Settings


class Vault:
    """Holds the keys of this process. Closed until `open` is called."""

    def __init__(self) -> None:
        self._settings: Settings | None = None
        self._fernet: MultiFernet | None = None

    def open(self, settings: Settings) -> None:
        """Take the keys from the settings or, beside an SQLite file, from its own key file.

        They are read, and that file is made, when the first secret is.
        """
        self._settings, self._fernet = settings, None

    def encrypt(self, plain: bytes) -> str:
        """Encrypt under the newest key."""
        return self._opened().encrypt(plain).decode()

    def decrypt(self, token: str) -> bytes:
        """Decrypt under any of the keys.

        Raises:
            SettingsError: none of the keys fits.
        """
        try:
            return self._opened().decrypt(token)
        except InvalidToken:
            raise SettingsError(
                "TOCSIN_SECRET_KEYS: none of the keys decrypts what the database holds; "
                "add the key with which it was written (older keys go behind newer ones)"
            ) from None

    def rotate(self, token: str) -> str:
        """The same secret under the newest key."""
        return self._opened().rotate(token.encode()).decode()

    def _opened(self) -> MultiFernet:
        if self._fernet is None:
            if self._settings is None:
                raise SettingsError("the database was not opened: call open_database(settings) first")
            keys = [key.get_secret_value() for key in self._settings.secret_keys]
            self._fernet = MultiFernet(
                [Fernet(key) for key in keys or _keys_beside(self._settings.sqlite_path)]
            )
        return self._fernet


def _keys_beside(sqlite_path: Path) -> list[str]:
    path = sqlite_path.with_name(sqlite_path.name + ".keys")
    try:
        # O_EXCL: of several processes that start at once one writes the key, and the others read it.
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        keys = path.read_text().split()
        if not keys:
            raise SettingsError(f"{path} holds no key; restore it, or set TOCSIN_SECRET_KEYS") from None
        return keys
    except OSError as error:
        raise SettingsError(f"TOCSIN_DATABASE_URL: {path}: {error.strerror}") from None
    key = Fernet.generate_key().decode()
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    return [key]


vault = Vault()
