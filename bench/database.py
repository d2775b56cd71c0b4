"""The embedded PostgreSQL with the settings that it ships with, databases on it, and a store that counts."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from itertools import count
from pathlib import Path
from typing import Any, Self

import psycopg
from psycopg import sql

from bursar.core.money import Instant
from bursar.core.ports import Claim
from bursar.store.embedded import SUPERUSER, Embedded
from bursar.store.postgres import PostgresStore, Statement, migrate


class Cluster:
    """A server in a folder of its own; nothing is left of either."""

    def __enter__(self) -> Self:
        self.folder, self.serial = Path(tempfile.mkdtemp(prefix="bursar-bench-")), count(1)
        self.folder.chmod(0o711)  # the server may be another user's
        with ExitStack() as stack:
            stack.callback(clear, self.folder)
            self.embedded = stack.enter_context(Embedded(self.folder / "postgres"))
            self.stack = stack.pop_all()
        return self

    def __exit__(self, *_: object) -> None:
        self.stack.close()

    def dsn(self, role: str, database: str) -> str:
        return self.embedded.dsn(role, database)

    def admin(self, database: str = "postgres") -> psycopg.Connection[Any]:
        return psycopg.connect(self.dsn(SUPERUSER, database), autocommit=True)

    def migrated(self) -> str:
        """The name of a new database with our tables."""
        name = self.make("create database {} owner bursar_owner")
        migrate(self.dsn("bursar_migrate", name))
        return name

    def copy(self, of: str) -> str:
        """... with all that stands in another one, to which nobody is connected."""
        return self.make("create database {} owner bursar_owner template {}", of)

    def make(self, command: str, *more: str) -> str:
        name = f"bench{next(self.serial)}"
        with self.admin() as connection:
            connection.execute(sql.SQL(command).format(*map(sql.Identifier, (name, *more))))
        return name

    def settle(self, database: str) -> None:
        """What autovacuum would do in a minute: done now, lest it does it while somebody measures."""
        with self.admin(database) as connection:
            connection.execute("vacuum analyze")
        with self.admin() as connection:
            connection.execute("checkpoint")


def clear(folder: Path) -> None:
    elsewhere = folder / "postgres" / "elsewhere"
    if elsewhere.is_symlink():
        shutil.rmtree(elsewhere.resolve(), ignore_errors=True)
    shutil.rmtree(folder, ignore_errors=True)


class Counting(PostgresStore):
    """`statements`: those that went to the server, without `begin` and `commit`; `batches`: who was claimed when."""

    statements = 0
    batches: Sequence[Sequence[Claim]] = ()

    async def claim(self, limit: int) -> Sequence[Claim]:
        claims = await super().claim(limit)
        self.batches = [*self.batches, claims]
        return claims

    async def trip(self, *statements: Statement) -> Any:
        self.statements += len(statements)
        return await super().trip(*statements)


async def opened(cluster: Cluster, database: str, now: Callable[[], Instant]) -> Counting:
    return await Counting.open(cluster.dsn("bursar_engine", database), now)
