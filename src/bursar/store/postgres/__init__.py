"""The store on PostgreSQL: the same ports as `store/memory`, call for call. START HERE: `commit`.

One lock order everywhere: named locks (sql/commit.sql), then heads by key. No transaction is open while anybody waits
for anything but PostgreSQL. It starts no server (`store/embedded`) and makes no schema (`migrate`)."""

from __future__ import annotations

from collections.abc import Callable, Collection, Container, Mapping, Sequence
from typing import Any, Self, TypeVar

import psycopg
from msgspec import json
from msgspec.structs import asdict
from psycopg import errors
from psycopg_pool import AsyncConnectionPool

from ...core.errors import CommitLost, Explained, Unusable
from ...core.facts import Cursor
from ...core.ledger import Overdrawn, Sums
from ...core.money import Instant
from ...core.ports import Assignment, Claim, Commit, Conflict, Event, Listed
from ...core.subject import Mover, Subject, SubjectId
from .batches import Batches
from .migrate import check, migrate
from .queries import composed, query
from .rows import Loaded, Rows, Verdict, demand_sound, text

__all__ = ["PostgresStore", "migrate"]

LEASE = 20_000_000
PAGE = 1000  # the most that one read returns
TRIES = 5
CONNECTIONS = 6
WIDTH = 2  # batches of one kind under way at once
SETTINGS = "-c search_path=bursar,pg_temp -c plan_cache_mode=force_generic_plan -c enable_seqscan=off -c jit=off \
-c lock_timeout=10s -c statement_timeout=60s -c idle_in_transaction_session_timeout=10s"
TENANT = b"select set_config('bursar.tenant', %(tenant)s, true)"

Rest = tuple[SubjectId, int, list[tuple[str, str, int]]]
# Made once: that takes longer than what they decode.
VERDICTS, LOADED = json.Decoder(list[Verdict]), json.Decoder(list[Loaded])
CLAIMED = json.Decoder(tuple[Instant, list[SubjectId] | None])
ASSIGNED, LISTED, FOUND = json.Decoder(Assignment), json.Decoder(list[Listed]), json.Decoder(list[SubjectId])
EVENTS, NUMBERED = json.Decoder(list[Event]), json.Decoder(list[tuple[int, Event]])
RESTING, FAULTS = json.Decoder(tuple[int, list[Rest]]), json.Decoder(list[tuple[str, str, str]])
CURSORS, SUMS = json.Decoder(dict[str, Cursor]), json.Decoder(list[tuple[str, str, int]])
BEGUN = json.Decoder(int)

T = TypeVar("T")
Statement = tuple[bytes, Mapping[str, object]]
Answer = int | Conflict | Overdrawn


