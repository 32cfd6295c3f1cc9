"""Many rows in one statement, whatever their number: the hot path's way to write.

The rows travel as a JSON document, which the database unfolds (`json_to_recordset`, `json_each`). So there is no limit
on the number of parameters, and a hundred rows cost little more than one.
"""

from __future__ import annotations

from datetime import datetime
from operator import itemgetter
from typing import TYPE_CHECKING, Any

import orjson
from peewee import AutoField, BigIntegerField, BooleanField, FloatField, ForeignKeyField, IntegerField

from model.database import (
    EncryptedJsonField,
    JsonField,
    UtcDateTimeField,
    execute,
    execute_later,
    is_sqlite,
    iso,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from peewee import Field, Model

Row = dict[str, Any]


def _sql_type(field: Field[Any]) -> str:
    if isinstance(field, ForeignKeyField):
        return _sql_type(field.rel_field)
    if isinstance(field, UtcDateTimeField):
        return "timestamptz"
    if isinstance(field, BooleanField):
        return "boolean"
    if isinstance(field, FloatField):
        return "double precision"
    if isinstance(field, (IntegerField, BigIntegerField, AutoField)):
        return "bigint"
    return "text"


def _encode(model: type[Model], rows: Iterable[Mapping[str, Any]]) -> str:
    """The rows, all of the same columns, as one document."""
    given = list(rows)
    documents = _documents(model, given[0])
    if documents:
        given = [
            {name: documents[name](value) if name in documents else value for name, value in row.items()}
            for row in given
        ]
    texts: dict[datetime, str] = {}

    def text(moment: datetime) -> str:
        # The same one or two moments stand in each row of a batch.
        if moment not in texts:
            texts[moment] = iso(moment)
        return texts[moment]

    try:
        return orjson.dumps(given, default=text, option=orjson.OPT_PASSTHROUGH_DATETIME).decode()
    except orjson.JSONEncodeError as error:
        raise error.__cause__ or error from None


def _documents(model: type[Model], names: Iterable[str]) -> dict[str, Callable[[Any], Any]]:
    """How the columns among these that hold JSON are written."""
    columns = model._meta.columns  # noqa: SLF001  # Peewee's documented home of the schema
    return {
        name: columns[name].db_value
        for name in names
        if isinstance(columns[name.removeprefix("_")], (JsonField, EncryptedJsonField))
    }


def placeholder() -> str:
    """How the driver marks a parameter."""
    return "?" if is_sqlite() else "%s"


def among(column: str) -> str:
    """The condition that a column is one of the ids of one parameter, which `id_list` makes."""
    return f"{column} IN (SELECT value FROM json_each(?))" if is_sqlite() else f"{column} = ANY(%s)"  # noqa: S608  # columns are ours


def id_list(ids: Iterable[int | str]) -> Any:
    """Ids as the parameter of `among`."""
    found = list(ids)
    if is_sqlite():
        return orjson.dumps(found).decode()
    # An array's text: of ARRAY[...] PostgreSQL would read, check and convert one expression after the other.
    return found if found and isinstance(found[0], str) else f"{{{','.join(map(str, found))}}}"


def rows_source(model: type[Model], rows: Sequence[Mapping[str, Any]]) -> tuple[str, tuple[Any, ...]]:
    """A FROM item, named `r`, that unfolds rows, all of the same columns; and its parameters.

    To unfold a document costs PostgreSQL more than to insert its rows, by the column: so what a column has in common in
    all rows stands beside the document, once. Not what an update compares with: of constants PostgreSQL would guess how
    few rows of the table have them.

    Raises:
        ValueError: a moment is naive.
    """
    types = _column_types(model, rows[0])
    if is_sqlite():
        columns = ", ".join(f"json_extract(value, '$.{name}') AS {name}" for name in types)
        return f"(SELECT {columns} FROM json_each(?)) AS r", (_encode(model, rows),)  # noqa: S608  # names are ours
    documents = _documents(model, types)
    common = {
        name: rows[0][name] for name in list(types)[1:] if name not in documents and _is_common(name, rows)
    }
    document = _encode(model, [{name: row[name] for name in row if name not in common} for row in rows])
    varying = ", ".join(f"{name} {kind}" for name, kind in types.items() if name not in common)
    source = f"json_to_recordset(%s) AS r({varying})"
    if not common:
        return source, (document,)
    constants = ", ".join(f"%s::{types[name]} AS {name}" for name in common)
    return f"(SELECT r.*, {constants} FROM {source}) AS r", (*map(_parameter, common.values()), document)  # noqa: S608  # names are ours


def _is_common(name: str, rows: Sequence[Mapping[str, Any]]) -> bool:
    value = rows[0][name]
    if name.startswith("_"):
        return False
    if isinstance(value, str) and not value.isprintable():
        return False  # a document's errors are known: of a surrogate, of a NUL
    return [row[name] for row in rows].count(value) == len(rows)


def _parameter(value: Any) -> Any:
    if isinstance(value, datetime):
        return iso(value)
    return str(value) if isinstance(value, str) else value


def same_row(ids: Iterable[int]) -> tuple[str, tuple[Any, ...]]:
    """The condition that a row `t` of a table is the one that a row `r` of `rows_source` speaks of, and its parameters.

    PostgreSQL takes a hundred for the number of rows in a document, and would rather read a table of ten thousand than
    look that many up; an array it counts. SQLite would go by the ids, and read the whole document for each of them.
    """
    return ("t.id = r.id", ()) if is_sqlite() else (f"t.id = r.id AND {among('t.id')}", (id_list(ids),))


def _column_types(model: type[Model], names: Iterable[str]) -> dict[str, str]:
    """PostgreSQL's types of some columns of a table, by name; a leading underscore is not part of it."""
    columns = model._meta.columns  # noqa: SLF001  # as above
    return {name: _sql_type(columns[name.removeprefix("_")]) for name in names}


def insert(
    model: type[Model],
    rows: Sequence[Row],
    *,
    ignore_conflicts: bool = False,
    returning: Sequence[str] = (),
    locking_by: Sequence[str] = (),
) -> list[tuple[Any, ...]]:
    """Insert rows, in their order, in one statement.

    Args:
        model: the table.
        rows: values by column name, the same columns in each. What is left out takes the field's default.
        ignore_conflicts: skip a row that a unique index already holds.
        returning: columns of the rows that were really inserted.
        locking_by: the text columns of a unique index, in whose order PostgreSQL is to insert the rows, while their ids
            are given out in the rows' own: for rows that two may insert at the same time, each in an order of its own.
    """
    if not rows:
        return []
    meta = model._meta  # noqa: SLF001  # as above
    defaults = {
        field.column_name: field.default
        for field in meta.sorted_fields
        if field.default is not None and field.column_name not in rows[0]
    }
    filled = [{**{name: _value(default) for name, default in defaults.items()}, **row} for row in rows]
    names = list(filled[0])
    columns = ", ".join(names)
    source, params = rows_source(model, filled)
    # SQLite needs the WHERE to tell the conflict clause from a join's ON.
    order = ""
    if locking_by and not is_sqlite():  # whose writers are alone
        columns = f"id, {columns}"
        # Within, so that it comes before the sort. By its bytes, as Python sorts, and not by the database's language.
        source = f"(SELECT nextval(pg_get_serial_sequence('{meta.table_name}', 'id')) AS id, r.* FROM {source}) AS r"  # noqa: S608  # as below
        order = " ORDER BY " + ", ".join([*(f'{name} COLLATE "C"' for name in locking_by), "id"])
    sql = f"INSERT INTO {meta.table_name} ({columns}) SELECT {columns} FROM {source} WHERE true{order}"  # noqa: S608  # names are ours
    if ignore_conflicts:
        sql += " ON CONFLICT DO NOTHING"
    if returning:
        sql += " RETURNING " + ", ".join(returning)
    return _execute(sql, params, is_read=bool(returning))


def _value(default: Any) -> Any:
    return default() if callable(default) else default


def update(
    model: type[Model],
    rows: Sequence[Row],
    *,
    where: str = "",
    returning: Sequence[str] = (),
    in_order: bool = False,
) -> list[tuple[Any, ...]]:
    """Update rows by their id, in one statement.

    Args:
        model: the table.
        rows: values by column name, with the id; every row has the same columns. A name that begins with `_`
            is not set; it is there for `where`.
        where: a further condition; `t` is the table's row, `r` the given one. What it compares with a constant is
            better put into the rows: PostgreSQL would guess how few of the table's rows are so, and plan for one.
        returning: columns of the rows that were really updated.
        in_order: lock the rows in that of their ids, which the plan of an UPDATE alone need not keep: for rows that
            two workers may have in common, and that the caller has not locked.
    """
    if not rows:
        return []
    table = model._meta.table_name  # noqa: SLF001  # as above
    assignments = ", ".join(
        f"{name} = r.{name}" for name in rows[0] if name != "id" and not name.startswith("_")
    )
    # In the order of their ids, so that two workers with rows in common tend to lock them in the same order.
    ordered = sorted(rows, key=itemgetter("id"))
    same, given = same_row(row["id"] for row in ordered)
    condition = same + (f" AND {where}" if where else "")
    source, params = rows_source(model, ordered)
    params = (*params, *given)
    if in_order and not is_sqlite():  # whose writers are alone
        locked = f"{table} AS t ON {condition} ORDER BY t.id FOR NO KEY UPDATE OF t"
        source, params = f"(SELECT r.* FROM {source} JOIN {locked}) AS r", (*params, *given)  # noqa: S608  # as above
    sql = f"UPDATE {table} AS t SET {assignments} FROM {source} WHERE {condition}"  # noqa: S608  # as above
    if returning:
        # SQLite knows the target's columns by their bare names only; PostgreSQL would find them ambiguous.
        sql += " RETURNING " + ", ".join(name if is_sqlite() else f"t.{name}" for name in returning)
    return _execute(sql, params, is_read=bool(returning))


def _execute(sql: str, params: tuple[Any, ...], *, is_read: bool) -> list[tuple[Any, ...]]:
    if is_read:
        return list(execute(sql, params).fetchall())
    execute_later(sql, params)
    return []
