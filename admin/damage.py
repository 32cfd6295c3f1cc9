"""A file that is no SQLite database, or is damaged: told in the same words wherever it is met."""

from __future__ import annotations

import sqlite3

from peewee import DatabaseError

#: Peewee's, and the driver's own, which comes by while rows are fetched.
ERRORS = (DatabaseError, sqlite3.DatabaseError)

FOUND = "is no SQLite database, or is damaged"
REMEDY = "restore a backup"

#: Result codes by which SQLite says so (https://www.sqlite.org/rescode.html).
_CODES = frozenset({sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT})


def is_damage(error: BaseException) -> bool:
    """Whether one of ERRORS tells of such a file. The driver's has the code, and is behind Peewee's."""
    codes = (getattr(each, "sqlite_errorcode", None) for each in (error, error.__context__))
    return any(code is not None and code & 0xFF in _CODES for code in codes)  # the rest of a code says where
