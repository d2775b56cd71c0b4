"""Migrations that only go forward, and evidence that no login role can change. As the login roles: what an owner may do
proves nothing."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from psycopg import errors, sql
from tests.harness import postgres

from bursar.core.errors import Explained
from bursar.store.postgres import migrate
from bursar.store.postgres.migrate import MIGRATIONS, supported

EVIDENCE = ("subjects", "records", "events", "transfers", "numbered")
ROWS = """
insert into subjects (tenant, kind, id) values ('t', 'invoice', '1'), ('u', 'invoice', '1');
insert into heads (sk, tenant) values (1, 't'), (2, 'u');
insert into records (sk, n, tenant, version, key, type, body)
values (1, 1, 't', 1, 'k', 'fact', '{}'), (2, 1, 'u', 1, 'k', 'fact', '{}');
insert into events values (1, 1, 't', '{}', '{}'), (2, 1, 'u', '{}', '{}');
insert into transfers values (1, 1, 0, 't', 'p', 'a', 'BTC', 5), (2, 1, 0, 'u', 'p', 'a', 'BTC', 5);
insert into numbered values (1, 't', 1, 1), (2, 'u', 2, 1);
insert into sums values ('t', 'a', 'BTC', 5), ('u', 'a', 'BTC', 5);
insert into statuses
values (1, 't', 'invoice', 1, 'open', 'payer', '{}'), (2, 'u', 'invoice', 2, 'open', 'payer', '{}');
"""


@pytest.fixture(scope="module")
def database() -> str:
    name = postgres.server().migrated()
    with login("bursar_engine", name) as engine:
        engine.execute(ROWS)
    return name


def login(role: str, database: str) -> psycopg.Connection[Any]:
    dsn = postgres.server().dsn(role, database)
    return psycopg.connect(dsn, autocommit=True, options="-c search_path=bursar")


@pytest.fixture
def api(database: str) -> Iterator[psycopg.Connection[Any]]:
    with login("bursar_api", database) as connection:
        connection.execute("select set_config('bursar.tenant', 't', false)")
        yield connection


@pytest.mark.parametrize("role", ["bursar_engine", "bursar_api"])
@pytest.mark.parametrize("table", EVIDENCE)
def test_evidence_stays(database: str, role: str, table: str) -> None:
    name = sql.Identifier(table)
    attempts = ["update {} set tenant = 'x'", "delete from {}", "truncate {}", "drop table {}"]
    attempts += ["alter table {} disable trigger all", "alter table {} disable trigger keep_rows"]
    attempts += [
        "drop trigger keep_rows on {}",
        "alter table {} disable row level security",
        "alter table {} owner to current_user",
    ]
    with login(role, database) as connection:
        connection.execute("select set_config('bursar.tenant', 't', false)")
        for attempt in attempts:
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(sql.SQL(attempt).format(name))
        for attempt in ("set session_replication_role = replica", "set role bursar_owner"):
            with pytest.raises(errors.InsufficientPrivilege):
                connection.execute(attempt)
    with postgres.server().admin(database) as owner:
        owner.execute("set role bursar_owner; set row_security = off")
        with pytest.raises(errors.InsufficientPrivilege, match="evidence|row-level security"):
            owner.execute(sql.SQL("delete from bursar.{}").format(name))
        owner.execute("reset role")
        for attempt in ("update bursar.{} set tenant = 'x'", "truncate bursar.{}"):
            with pytest.raises(errors.InsufficientPrivilege, match="evidence"):
                owner.execute(sql.SQL(attempt).format(name))


def test_a_tenant_sees_and_writes_its_own(api: psycopg.Connection[Any]) -> None:
    for table in (*EVIDENCE, "heads", "sums", "statuses"):
        seen = api.execute(sql.SQL("select distinct tenant from {}").format(sql.Identifier(table))).fetchall()
        assert seen == [("t",)], table
    api.execute(
        "insert into records (sk, n, tenant, version, key, type, body) values (1, 2, 't', 2, 's', 'spec', '{}')"
    )
    for statement in (
        "insert into records (sk, n, tenant, version, key, type, body) values (2, 3, 'u', 2, 's', 'spec', '{}')",
        "insert into records (sk, n, tenant, version, key, type, body) values (1, 3, 't', 2, 'f', 'fact', '{}')",
        "insert into records (sk, n, tenant, version, key, type, body) values (1, 3, 't', 2, 'a', 'attempt', '{}')",
        "insert into transfers values (1, 9, 0, 't', 'p', 'a', 'BTC', 5)",
        "insert into sums values ('t', 'b', 'BTC', 5)",
        "update sums set minor = 0",
        "insert into cursors values ('chain', 1, '{}', 0, 0, 0)",
        "update heads set tenant = 'u' where sk = 1",
    ):
        with pytest.raises(errors.InsufficientPrivilege):
            api.execute(statement)
    assert api.execute("update heads set due = 1 where sk = 2").rowcount == 0
    api.execute("select set_config('bursar.tenant', '', false)")
    assert api.execute("select count(*) from records").fetchall() == [(0,)]


def test_the_reader_only_reads(database: str) -> None:
    with login("bursar_read", database) as reader:
        assert reader.execute("select count(*) from sums").fetchall() == [(2,)]
        with pytest.raises(errors.InsufficientPrivilege):
            reader.execute("delete from sums")


def edited(tmp_path: Path, name: str, text: str) -> Path:
    folder = tmp_path / "migrations"
    shutil.copytree(MIGRATIONS, folder, dirs_exist_ok=True)
    (folder / name).write_text(text)
    return folder


def test_migrations_go_forward_once(tmp_path: Path) -> None:
    name = postgres.server().empty()
    dsn = postgres.server().dsn("bursar_migrate", name)
    first = [path.name for path in sorted(MIGRATIONS.iterdir())]
    assert migrate(dsn) == first and migrate(dsn) == []
    next_one = f"{len(first) + 1:04}_more.sql"
    folder = edited(tmp_path, next_one, "create table more (n int)")
    assert migrate(dsn, folder) == [next_one]
    with pytest.raises(Explained, match="newer Bursar") as newer:
        migrate(dsn)
    assert newer.value.hint
    with pytest.raises(Explained, match="is not what") as other:
        migrate(dsn, edited(tmp_path, first[0], "create table other (n int)"))
    assert "never edited" in other.value.hint


def test_a_migration_that_fails_leaves_nothing(tmp_path: Path) -> None:
    dsn = postgres.server().dsn("bursar_migrate", postgres.server().empty())
    number = len(list(MIGRATIONS.iterdir())) + 1
    folder = edited(tmp_path, f"{number:04}_bad.sql", "create table half (n int); select 1 / 0")
    with pytest.raises(errors.DivisionByZero):
        migrate(dsn, folder)
    with psycopg.connect(dsn) as connection:
        assert connection.execute("select to_regclass('bursar.half')").fetchall() == [(None,)]
    assert migrate(dsn, edited(tmp_path, f"{number:04}_bad.sql", "create table whole (n int)"))


def test_bad_starts_are_explained(tmp_path: Path) -> None:
    name = postgres.server().empty()
    for role in ("bursar_engine", "bursar_api"):
        with pytest.raises(Explained, match="may not change the schema"):
            migrate(postgres.server().dsn(role, name))
    with pytest.raises(Explained, match="does not answer"):
        migrate(f"host={tmp_path} dbname=none")
    with pytest.raises(Explained, match="PostgreSQL 14 is too old"):
        supported(140_009)
    with pytest.raises(Explained, match="not numbered"):
        migrate(postgres.server().dsn("bursar_migrate", name), edited(tmp_path, "0009_gap.sql", ""))
