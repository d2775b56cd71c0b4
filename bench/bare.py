"""The rows that a run wrote, found as the difference of two databases, and written again by plain statements: what
PostgreSQL alone takes for them, with the same tables, indexes, role and server. The baseline decides nothing."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import psycopg
from msgspec import Struct, json

Row = dict[str, Any]
Connection = psycopg.Connection[Any]
TABLES = "records events unnumbered transfers names wakes watches statuses sums heads watch_sets cursors".split()
KEYS = """select a.attname from pg_index i join pg_attribute a on a.attrelid = i.indrelid and a.attnum = any(i.indkey)
  where i.indrelid = %s::regclass and i.indisprimary"""
COLUMNS = "select attname from pg_attribute where attrelid = %s::regclass and attnum > 0"


class Change(Struct):
    """What becomes of some rows of one table."""

    table: str
    verb: str  # insert, update, delete
    rows: list[Row]


class Schema:
    """The columns and keys of the tables. From here on the connection finds them by name."""

    def __init__(self, connection: Connection) -> None:
        connection.execute("set search_path = bursar, pg_temp")
        self.keys = {t: [str(row[0]) for row in connection.execute(KEYS, [t])] for t in TABLES}
        self.columns = {
            t: [str(row[0]) for row in connection.execute(COLUMNS + " order by attnum", [t])] for t in TABLES
        }

    def statement(self, change: Change, given: str) -> bytes:
        """`given`: where the rows are read from, as `i`."""
        table, keys = change.table, self.keys[change.table]
        same = " and ".join(f"t.{key} = i.{key}" for key in keys)
        rest = ", ".join(f"{c} = i.{c}" for c in self.columns[table] if c not in keys)
        return {
            "insert": f"insert into {table} overriding system value select i.* from {given} on conflict do nothing",
            "update": f"update {table} t set {rest} from {given} where {same}",
            "delete": f"delete from {table} t using {given} where {same}",
        }[change.verb].encode()


def stored(connection: Connection, schema: Schema, table: str, who: Sequence[int]) -> dict[tuple[object, ...], Row]:
    """The rows of these subjects by their keys; of a table without subjects all."""
    some, values = (" where sk = any(%s)", [list(who)]) if "sk" in schema.columns[table] else ("", [])
    found = connection.execute(f"select json_agg(t)::text from bursar.{table} t{some}".encode(), values).fetchone()
    rows = json.decode(found[0], type=list[Row]) if found and found[0] else []
    return {tuple(row[key] for key in schema.keys[table]): row for row in rows}


def difference(before: Connection, after: Connection, schema: Schema, who: Sequence[int]) -> Iterator[Change]:
    for table in TABLES:
        old, new = (stored(connection, schema, table, who) for connection in (before, after))
        for verb, rows in (
            ("delete", [old[key] for key in sorted(old.keys() - new.keys())]),
            ("update", [new[key] for key in sorted(old.keys() & new.keys()) if old[key] != new[key]]),
            ("insert", [new[key] for key in sorted(new.keys() - old.keys())]),
        ):
            if rows:
                yield Change(table, verb, rows)


def of(changes: Sequence[Change], wanted: Callable[[Row], bool]) -> list[Change]:
    """Those rows alone."""
    out = [Change(c.table, c.verb, [row for row in c.rows if wanted(row)]) for c in changes]
    return [change for change in out if change.rows]


def write(connection: Connection, schema: Schema, changes: Sequence[Change]) -> None:
    """One transaction, one trip; a statement a table and verb, its rows in one parameter."""
    with connection.pipeline(), connection.transaction():
        for c in changes:
            given = f"json_populate_recordset(null::{c.table}, %s::json) i"
            connection.execute(schema.statement(c, given), [json.encode(c.rows).decode()])


class Copied:
    """COPY to a temporary table, then one statement from there, for each table and verb; in one transaction. The client
    has its rows as tuples, their documents as text."""

    def __init__(self, connection: Connection, schema: Schema, changes: Sequence[Change]) -> None:
        self.connection, self.steps = connection, list[tuple[bytes, list[list[object]], bytes]]()
        for c in changes:
            staged = f"in_{c.verb}_{c.table}"
            make = f"create temp table if not exists {staged} (like {c.table}) on commit delete rows"
            connection.execute(make.encode())
            rows = [[plain(row[column]) for column in schema.columns[c.table]] for row in c.rows]
            self.steps.append((f"copy {staged} from stdin".encode(), rows, schema.statement(c, f"{staged} i")))

    def run(self) -> None:
        with self.connection.transaction(), self.connection.cursor() as cursor:
            for copy, rows, statement in self.steps:
                with cursor.copy(copy) as stream:
                    for row in rows:
                        stream.write_row(row)
                cursor.execute(statement)


def plain(value: object) -> object:
    return json.encode(value).decode() if isinstance(value, dict) else value
