"""What only a real PostgreSQL can show: lost answers, kills, roles, deadlocks, and what a doctor finds."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Sequence
from pathlib import Path
from random import Random

import psycopg
import pytest
from psycopg import errors
from tests.harness import postgres

from bursar.core.errors import CommitLost, Explained, Unusable
from bursar.core.facts import Cursor, Fact, Place, Watch
from bursar.core.ledger import Line, Posting, transfers
from bursar.core.money import Money
from bursar.core.ports import Advance, Commit, Conflict, Controller, Delivered, Event, Seen, Write
from bursar.core.steps import Step, Wait, at, at_available, at_position
from bursar.core.subject import STORE, Decision, Mover, Name, Spec, Status, Subject, SubjectId
from bursar.engine.intake import command
from bursar.engine.reconcile import Engine
from bursar.store import embedded
from bursar.store.doctor import examine, replay_verify
from bursar.store.postgres import PostgresStore, lost, migrate
from bursar.store.postgres.batches import Batches

KILLS = int(os.environ.get("BURSAR_KILLS", "20"))
NOW = 1_000_000


def status(s: Subject) -> Status:
    """Counts what was decided, and holds so much money."""
    n = len(s.decisions("tick"))
    postings = (Posting("p", (Line("equity", "BTC", -n), Line("wallet", "BTC", n))),) if n else ()
    return Status(f"n{n}", Mover.RAIL, postings=postings, names=(Name("nth", str(n), False),))


def wait(s: Subject, status: Status, seen: Seen) -> Step:
    return Wait()


CONTROLLERS = {"counter": Controller("counter", status, wait, lambda s, record: None)}


def ticked(before: Subject, n: int) -> Write:
    after = before.plus(Decision("tick", str(n), "me", "", NOW))
    new = status(after)
    entry = transfers(before.status.postings if before.status else (), new.postings)
    event = Event(before.id, before.version + 1, "x.v1", new.state, new.mover, new.flags, None, (), NOW)
    return Write(before.id, after.records[-1:], before.version, new, entry, event, ())


def subjects(n: int, tenant: str = "t") -> list[SubjectId]:
    return [SubjectId(tenant, "counter", f"s{k}") for k in range(n)]


# -- a kill ------------------------------------------------------------------------------------
class Writer:
    """Writes one after another to a subject of its own, and remembers what was acknowledged."""

    def __init__(self, store: PostgresStore, subject: SubjectId) -> None:
        self.store, self.subject, self.n, self.over = store, subject, 0, False
        self.acknowledged: list[int] = []
        self.lost = 0

    async def run(self) -> None:
        while not self.over:
            try:
                loaded, _ = await self.store.load(self.subject)
                self.n += 1
                answer = await self.store.commit(Commit((ticked(loaded, self.n),)))
                assert isinstance(answer, int), answer
                self.acknowledged.append(self.n)
            except CommitLost:
                self.lost += 1
            except Explained:
                await asyncio.sleep(0.02)


async def killed(rounds: int, folder: Path) -> int:
    """Rounds of SIGKILL under load; how many COMMITs were not heard of."""
    dice, server = Random(0), embedded.Embedded(folder / "db", settings={"shared_buffers": "64MB"})
    server.start()
    try:
        migrate(server.dsn("bursar_migrate"))
        async with await PostgresStore.open(server.dsn("bursar_engine"), lambda: NOW) as store:
            writers = [Writer(store, subject) for subject in subjects(24)]
            tasks = [asyncio.create_task(writer.run()) for writer in writers]
            for _ in range(rounds):
                seen = [len(writer.acknowledged) for writer in writers]
                await asyncio.sleep(dice.uniform(0.05, 0.4))
                assert server.pid is not None
                os.kill(server.pid, signal.SIGKILL)
                await asyncio.to_thread(server.start)
                for _ in range(1500):
                    if any(len(w.acknowledged) > n for w, n in zip(writers, seen, strict=True)):
                        break
                    await asyncio.sleep(0.02)
                else:
                    raise AssertionError("nothing was written for 30 s after a kill")
            for writer in writers:
                writer.over = True
            await asyncio.gather(*tasks)
            for writer in writers:
                loaded, _ = await store.load(writer.subject)
                written = [int(decision.about) for decision in loaded.decisions("tick")]
                assert written == sorted(set(written)) and set(written) >= set(writer.acknowledged)
                assert len(written) <= len(writer.acknowledged) + writer.lost
            assert await examine(store, CONTROLLERS) == await replay_verify(store, CONTROLLERS) == []
            return sum(writer.lost for writer in writers)
    finally:
        server.stop()


def test_sigkill_of_postgresql_loses_no_acknowledged_write(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    assert asyncio.run(killed(2, tmp_path)) >= 0


@pytest.mark.real
def test_sigkill_of_postgresql_again_and_again(tmp_path: Path) -> None:
    tmp_path.chmod(0o711)
    assert asyncio.run(killed(KILLS, tmp_path)) > 0, "no kill ever hit a commit"


def test_a_lost_answer_is_no_answer_and_the_next_call_connects_again() -> None:
    async def scene() -> None:
        database = postgres.server().migrated()
        async with await postgres.store(database, lambda: NOW, 2) as store:
            (subject,) = subjects(1)
            lock = psycopg.connect(postgres.server().dsn("bursar_engine", database), options="-c search_path=bursar")
            await store.commit(Commit((ticked(Subject(subject), 1),)))
            lock.execute("select from heads for update")
            loaded, _ = await store.load(subject)
            pending = asyncio.create_task(store.commit(Commit((ticked(loaded, 2),))))
            await asyncio.sleep(0.2)
            with postgres.server().admin(database) as admin:
                admin.execute("select pg_terminate_backend(pid) from pg_stat_activity where wait_event_type = 'Lock'")
            with pytest.raises(CommitLost):
                await pending
            lock.close()
            assert await store.commit(Commit((ticked(loaded, 2),))) == 2

    asyncio.run(scene())


def test_a_database_that_is_not_there_is_explained(tmp_path: Path) -> None:
    async def scene(dsn: str) -> None:
        await PostgresStore.open(dsn, lambda: NOW)

    with pytest.raises(Explained, match="lacks|no tables"):
        asyncio.run(scene(postgres.server().dsn("bursar_engine", postgres.server().empty())))


# -- many at once ------------------------------------------------------------------------------
async def stress(stores: Sequence[PostgresStore], many: list[SubjectId], dice: Random) -> None:
    """Passes, blocks and reports that touch the same rows in any order."""

    async def pass_(store: PostgresStore) -> None:
        loaded, _ = await store.load(dice.choice(many))
        write = ticked(loaded, loaded.version)
        watches = [Watch("chain", write.subject.id, dice.randint(0, 3)), Watch("lake", "k", dice.randint(0, 3))]
        watches += [Watch(STORE, str(dice.choice(many)))]
        assert write.status is not None
        new = Status(write.status.state, Mover.RAIL, write.status.flags, (), write.status.postings, tuple(watches))
        until = (
            at_position(dice.choice(("chain", "lake")), 99),
            at_available("t", "wallet", "BTC", 10**6),
            at(NOW * 9),
        )
        write = Write(write.subject, write.records, write.expect, new, write.transfers, write.event, until)
        await store.commit(Commit((write,)))

    async def block(store: PostgresStore, rail: str) -> None:
        cursor = (await store.assignment(rail, 0)).cursor
        n = cursor.position + 1
        found = Fact(rail, f"m{n}", f"m{n}", cursor.branch, NOW, place=Place(n, f"b{n}", NOW), money=Money("BTC", 1))
        back = n - 2 if dice.random() < 0.3 else None
        to = Cursor(n, (f"b{n}",), cursor.branch + (back is not None), NOW + n, cursor.watched + 1)
        writes = tuple(Write(subject, (found,)) for subject in dice.sample(many, 8))
        await store.commit(Commit(writes, Advance(rail, cursor, to, back)))

    async def tell(store: PostgresStore) -> None:
        for event in await store.undelivered("hook", 5):
            await store.commit(Commit(delivered=Delivered("hook", event.subject, event.version)))
        await store.events("t", 0, 10)

    async def loop(store: PostgresStore) -> None:
        for _ in range(12):
            await asyncio.gather(
                *(pass_(store) for _ in range(10)), block(store, "chain"), block(store, "lake"), tell(store)
            )

    await asyncio.gather(*(loop(store) for store in stores))


def test_what_many_processes_write_at_once_never_deadlocks_and_adds_up() -> None:
    async def scene() -> None:
        database, dice = postgres.server().migrated(), Random(1)
        stores = [await postgres.store(database, lambda: NOW) for _ in range(3)]
        await asyncio.gather(*(store.begin("hook", whole=True) for store in stores))
        await stress(stores, subjects(30), dice)
        assert await stores[0].faults() == []
        told = list(await stores[0].events("t", 0, 1000))
        while page := await stores[1].events("t", told[-1][0], 1000):
            told.extend(page)
        assert len({event.id for _, event in told}) == len(told) > 30
        for store in stores:
            await store.close()
        with postgres.server().admin(database) as admin:
            rows = admin.execute("select deadlocks from pg_stat_database where datname = %s", [database]).fetchall()
            assert rows == [(0,)]

    asyncio.run(scene())


def test_calls_of_one_moment_are_one_and_keep_their_order_within_a_name() -> None:
    seen: list[list[int]] = []

    async def run(items: Sequence[int]) -> list[int | BaseException]:
        seen.append(list(items))
        await asyncio.sleep(0)
        if 13 in items:
            raise LookupError("all of them")
        return [KeyError(item) if item == 7 else -item for item in items]

    async def scene() -> None:
        batches: Batches[int, int] = Batches(run, lambda item: [item % 50], 1)
        answers = await asyncio.gather(*(batches(n) for n in range(60, 160)), return_exceptions=True)
        assert answers == [-n for n in range(60, 160)]
        assert [len(batch) for batch in seen] == [50, 50] and seen[1][0] == 110
        answers = await asyncio.gather(*(batches(n) for n in (6, 7)), return_exceptions=True)
        assert answers[0] == -6 and isinstance(answers[1], KeyError)
        with pytest.raises(LookupError):
            await batches(13)
        given_up = asyncio.create_task(batches(1))
        other = asyncio.create_task(batches(2))
        await asyncio.sleep(0)
        given_up.cancel()
        assert await other == -2

    asyncio.run(scene())


def test_nobody_waits_for_a_batch_that_nobody_begins() -> None:
    async def run(items: Sequence[int]) -> list[int | BaseException]:
        await asyncio.sleep(0)
        return list(items)

    async def scene() -> None:
        for width in (1, 2):
            batches: Batches[int, int] = Batches(run, lambda item: [item % 5], width)

            async def ask(batches: Batches[int, int] = batches) -> None:
                for n in range(200):
                    assert await batches(n) == n

            async with asyncio.timeout(20):
                await ask()

    asyncio.run(scene())


def test_a_hundred_passes_cost_few_trips() -> None:
    async def scene() -> None:
        trips = 0
        async with await postgres.store(postgres.server().migrated(), lambda: NOW) as store:
            whole = store.trip

            async def counted(*statements: tuple[bytes, object]) -> object:
                nonlocal trips
                trips += 1
                return await whole(*statements)  # type: ignore[arg-type]

            store.trip = counted  # type: ignore[method-assign]
            many = subjects(100)
            loads = await asyncio.gather(*(store.load(subject) for subject in many))
            writes = [ticked(loaded, 1) for loaded, _ in loads]
            answers = await asyncio.gather(*(store.commit(Commit((write,))) for write in writes))
            assert answers == [1] * 100 and trips == 2

    asyncio.run(scene())


def test_of_a_full_disk_it_is_certain_that_nothing_was_written() -> None:
    assert isinstance(lost(errors.DiskFull("no space left on device")), Unusable)
    assert isinstance(lost(errors.AdminShutdown("terminating connection")), CommitLost)


# -- roles -------------------------------------------------------------------------------------
def test_the_api_commands_one_tenant_and_no_other() -> None:
    async def scene() -> None:
        database = postgres.server().migrated()
        async with await postgres.store(database, lambda: NOW) as engine:
            await engine.commit(Commit((ticked(Subject(SubjectId("u", "counter", "s0")), 1),)))
            pool = await PostgresStore.open(postgres.server().dsn("bursar_api", database), lambda: NOW)
            async with pool:
                api = pool.of("t")
                (mine,), (theirs,) = subjects(1), subjects(1, "u")
                spec = Spec(1, b"{}", "me")
                new = Status("new", Mover.BURSAR, names=(Name("ref", "1", True),))
                commands = Engine(api, {}, {"counter": Controller("counter", lambda s: new, wait)}, lambda: NOW)
                assert await command(commands, mine, spec) is None
                assert (await engine.load(mine))[0].records == (spec,)
                assert await api.load(theirs) == (Subject(theirs), {})
                assert [listed.subject for listed in await api.page("t", "counter", list(Mover), 99, 9)] == [mine]
                for tenant in ("t", "u"):
                    told = [event.subject for _, event in await api.events(tenant, 0, 9)]
                    assert told == ([mine] if tenant == "t" else [])
                assert await api.sums("u", ["wallet", "equity"]) == {} and await api.find("t", "ref", "1") == [mine]
                for write in (Write(theirs, (spec,)), ticked((await api.load(mine))[0], 1)):
                    with pytest.raises(errors.InsufficientPrivilege):
                        await api.commit(Commit((write,)))
                with pytest.raises(errors.InsufficientPrivilege):
                    await api.commit(Commit((Write(mine, (Fact("chain", "m", "m", 0, 1),)),)))
                with pytest.raises(errors.InsufficientPrivilege):
                    await api.commit(Commit(advance=Advance("chain", Cursor(), Cursor(1))))
                assert (await engine.load(mine))[0].records == (spec,)

    asyncio.run(scene())


# -- the doctor --------------------------------------------------------------------------------
HARM = {
    "sum": "update sums set minor = minor + 1",
    "entry": "update transfers set minor = minor + 1 where account = 'wallet'",
    "status": "update statuses set body = replace(body::text, 'n2', 'n9')::json",
    "event": "update events set body = replace(body::text, 'n2', 'n9')::json",
    "cursor": "update cursors set watched = 99",
    "watch": "update watches set version = 99",
    "coverage": "update watches set scanned = true",
    "wake": "update wakes set at = 0",
}


@pytest.mark.parametrize("what", HARM)
def test_a_doctor_finds(what: str) -> None:
    async def scene() -> None:
        database = postgres.server().migrated()
        async with await postgres.store(database, lambda: NOW) as store:
            (subject,) = subjects(1)
            for n in (1, 2):
                loaded, _ = await store.load(subject)
                await store.commit(Commit((ticked(loaded, n),)))
            sleeper = Write(SubjectId("t", "sleeper", "z"), (Spec(1, b"", "me"),), 0, Status("x", Mover.NOBODY))
            assert sleeper.status is not None
            asleep = Status("x", Mover.NOBODY, watches=(Watch("chain", "k"),))
            sleeps = Write(sleeper.subject, sleeper.records, 0, asleep, until=(at_position("chain", 5),))
            await store.commit(Commit((sleeps,)))
            moved = Cursor(1, ("b1",), 0, 10, (await store.assignment("chain", 0)).version)
            await store.commit(Commit(advance=Advance("chain", Cursor(), moved)))
            controllers = {**CONTROLLERS, "sleeper": Controller("sleeper", lambda s: asleep, wait)}
            event = await replay_verify(store, controllers)
            assert await examine(store, controllers) == [] and [f.place for f in event] == ["t/sleeper/z"]
            with postgres.server().admin(database) as admin:
                admin.execute("set session_replication_role = replica")
                admin.execute(f"set search_path = bursar; {HARM[what]}".encode())
            found = [*await examine(store, controllers), *await replay_verify(store, controllers)]
            assert what in {finding.what for finding in found if finding not in event}

    asyncio.run(scene())


def test_a_stale_commit_is_a_conflict_and_not_an_error() -> None:
    async def scene() -> None:
        async with await postgres.store(postgres.server().migrated(), lambda: NOW) as store:
            (subject,) = subjects(1)
            write = ticked(Subject(subject), 1)
            answers = await asyncio.gather(*(store.commit(Commit((write,))) for _ in range(5)))
            assert sorted(map(str, answers)) == sorted(["1", *[str(Conflict("version", subject))] * 4])

    asyncio.run(scene())
