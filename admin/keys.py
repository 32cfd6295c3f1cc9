"""Keys: those that callers of the API show, and those that encrypt what the database keeps.

An API key is shown once, when it is made; what is kept is its SHA-256 and its first characters, by which
people tell keys apart. It has 256 random bits, so that a fast hash is enough: there is nothing to guess.
"""

from __future__ import annotations

import hashlib
import secrets
from typing import TYPE_CHECKING, Any, Literal, NamedTuple, get_args

from cryptography.fernet import Fernet

from admin import tenants
from model import bulk
from model.database import connection, database, is_sqlite, transaction, utcnow
from model.problems import InvalidInput, Problem
from model.tables import ApiKey, Channel
from model.vault import LostKeyError, vault

Role = Literal["ingest", "read", "admin"]
ROLES: tuple[str, ...] = get_args(Role)

#: How every key begins, so that scanners of repositories can find one that leaked.
MARK = "tocsin_"
#: Characters of a key that are kept in the clear.
SHOWN = 14

#: Channels of one transaction.
BATCH = 100

if TYPE_CHECKING:
    from collections.abc import Sequence


def create_key(tenant_id: str, role: str, *, name: str = "") -> tuple[ApiKey, str]:
    """Make an API key; its row, and the key itself, which nobody can tell again. A new tenant is made.

    Raises:
        InvalidInput: there is no such role, or no tenant can have this name.
    """
    if role not in ROLES:
        raise InvalidInput([Problem("role", f"must be one of {', '.join(ROLES)}")])
    if len(name) > 255 or not name.isprintable():  # noqa: PLR2004  # the column's width
        raise InvalidInput([Problem("name", "must be at most 255 printable characters")])
    key = MARK + secrets.token_urlsafe(32)
    with transaction():
        tenants.ensure(tenant_id)
        row = ApiKey.create(tenant=tenant_id, role=role, name=name, prefix=key[:SHOWN], key_hash=_hash(key))
    return row, key


def list_keys(tenant_id: str | None) -> list[dict[str, Any]]:
    """The API keys of a tenant, or of all, oldest first; without what is secret of them."""
    with connection():
        query = ApiKey.select().order_by(ApiKey.id)
        return [
            key_document(row)
            for row in (query if tenant_id is None else query.where(ApiKey.tenant == tenant_id))
        ]


def revoke_key(tenant_id: str, reference: str | int) -> ApiKey:
    """End a key's validity, by its id or by the characters that lists show of it. Twice is no error.

    Raises:
        LookupError: this tenant has no such key, or several that begin so.
    """
    with transaction():
        mine = ApiKey.select().where(ApiKey.tenant == tenant_id)
        text = str(reference)
        by_id = text.isascii() and text.isdigit() and len(text) <= 9  # noqa: PLR2004  # a 32-bit column
        found: Sequence[ApiKey] = list(
            mine.where(ApiKey.id == int(text) if by_id else ApiKey.prefix == text[:SHOWN])
        )
        if len(found) != 1:
            what = "no key" if not found else "more than one key"
            raise LookupError(
                f"there is {what} {text[:SHOWN]!r} in tenant {tenant_id!r}; `tocsin key list` has the ids"
            )
        if found[0].revoked_at is None:
            found[0].revoked_at = utcnow()
            found[0].save()
        return found[0]


class ValidKey(NamedTuple):
    """What the database knows of a key that somebody showed."""

    id: int
    tenant_id: str
    role: str
    key_hash: str


def verify_key(key: str) -> ValidKey | None:
    """A key that is valid, or None. Within a connection of the caller's."""
    return verify_keys([key])[0]


def verify_keys(keys: Sequence[str]) -> list[ValidKey | None]:
    """The same of many, by one look.

    The index finds them by their hashes, of which an attacker cannot choose a part: how long that takes tells nothing.
    """
    digests = [_hash(key) for key in keys]
    sql = (
        "SELECT id, tenant_id, role, key_hash FROM api_keys"  # noqa: S608  # columns are ours
        f" WHERE {bulk.among('key_hash')} AND revoked_at IS NULL"
    )
    rows = database.execute_sql(sql, (bulk.id_list({*digests}),)).fetchall()
    found = {row[3]: ValidKey(*row) for row in rows}
    return [found.get(digest) for digest in digests]


def key_document(row: ApiKey) -> dict[str, Any]:
    """A key as the CLI shows it."""
    return {
        "id": row.id,
        "tenant": row.tenant_id,
        "role": row.role,
        "name": row.name,
        "prefix": row.prefix,
        "created_at": row.created_at.isoformat(),
        "revoked_at": row.revoked_at.isoformat() if row.revoked_at else None,
    }


def generate_secret_key() -> str:
    """A new key for TOCSIN_SECRET_KEYS."""
    return Fernet.generate_key().decode()


def rotate_secrets() -> tuple[int, list[str]]:
    """Encrypt every channel's config anew under the newest of TOCSIN_SECRET_KEYS.

    A channel that is saved meanwhile is under the newest key already, and is left as it is. So is one that none of the
    keys decrypts.

    Returns:
        How many were, and as tenant/name those that could not be.
    """
    mark = "?" if is_sqlite() else "%s"
    table = Channel._meta.table_name  # noqa: SLF001  # Peewee's documented home of the schema
    after = total = 0
    lost = []
    while True:
        with transaction():
            # The ciphertext itself: Peewee's field would decrypt it.
            rows = database.execute_sql(
                f"SELECT id, tenant_id, name, config FROM {table} WHERE id > {mark} ORDER BY id LIMIT {mark}",  # noqa: S608  # names are ours
                (after, BATCH),
            ).fetchall()
            for channel_id, tenant_id, name, token in rows:
                try:
                    anew = vault.rotate(token)
                except LostKeyError:
                    lost.append(f"{tenant_id}/{name}")
                    continue
                database.execute_sql(
                    f"UPDATE {table} SET config = {mark} WHERE id = {mark} AND config = {mark}",  # noqa: S608  # as above
                    (anew, channel_id, token),
                )
                total += 1
        if len(rows) < BATCH:
            return total, lost
        after = rows[-1][0]


def _hash(key: str) -> str:
    return hashlib.sha256(key.encode(errors="surrogatepass")).hexdigest()
