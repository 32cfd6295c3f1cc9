"""A file that is no SQLite database, or is damaged: told in the same words wherever it is met."""

from __future__ import annotations

import sqlite3

FOUND = "is no SQLite database, or is damaged"
REMEDY = "restore a backup"

#: Result codes by which SQLite says so (https://www.sqlite.org/rescode.html).
_CODES = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


def is_damage(error: BaseException) -> bool:
    """Whether an error of Peewee's tells of such a file. The driver's own error, with its code, is behind it."""
    code = getattr(error.__context__, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in _CODES  # the rest of an extended code says where
