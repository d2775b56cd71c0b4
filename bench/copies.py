"""An open invoice a hundred thousand times over, by plain statements: for its weight in every table and index.

Copies wait as the first one does, under keys that nobody pays; nothing ever reads what is in them."""

from __future__ import annotations

from typing import Any

import psycopg

from .bare import COLUMNS
from .shop import name

TABLES = ("heads", "wakes", "records", "events", "statuses", "names", "watches", "unnumbered")
NEW = {"sk": "c.sk", "serial": "nextval('serials')"}  # what differs in every copy ...
KEY = "'copy ' || lpad(c.n::text, 39, '0')"  # as long as a script in hex
OWN = {  # ... and in some tables
    "names": {"value": KEY},
    "watches": {"key": KEY, "version": "c.n + (select version from watch_sets w where w.rail = t.rail)"},
}


def copy(admin: psycopg.Connection[Any], n: int) -> None:
    """`n` more of invoice 0. `admin`: of the superuser."""
    of = name(0)
    admin.execute("set search_path = bursar, pg_temp")
    admin.execute("create temp table copies (sk bigint, n serial)")
    made = (
        "insert into subjects (tenant, kind, id) select %s, %s, 'copy ' || n from generate_series(1, %s) n returning sk"
    )
    admin.execute(f"with made as ({made}) insert into copies (sk) select sk from made", [of.tenant, of.kind, n])
    for table in TABLES:
        columns = [str(row[0]) for row in admin.execute(COLUMNS + " and attidentity = ''", [table])]
        values = {**{c: f"t.{c}" for c in columns}, **{c: new for c, new in NEW.items() if c in columns}}
        values |= OWN.get(table, {})
        insert = f"""insert into {table} ({", ".join(values)})
          select {", ".join(values.values())} from copies c cross join {table} t join subjects s on s.sk = t.sk
          where (s.tenant, s.kind, s.id) = (%s, %s, %s)"""
        admin.execute(insert.encode(), [of.tenant, of.kind, of.id])
    admin.execute("update watch_sets set version = version + %s", [n])
    admin.execute("update cursors k set watched = w.version from watch_sets w where w.rail = k.rail")
