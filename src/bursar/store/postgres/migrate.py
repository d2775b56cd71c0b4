"""Numbered migrations that only go forward. Each is applied once, whole, by one process at a time.

It makes no roles and no database: the launcher does, or the owner of a server of one's own."""

from __future__ import annotations

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
from psycopg import errors

from ...core.errors import Explained
from .queries import FOLDER

MIGRATIONS = FOLDER / "migrations"
OLDEST = 15  # of PostgreSQL
LOCK = 8720
ROLES = ("bursar_owner", "bursar_engine", "bursar_api", "bursar_read")
BEGIN = """
create schema if not exists bursar;
create table if not exists bursar.migrations (number int primary key, name text not null, checksum text not null);
grant usage on schema bursar to bursar_engine, bursar_api, bursar_read;
grant select on bursar.migrations to bursar_engine, bursar_api, bursar_read;
"""


class Migration(NamedTuple):
    number: int
    name: str
    text: str

    @property
    def checksum(self) -> str:
        return sha256(self.text.encode()).hexdigest()


def migrations(folder: Path) -> list[Migration]:
    """Files `0001_name.sql`, numbered without a gap. Raises Explained."""
    files = sorted(folder.glob("[0-9][0-9][0-9][0-9]_*.sql"))
    found = [Migration(int(path.name[:4]), path.name, path.read_text()) for path in files]
    if [m.number for m in found] != list(range(1, len(found) + 1)):
        raise Explained(f"The migrations in {folder} are not numbered 0001, 0002, …", "Install Bursar again.")
    return found


def migrate(dsn: str, folder: Path = MIGRATIONS) -> list[str]:
    """Bring the schema up to date; the names of what was applied. `dsn`: of bursar_migrate, a member of bursar_owner.

    Raises Explained: another PostgreSQL than we know, a missing role, an edited or unknown migration, a lock."""
    try:
        with psycopg.connect(dsn, autocommit=True, options="-c lock_timeout=30s") as connection:
            prepare(connection)
            return [apply(connection, m) for m in pending(known(connection), migrations(folder))]
    except errors.LockNotAvailable as err:
        raise Explained("The schema is in use, or is being changed.", "Stop the other processes; try again.") from err
    except psycopg.OperationalError as err:
        raise Explained(f"PostgreSQL does not answer: {err}", "Start it, or correct its address.") from err


def prepare(connection: psycopg.Connection[Any]) -> None:
    supported(connection.info.server_version)
    have = {str(row[0]) for row in connection.execute("select rolname from pg_roles")}
    if missing := [role for role in ROLES if role not in have]:
        raise Explained(
            f"The database has no role {', '.join(missing)}.",
            "As its superuser: " + " ".join(f"create role {role};" for role in missing),
        )
    try:
        connection.execute("set role bursar_owner")
        connection.execute("select pg_advisory_lock(%s)", [LOCK])
        connection.execute(BEGIN)
    except errors.InsufficientPrivilege as err:
        raise Explained(
            f"The role of this address may not change the schema: {err}",
            "Use bursar_migrate, a member of bursar_owner, who owns the database.",
        ) from err


def supported(version: int) -> None:
    if version < OLDEST * 10_000:
        raise Explained(f"PostgreSQL {version // 10_000} is too old.", f"Bursar needs PostgreSQL {OLDEST} or newer.")


def known(connection: psycopg.Connection[Any]) -> dict[int, tuple[str, str]]:
    rows = connection.execute("select number, name, checksum from bursar.migrations").fetchall()
    return {number: (name, checksum) for number, name, checksum in rows}


def pending(applied: Mapping[int, tuple[str, str]], ours: list[Migration]) -> list[Migration]:
    """Raises Explained where the database's past is not ours."""
    if newer := sorted(set(applied) - {m.number for m in ours}):
        raise Explained(
            f"The database was migrated by a newer Bursar ({applied[newer[-1]][0]} is unknown here).",
            "Install that version again, or restore a backup from before it.",
        )
    for m in ours:
        if m.number in applied and applied[m.number] != (m.name, m.checksum):
            raise Explained(
                f"Migration {applied[m.number][0]} was applied, and is not what {m.name} says now.",
                "Migrations are never edited: put the file back as it was and add another one.",
            )
    return [m for m in ours if m.number not in applied]


def apply(connection: psycopg.Connection[Any], m: Migration) -> str:
    with connection.transaction():
        connection.execute("set local search_path = bursar")
        connection.execute(m.text.encode())
        connection.execute("insert into migrations values (%s, %s, %s)", [m.number, m.name, m.checksum])
    return m.name


async def check(connection: psycopg.AsyncConnection[Any]) -> None:
    """Whether the schema is the one that this program knows. Raises Explained."""
    supported(connection.info.server_version)
    try:
        cursor = await connection.execute("select number, name, checksum from bursar.migrations")
    except (errors.UndefinedTable, errors.InvalidSchemaName, errors.InsufficientPrivilege) as err:
        raise Explained("The database has no tables of Bursar yet.", "Migrate it first.") from err
    applied = {number: (name, checksum) for number, name, checksum in await cursor.fetchall()}
    if left := pending(applied, migrations(MIGRATIONS)):
        raise Explained(f"The database lacks {left[0].name}.", "Migrate it first.")
