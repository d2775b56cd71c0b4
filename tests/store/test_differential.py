"""The memory store is the specification: one random course of calls, the same answers and the same reads."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random
from typing import Any

import pytest
from tests.harness import postgres

from bursar.core.facts import LIVE, Cursor, Fact, Place, Watch
from bursar.core.ledger import Line, Posting, transfers
from bursar.core.money import Money
from bursar.core.outcomes import Answer, Attempt, Done, Prepared, Terms, Verb
from bursar.core.ports import Advance, Assignment, Commit, Delivered, Event, Store, Write
from bursar.core.steps import Due
from bursar.core.subject import STORE, Decision, Mover, Name, Record, Report, Spec, Status, Subject, SubjectId, key
from bursar.store.memory import MemoryStore

TENANTS, RAILS, KEYS, ASSETS = ("t", "u"), ("chain", "lake"), ("k1", "k2", "k3"), ("BTC", "ADA")
SUBJECTS = [SubjectId(t, kind, n) for t in TENANTS for kind in ("invoice", "payout") for n in ("1", "2/3", "é")]
ACCOUNTS = ("wallet:a", "wallet:a.reserved", "payee", "payee.reserved")


class Course:
    """A random course; what it asks for depends on the memory store alone."""

    def __init__(self, seed: int, memory: MemoryStore, other: Store) -> None:
        self.d, self.memory, self.other = Random(seed), memory, other
        self.said: list[str] = []
        self.versions = {rail: [0] for rail in RAILS}

    async def both(self, name: str, *args: Any, order: bool = True, **named: Any) -> Any:
        ours = await getattr(self.memory, name)(*args, **named)
        theirs = await getattr(self.other, name)(*args, **named)
        self.said.append(f"{name}{args}{named} -> {ours}")
        same = ours == theirs if order else set(ours) == set(theirs)
        assert same, "\n".join([*self.said[-12:], f"and {theirs}"])
        return ours

    def some(self, what: Sequence[Any], most: int = 2) -> tuple[Any, ...]:
        return tuple(dict.fromkeys(self.d.choice(what) for _ in range(self.d.randint(0, most))))

    def fact(self, rail: str | None = None) -> Fact:
        d = self.d
        branch = self.memory.rail(rail).cursor.branch if rail else d.randint(0, 1)
        position = d.randint(1, 12)
        place = Place(position, f"b{position}", d.randint(1, 3)) if d.random() < 0.7 else None
        money = Money("BTC", d.choice((5, 2**200))) if d.random() < 0.7 else None
        movement = d.choice(("m1", "m2", "odd \0 name", "L" * 2500))
        return Fact(
            rail or d.choice(RAILS), movement, "tx", branch, d.randint(1, 4), 0, ("k1",), place=place, money=money
        )

    def evidence(self) -> Record:
        d = self.d
        match d.randrange(4):
            case 0:
                said = Answer("pay/1", d.randint(0, 1), Verb.SUBMIT, d.randint(1, 2), Done("ref"))
                return said
            case 1:
                return Report("t/invoice/1", d.randint(1, 2), "open", Mover.RAIL, frozenset({"b", "a"}), 3)
        return self.fact()

    def record(self) -> Record:
        d = self.d
        match d.randrange(5):
            case 0:
                return Spec(d.randint(1, 2), d.choice((b"\0\xff", b"{}")), "me", d.randint(1, 9))
            case 1:
                command = d.choice(("", "c1"))
                return Decision(
                    "held", d.choice(("x", "y")), "me", d.choice(("why", "no")), d.randint(1, 9), command=command
                )
            case 2:
                prepared = Prepared(d.choice(("bytes", "other")), Terms())
                return Attempt("pay/1", "pay", "bank", "key", prepared, 9, 1)
        return self.evidence()

    def status(self) -> Status:
        d = self.d
        postings = []
        for n in range(d.randint(0, 2)):
            a, b, minor = d.choice(ACCOUNTS), d.choice(ACCOUNTS), d.choice((1, 7, 10**30))
            asset = d.choice(ASSETS)
            if a != b:
                postings.append(Posting(f"p{n}", (Line(a, asset, -minor), Line(b, asset, minor))))
        watches = [Watch(d.choice(RAILS), d.choice(KEYS), d.choice((0, 3, LIVE))) for _ in range(d.randint(0, 3))]
        watches += [Watch(d.choice(RAILS))] * (d.random() < 0.3)
        watches += [Watch(STORE, str(d.choice(SUBJECTS)))] * (d.random() < 0.4)
        names = [Name("ref", d.choice(("1", "2")), d.random() < 0.3) for _ in range(d.randint(0, 2))]
        names = list({(n.kind, n.value): n for n in names}.values())
        flags, parts = (
            frozenset(self.some(("late", "odd", "stuck"))),
            tuple((x, "included") for x in self.some(("m1", "m2"))),
        )
        state = d.choice(("open", "settled"))
        return Status(
            state, d.choice(list(Mover)), flags, parts, tuple(postings), tuple(dict.fromkeys(watches)), tuple(names)
        )

    def until(self, subject: SubjectId) -> tuple[Due, ...]:
        d, now = self.d, self.memory.now()
        clocks = [("now", now + d.randint(-5, 50))]
        clocks += [(f"{what}/{rail}", d.randint(0, 20)) for what in ("position", "watermark") for rail in RAILS]
        clocks += [(f"available/{subject.tenant}/{a}/BTC", d.randint(-3, 12)) for a in ("wallet:a", "payee")]
        return tuple(Due(*clock) for clock in self.some(clocks, 4))

    def written(self, loaded: Subject) -> Write:
        d, status = self.d, self.status()
        version = loaded.version if d.random() < 0.85 else max(0, loaded.version - 1)
        entry = transfers(loaded.status.postings if loaded.status else (), status.postings)
        event = None
        if d.random() < 0.6:
            event = Event(loaded.id, version + 1, "x.v1", status.state, status.mover, status.flags, None, ("+a",), 5)
        until = self.until(loaded.id) if d.random() < 0.7 else None
        records = tuple({key(record): record for record in (self.record(), self.record())}.values())[: d.randint(0, 2)]
        return Write(loaded.id, records, version, status, entry, event, until)

    async def commit(self) -> None:
        d = self.d
        subject = d.choice(SUBJECTS)
        loaded, _ = await self.both("load", subject)
        others = [s for s in self.some(SUBJECTS, 1) if s != subject]
        child = tuple(Write(s, (Spec(1, b"child", "me"), self.evidence())) for s in others)
        await self.both("commit", Commit((*child, self.written(loaded))))

    async def found(self) -> None:
        subjects = self.some(SUBJECTS, 3)
        live = tuple(Watch(self.d.choice(RAILS), key, LIVE) for key in self.some(KEYS))
        writes = tuple(
            Write(s, tuple(self.evidence() for _ in range(self.d.randint(1, 2))), live=live) for s in subjects
        )
        await self.both("commit", Commit(writes))

    async def follow(self) -> None:
        d, rail = self.d, self.d.choice(RAILS)
        assigned = await self.assigned(rail, d.choice(self.versions[rail]))
        cursor: Cursor = assigned.cursor
        expect = cursor if d.random() < 0.9 else Cursor(99)
        writes = tuple(Write(s, (self.fact(rail),)) for s in self.some(SUBJECTS))
        if d.random() < 0.4:
            watches = tuple(Watch(rail, key, since) for key in self.some(KEYS, 3) for since in (0, 3))
            await self.both("commit", Commit(writes, Advance(rail, expect, cursor, scanned=watches)))
            return
        rollback = max(0, cursor.position - d.randint(0, 6)) if d.random() < 0.3 else None
        branch = cursor.branch + (rollback is not None)
        position = (cursor.position if rollback is None else rollback) + d.randint(0, 3)
        watermark = cursor.watermark + d.choice((0, 2))
        watched = assigned.version if watermark > cursor.watermark else cursor.watched
        to = Cursor(position, (*cursor.trail[-2:], f"b{position}"), branch, watermark, watched)
        await self.both("commit", Commit(writes, Advance(rail, expect, to, rollback)))

    async def assigned(self, rail: str, known: int) -> Assignment:
        """In what order one commit ends its watches is nobody's affair."""
        ours, theirs = [await store.assignment(rail, known) for store in (self.memory, self.other)]
        a, b = [{(r.subject, r.watch, r.scanned, r.ended) for r in x.changed} for x in (ours, theirs)]
        assert (ours.cursor, ours.version, a) == (theirs.cursor, theirs.version, b), self.said[-12:]
        numbers = [r.version for r in theirs.changed]
        assert numbers == sorted(set(numbers)) and (not numbers or known < numbers[0] and numbers[-1] <= ours.version)
        self.versions[rail].append(ours.version)
        return ours

    async def tell(self) -> None:
        sink = self.d.choice(("hook", "queue"))
        if self.d.random() < 0.3:
            await self.both("begin", sink, whole=self.d.random() < 0.5)
        events = await self.both("undelivered", sink, 100, order=False)
        for event in events[: self.d.randint(0, 3)]:
            await self.both("commit", Commit(delivered=Delivered(sink, event.subject, event.version)))

    async def look(self) -> None:
        d = self.d
        tenant, movers = d.choice(TENANTS), self.some(list(Mover), 5)
        pages = [await store.page(tenant, "invoice", movers, 10**9, 100) for store in (self.memory, self.other)]
        assert [(x.subject, x.version, x.status) for x in pages[0]] == [
            (x.subject, x.version, x.status) for x in pages[1]
        ]
        await self.both("find", tenant, "ref", d.choice(("1", "2")))
        await self.both("sums", tenant, ACCOUNTS)

    async def claim(self) -> None:
        await self.both("claim", 1000, order=False)

    async def step(self) -> None:
        what = self.d.choices(
            (self.commit, self.found, self.follow, self.tell, self.look, self.claim), (8, 3, 5, 2, 1, 2)
        )[0]
        await what()

    async def all(self) -> None:
        for subject in SUBJECTS:
            await self.both("load", subject)
        for rail in RAILS:
            await self.assigned(rail, 0)
        read = {name: cursor for name, cursor in (await self.memory.cursors()).items() if cursor != Cursor()}
        assert read == await self.other.cursors()
        for tenant in TENANTS:
            await self.both("sums", tenant, ACCOUNTS)
            ours, theirs = [await store.events(tenant, 0, 1000) for store in (self.memory, self.other)]
            assert [event for _, event in ours] == [event for _, event in theirs]
            numbers = [n for n, _ in theirs]
            assert numbers == sorted(set(numbers))
        for subject in SUBJECTS:
            await self.both("told", subject, self.d.randint(0, 3), 100)


async def run(seeds: range, steps: int) -> None:
    now = [1_000]
    database = postgres.server().migrated()
    async with await postgres.store(database, lambda: now[0], 1) as theirs:
        for seed in seeds:
            postgres.server().wipe(database)
            course = Course(seed, MemoryStore(lambda: now[0]), theirs)
            for _ in range(steps):
                now[0] += course.d.randint(0, 20)
                await course.step()
            await course.all()
            assert await theirs.faults() == []


def test_postgres_answers_as_memory_does() -> None:
    asyncio.run(run(range(6), 80))


@pytest.mark.real
def test_postgres_answers_as_memory_does_for_long() -> None:
    asyncio.run(run(range(1000, 1150), 120))
