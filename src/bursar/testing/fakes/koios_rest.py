"""What PostgREST does to the rows of a call: arguments, filters, order, pages, columns, and its errors.

After its documents. It covers what a client of Koios may send: `limit`, `offset`, `order`, `select`, the operators eq
gt gte lt lte neq in is, `not.`, and one level of `or`; not embedding, JSON paths, casts or ranges in headers.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from bursar.testing.fakes.koios_rows import Call, Row

MAX_ROWS = 1_000

Query = list[tuple[str, str]]


class Refusal(Exception):
    """An answer that is no rows: HTTP status, and PostgREST's or PostgreSQL's code and message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status, self.code, self.message = status, code, message

    def body(self) -> bytes:
        text = {"code": self.code, "details": None, "hint": None, "message": self.message}
        return json.dumps(text).encode()


def no_function(signature: str) -> Refusal:
    """What a name or arguments that no function has get."""
    return Refusal(404, "PGRST202", f"Could not find the function grest.{signature} in the schema cache")


def arguments(name: str, call: Call, body: bytes) -> Row:
    """The call's arguments from a JSON body, with defaults. Raises Refusal."""
    try:
        given = json.loads(body or b"{}")
    except ValueError:
        raise Refusal(400, "PGRST102", "Empty or invalid json") from None
    given = given if isinstance(given, dict) else {}
    args = {**call.args, **given}
    if set(given) - set(call.args) or None in args.values():
        raise no_function(f"{name}({', '.join(given)})")
    for key, value in args.items():
        kind = list if call.args[key] is None else type(call.args[key])
        if type(value) is not kind:
            raise Refusal(400, "22P02", f"invalid input syntax for {key}: {json.dumps(value)}")
    return args


def _literal(like: object, text: str) -> Any:
    """The text of a filter as a value of the column's type."""
    try:
        return text == "true" if isinstance(like, bool) else int(text) if isinstance(like, int) else text
    except ValueError:
        raise Refusal(400, "22P02", f'invalid input syntax for type integer: "{text}"') from None


COMPARE: dict[str, Callable[[Any, Any], bool]] = {
    "eq": lambda a, b: a == b,
    "neq": lambda a, b: a != b,
    "gt": lambda a, b: a > b,
    "gte": lambda a, b: a >= b,
    "lt": lambda a, b: a < b,
    "lte": lambda a, b: a <= b,
}


def _holds(row: Row, column: str, condition: str) -> bool:
    """Whether a row passes `gte.5`, `not.is.null` …; as in SQL, what is null passes nothing but `is`."""
    if column not in row:
        raise Refusal(400, "42703", f"column {column} does not exist")
    negated = condition.startswith("not.")
    operator, _, text = condition.removeprefix("not.").partition(".")
    value = row[column]
    if operator == "is" and text in ("null", "true", "false"):
        result = value is {"null": None, "true": True, "false": False}[text]
    elif operator == "in" and re.fullmatch(r"\(.*\)", text):
        result = value in [_literal(value, part.strip('"')) for part in text[1:-1].split(",")]
    elif operator in COMPARE:
        result = value is not None and COMPARE[operator](value, _literal(value, text))
    else:
        raise Refusal(400, "PGRST100", f'"failed to parse filter ({condition})"')
    return result != negated and (value is not None or operator == "is")


def _either(row: Row, text: str) -> bool:
    """Whether a row passes one of `(a.eq.1,b.not.is.null)`."""
    parts = re.findall(r"(?:[^,(]|\([^)]*\))+", text.strip()[1:-1])
    return any(_holds(row, column, condition) for column, _, condition in (part.partition(".") for part in parts))


def _ordered(rows: list[Row], order: str) -> list[Row]:
    """Sorted as `a.asc,b.desc`; equals stay in the backend's own order, null counts as the largest value."""
    for term in reversed(order.split(",")):
        column, *ways = term.split(".")
        if rows and column not in rows[0]:
            raise Refusal(400, "42703", f"column {column} does not exist")
        if set(ways) - {"asc", "desc", "nullsfirst", "nullslast"}:
            raise Refusal(400, "PGRST100", f'"failed to parse order ({order})"')
        down = "desc" in ways
        last = "nullslast" in ways or (not down and "nullsfirst" not in ways)
        known = sorted((row for row in rows if row[column] is not None), key=lambda row: row[column], reverse=down)
        unknown = [row for row in rows if row[column] is None]
        rows = known + unknown if last else unknown + known
    return rows


def _number(query: dict[str, str], name: str, default: int) -> int:
    text = query.get(name, str(default))
    if not text.isdecimal():
        raise Refusal(400, "PGRST100", f'"failed to parse {name} parameter ({text})"')
    return int(text)


def shape(rows: list[Row], call: Call, query: Query, prefer: str) -> tuple[int, str, list[Row]]:
    """The page that a query asks of rows: HTTP status, Content-Range, rows. Raises Refusal."""
    if call.columns:
        rows = [{name: row[name] for name in call.columns} for row in rows]
    single = dict(query)
    for name, text in query:
        if name == "or":
            rows = [row for row in rows if _either(row, text)]
        elif name not in ("limit", "offset", "order", "select"):
            rows = [row for row in rows if _holds(row, name, text)]
    if "order" in single:
        rows = _ordered(rows, single["order"])
    total, offset = len(rows), _number(single, "offset", 0)
    counted = bool(re.search(r"count=(exact|planned|estimated)", prefer))
    if counted and offset > total:
        raise Refusal(416, "PGRST103", "Requested range not satisfiable")
    page = rows[offset : offset + min(_number(single, "limit", MAX_ROWS), MAX_ROWS)]
    columns = single.get("select", "*")
    if columns != "*":
        if page and set(columns.split(",")) - set(page[0]):
            raise Refusal(400, "42703", f"column does not exist: {columns}")
        page = [{name: row[name] for name in columns.split(",")} for row in page]
    span = f"{offset}-{offset + len(page) - 1}" if page else "*"
    return 206 if counted and len(page) < total else 200, f"{span}/{total if counted else '*'}", page
