"""`key create`, `key list`, `key revoke`, and `rotate-keys`."""

from __future__ import annotations

from typing import Annotated

import typer

from cli import show
from cli.errors import ERROR, OK
from cli.session import open_all, session

group = typer.Typer(help="Keys of those who call the API.", no_args_is_help=True, rich_markup_mode=None)

#: What to do with a new key. In one step, a worker with the older keys alone could not read what a process with the new
#: one saves meanwhile.
ROTATION = """\
as the first key: set TOCSIN_SECRET_KEYS to it, and that is all; to rotate, in this order:
1. add it to TOCSIN_SECRET_KEYS behind the others, and restart every process, which reads them once
2. put it in front, and restart every process again
3. run `tocsin rotate-keys`, then take the older keys away
in the .keys file beside SQLite's file: put it in front at once, restart nothing, then 3."""


def add_to(app: typer.Typer) -> None:
    """Add this module's commands."""
    app.add_typer(group, name="key")
    app.command("rotate-keys")(rotate_keys)


@group.command()
def create(
    *,
    role: Annotated[str, typer.Option("--role", help="ingest, read or admin.", metavar="ROLE")],
    tenant: show.TenantOption = None,
    name: Annotated[str, typer.Option("--name", help="What the key is for.")] = "",
    json: show.Json = False,
) -> int:
    """Make an API key. It is shown once."""
    from admin.keys import create_key, key_document  # noqa: PLC0415  # `--help` need not wait for it
    from admin.tenants import exists, resolve  # noqa: PLC0415

    with session():
        owner = tenant if tenant is not None else resolve(None)
        is_new = not exists(owner)
        row, key = create_key(owner, role, name=name)
        answer = {"key": key, **key_document(row)}
    if json:
        show.document(answer)
    else:
        print(key)
        of = f"{owner}, which is new" if is_new else owner
        show.note(f"key {answer['id']} of tenant {of}, role {role}; it is not shown again")
    return OK


@group.command("list")
def list_(*, tenant: show.TenantOption = None, json: show.Json = False) -> int:
    """List keys: by default every tenant's."""
    from admin.keys import list_keys  # noqa: PLC0415  # `--help` need not wait for it
    from admin.tenants import resolve  # noqa: PLC0415

    with session():
        found = list_keys(resolve(tenant) if tenant is not None else None)
    if json:
        show.document(found)
        return OK
    names = ("id", "tenant", "role", "name", "prefix", "created_at", "revoked_at")
    show.table(names, [[each[name] for name in names] for each in found], empty="no keys")
    return OK


@group.command()
def revoke(
    reference: Annotated[str, typer.Argument(help="The key's id or its first characters.", metavar="ID")],
    *,
    tenant: show.TenantOption = None,
    json: show.Json = False,
) -> int:
    """End a key's validity."""
    from admin.keys import key_document, revoke_key  # noqa: PLC0415  # `--help` need not wait for it
    from admin.tenants import resolve  # noqa: PLC0415

    with session():
        answer = key_document(revoke_key(resolve(tenant), reference))
    if json:
        show.document(answer)
    else:
        print(f"key {answer['id']} ({answer['prefix']}...) is revoked")
    return OK


def rotate_keys(
    *,
    generate: Annotated[
        bool, typer.Option("--generate", help="Print a new key, and do nothing else.")
    ] = False,
    json: show.Json = False,
) -> int:
    """Encrypt stored secrets anew under the newest of TOCSIN_SECRET_KEYS. Ends with 1 if some cannot be read."""
    from admin.keys import generate_secret_key, rotate_secrets  # noqa: PLC0415  # `--help` need not wait for it

    if generate:
        # Reads no setting: without a key PostgreSQL's are not valid yet.
        key = generate_secret_key()
        if json:
            show.document({"key": key})
        else:
            print(key)
            show.note(ROTATION)
        return OK
    open_all()
    number, lost = rotate_secrets()
    if json:
        show.document({"channels": number, "unreadable": lost})
    else:
        print(f"{number} channels are encrypted under the newest key")
        for name in lost:
            show.note(f"{name}: none of the keys decrypts it; save it anew, or add the key that is lacking")
    return ERROR if lost else OK