class PostgresStore:
    """All ports of one process, on a pool of connections. `now`: the process's clock; claims tell how far it is from
    the database's, and whatever is due is due by that. `tenant`: whom the role bursar_api works for."""

    def __init__(self, pool: AsyncConnectionPool[Any], now: Callable[[], Instant], tenant: str = "") -> None:
        self.pool, self.now, self.tenant = pool, now, tenant
        self.ahead: Instant = 0  # the database's clock less ours
        self.loads = Batches(self.load_all, lambda _: (), WIDTH)
        self.commits: Batches[Commit, Answer] = Batches(
            self.commit_all, lambda commit: [w.subject for w in commit.writes], WIDTH
        )

    @classmethod
    async def open(cls, dsn: str, now: Callable[[], Instant], connections: int = CONNECTIONS) -> Self:
        """`dsn`: of bursar_engine or bursar_api. Raises Explained when it does not answer, or is not migrated."""
        settings = {"autocommit": True, "prepare_threshold": 0, "options": SETTINGS}
        pool = AsyncConnectionPool(dsn, kwargs=settings, min_size=1, max_size=connections, open=False, timeout=30)
        store = cls(pool, now)
        try:
            await pool.open(wait=True, timeout=10)
            async with pool.connection() as connection:
                await check(connection)
            await store.claim(0)
        except psycopg.OperationalError as err:
            await pool.close()
            raise unanswered(err) from err
        except Explained:
            await pool.close()
            raise
        return store

    def of(self, tenant: str) -> Self:
        """The same for one tenant, under row-level security."""
        store = type(self)(self.pool, self.now, tenant)
        store.ahead = self.ahead
        return store

    async def close(self) -> None:
        await self.pool.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    # -- trips --------------------------------------------------------------------------------
    async def trip(self, *statements: Statement) -> Any:
        """One transaction, one round trip; the one value that the last of them returns. Raises psycopg.Error."""
        if self.tenant:
            statements = ((TENANT, {"tenant": self.tenant}), *statements)
        async with self.pool.connection() as connection:
            if len(statements) == 1:
                cursor = await connection.execute(*statements[0])
            else:
                async with connection.pipeline():
                    await connection.execute("begin")
                    for statement in statements:
                        cursor = await connection.execute(*statement)
                    await connection.execute("commit")
            row = await cursor.fetchone() if cursor.description else None
        return row[0] if row else None

    async def read(self, decoder: json.Decoder[T], *statements: Statement) -> T:
        """Raises Explained when the database does not answer."""
        try:
            return decoder.decode(await self.trip(*statements))
        except psycopg.OperationalError as err:
            raise unanswered(err) from err

    # -- Work ---------------------------------------------------------------------------------
    lease = LEASE

    def by(self) -> Instant | None:
        """What a claim takes for now; None: the database's own clock. Tests say it themselves."""
        return None

    async def claim(self, limit: int) -> Sequence[Claim]:
        params = {"now": self.by(), "lease": self.lease}
        now, subjects = await self.read(CLAIMED, (query("claim", min(limit, PAGE)), params))
        self.ahead = now - self.now()
        return [Claim(subject, now) for subject in subjects or ()]

    async def load(self, subject: SubjectId) -> tuple[Subject, Mapping[str, Cursor]]:
        return await self.loads(subject)

    async def load_all(self, subjects: Sequence[SubjectId]) -> Sequence[tuple[Subject, Mapping[str, Cursor]]]:
        asked = [{"o": o, "tenant": s.tenant, "kind": s.kind, "id": s.id} for o, s in enumerate(subjects)]
        rows = await self.read(LOADED, (query("load"), {"subjects": text(asked)}))
        return [
            (Subject(subject, row.version, row.records, row.status), row.cursors)
            for subject, row in zip(subjects, rows, strict=True)
        ]

    async def commit(self, commit: Commit) -> Answer:
        """Up to a hundred of one moment share a transaction; what refuses one of them says nothing of the others.

        Raises CommitLost; ValueError for two writes to one subject, and for a clock that nobody moves."""
        demand_sound(commit)
        if commit.advance:
            return await self.alone(commit)
        return await self.commits(commit)

    async def commit_all(self, commits: Sequence[Commit]) -> Sequence[Answer | BaseException]:
        try:
            verdicts = await self.write(commits, sure=False)
        except (errors.DeadlockDetected, psycopg.IntegrityError, psycopg.DataError):
            return [await self.result(commit) for commit in commits]
        except psycopg.OperationalError as err:
            raise lost(err) from err
        return [
            await self.result(commit) if verdict.what == "again" else verdict.answer()
            for commit, verdict in zip(commits, verdicts, strict=True)
        ]

    async def result(self, commit: Commit) -> Answer | BaseException:
        try:
            return await self.alone(commit)
        except (CommitLost, Unusable, psycopg.Error) as err:
            return err

    async def alone(self, commit: Commit) -> Answer:
        for k in range(TRIES):
            try:
                (verdict,) = await self.write([commit], sure=k > 0)
                if verdict.what != "again":
                    return verdict.answer()
            except errors.UniqueViolation as err:
                if err.diag.constraint_name == "names_unique":
                    return Conflict("name", commit.writes[-1].subject)
            except errors.DeadlockDetected:
                continue
            except psycopg.OperationalError as err:
                raise lost(err) from err
        return Conflict("version", commit.writes[-1].subject if commit.writes else None)

    async def write(self, commits: Sequence[Commit], *, sure: bool) -> Sequence[Verdict]:
        """One transaction. Not `sure`: evidence is taken to be of subjects that are there."""
        rows = Rows(commits)
        params, present = rows.params(self.now() + self.ahead), rows.present
        statements: list[Statement] = []
        if rows.locks:
            statements.append((composed("locks", frozenset()), {"locks": rows.locking()}))
        if unborn := rows.subjects if sure else rows.unborn:
            statements.append((composed("ensure", frozenset()), {"subjects": text(unborn)}))
        if present - {"delivered"}:
            statements.append((composed("heads", present), params))
        statements.append((composed("commit", present), params))
        verdicts = {verdict.c: verdict for verdict in VERDICTS.decode(await self.trip(*statements))}
        return [verdicts.get(c, Verdict(c, "", None, 0, "", "", 0)) for c in range(len(commits))]

    # -- Rails and Outbox ---------------------------------------------------------------------
    async def assignment(self, rail: str, known: int) -> Assignment:
        return await self.read(ASSIGNED, (query("assignment"), {"rail": rail, "known": known}))

    async def begin(self, sink: str, *, whole: bool) -> None:
        await self.read(BEGUN, alone("sinks"), (query("begin"), {"sink": sink, "whole": whole}))

    async def undelivered(self, sink: str, limit: int) -> Sequence[Event]:
        return await self.read(EVENTS, (query("undelivered", min(limit, PAGE)), {"sink": sink}))

    # -- Reading ------------------------------------------------------------------------------
    async def find(self, tenant: str, kind: str, value: str) -> Sequence[SubjectId]:
        return await self.read(FOUND, (query("find"), {"tenant": tenant, "kind": kind, "value": value}))

    async def page(self, tenant: str, kind: str, movers: Container[Mover], before: int, limit: int) -> Sequence[Listed]:
        wanted = [mover.value for mover in Mover if mover in movers]
        params = {"tenant": tenant, "kind": kind, "movers": wanted, "before": before}
        return await self.read(LISTED, (query("page", min(limit, PAGE)), params))

    async def told(self, subject: SubjectId, after: int, limit: int) -> Sequence[Event]:
        return await self.read(EVENTS, (query("told", min(limit, PAGE)), {"after": after, **asdict(subject)}))

    async def events(self, tenant: str, after: int, limit: int) -> Sequence[tuple[int, Event]]:
        page = query("events", min(limit, PAGE)), {"tenant": tenant, "after": after}
        return await self.read(NUMBERED, alone("numbers"), (query("number"), {}), page)

    async def cursors(self) -> Mapping[str, Cursor]:
        return await self.read(CURSORS, (query("cursors"), {}))

    async def sums(self, tenant: str, accounts: Collection[str]) -> Sums:
        rows = await self.read(SUMS, (query("sums"), {"tenant": tenant, "accounts": list(accounts)}))
        return {(account, asset): minor for account, asset, minor in rows}

    # -- what a doctor asks -------------------------------------------------------------------
    async def resting(self, after: int, limit: int) -> tuple[int, Sequence[Rest]]:
        params = {"after": after, "now": self.now() + self.ahead}
        return await self.read(RESTING, (query("resting", min(limit, PAGE)), params))

    async def faults(self) -> Sequence[tuple[str, str, str]]:
        async with self.pool.connection() as connection:
            await check(connection)
        return await self.read(FAULTS, (query("faults"), {}))


def alone(name: str) -> Statement:
    return composed("locks", frozenset()), {"locks": text([{"name": name, "alone": True}])}


def unanswered(err: psycopg.Error) -> Unusable:
    if isinstance(err, errors.DiskFull):
        return Unusable(f"PostgreSQL has no room on its disk: {err}", "Free some space on it.")
    return Unusable(f"PostgreSQL does not answer: {err}", "Start it again; what was committed is still there.")


def lost(err: psycopg.OperationalError) -> CommitLost | Unusable:
    """Of a full disk it is certain that nothing was written."""
    return unanswered(err) if isinstance(err, errors.DiskFull) else CommitLost(str(err))
