"""The real engine on PostgreSQL: several workers under asyncio pay legs through hostile banks, and the auditor asks
the banks and the doctor. The version guards; the lease only spares double work."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from random import Random

import pytest
from msgspec import json
from msgspec.structs import replace
from tests.harness import postgres

from bursar import balances
from bursar.core.errors import BursarError, CommitLost, RailDown, Unproven
from bursar.core.ledger import Line, Overdrawn
from bursar.core.money import Instant, Money
from bursar.core.outcomes import Attempt, Outcome
from bursar.core.ports import Commit, Conflict
from bursar.core.subject import Spec, SubjectId
from bursar.engine.intake import command
from bursar.engine.observe import Observer
from bursar.engine.reconcile import Engine, work
from bursar.payouts import leg
from bursar.rails.sim.bank import Bank, BankRail
from bursar.rails.sim.world import SECOND, SKEW, Trouble
from bursar.store.doctor import examine, replay_verify

CONTROLLERS = {c.kind: c for c in (leg.controller, balances.controller)}
RAILS = ("lnd", "lnbits", "utxo", "exchange")


class Shaken(postgres.OnOneClock):
    """Whose COMMIT is sometimes not heard of."""

    dice: Random
    losing = 0.0

    async def commit(self, commit: Commit) -> int | Conflict | Overdrawn:
        answer = await super().commit(commit)
        if self.dice.random() < self.losing:
            raise CommitLost
        return answer


class WithoutLease(Shaken):
    lease = 0


class WithoutVersion(WithoutLease):
    """Events are given the version too: their key alone would refuse most of what is stale."""

    async def commit(self, commit: Commit) -> int | Conflict | Overdrawn:
        writes = []
        for write in commit.writes:
            version = (await self.load(write.subject))[0].version
            if write.expect is not None:
                event = write.event and replace(write.event, version=version + 1)
                write = replace(write, expect=version, event=event)
            writes.append(write)
        return await super().commit(replace(commit, writes=tuple(writes)))


class Lossy(BankRail):
    """Half of the questions or of the answers are lost."""

    async def submit(self, attempt: Attempt) -> Outcome:
        if self.trouble.lost_question and self.dice.random() < 0.3:
            raise RailDown("the question is lost")
        outcome = await super().submit(attempt)
        await self.pause()
        if self.trouble.lost_answer and self.dice.random() < 0.6:
            raise RailDown("the answer is lost")
        return outcome


class World:
    def __init__(self, seed: int, store: Shaken) -> None:
        self.dice, self.store, self.time, self.log = Random(seed), store, 1_000 * SECOND, list[str]()
        self.trouble = Trouble(*(self.dice.choice((0.0, 0.1, 0.3)) for _ in Trouble.__struct_fields__))
        self.trouble.renege, self.trouble.lost_question, self.trouble.lost_answer = 0.0, 1.0, 1.0
        self.banks = {name: Bank(name, self.dice, self.clock(), self.trouble, self.log) for name in RAILS}
        self.legs = {f"p{n}": RAILS[n % len(RAILS)] for n in range(12)}
        self.over = False

    def now(self) -> Instant:
        return self.time

    def clock(self) -> postgres.Clock:
        skew = self.dice.randint(-SKEW // 2, SKEW // 2)
        return lambda: self.time + skew

    async def pause(self) -> None:
        self.time += int(self.dice.random() * SECOND)
        await asyncio.sleep(self.dice.choice((0, 0.01, 0.03)))

    async def forever(self, turn: postgres.Turn) -> None:
        while not self.over:
            try:
                await turn()
            except Unproven:
                raise
            except BursarError:
                continue
            await self.pause()

    def process(self) -> list[postgres.Turn]:
        """A worker and a follower of every bank."""
        now = self.clock()
        rails = {name: Lossy(bank, self.dice, now, self.pause, self.trouble) for name, bank in self.banks.items()}
        engine = Engine(self.store, rails, CONTROLLERS, now)
        observers = [Observer(self.store, name, rail) for name, rail in rails.items()]
        return [lambda: work(engine, 3), *(observer.turn for observer in observers)]

    async def declare(self) -> None:
        engine = Engine(self.store, {}, CONTROLLERS, self.now)
        for name in RAILS:
            lines = Line(leg.wallet(name), "BTC", 10_000), Line("equity", "BTC", -10_000)
            spec = Spec(1, json.encode(balances.Balance(lines)), "me")
            await command(engine, SubjectId("t", "balance", name), spec)
        for name, rail in self.legs.items():
            spec = Spec(1, json.encode(leg.Leg(rail, name, Money("BTC", 100), 90 * SECOND)), "me")
            await command(engine, SubjectId("t", "payout", name), spec)

    async def run(self) -> list[str]:
        """What is wrong at the end."""
        await self.declare()
        self.store.losing = self.dice.choice((0.0, 0.1))
        tasks = [asyncio.create_task(self.forever(turn)) for _ in range(4) for turn in self.process()]
        for n in range(40):
            await asyncio.sleep(0.05)
            if n == 20:
                self.store.losing = 0.0
                for name in Trouble.__struct_fields__:
                    setattr(self.trouble, name, 0.0)
            if n > 24 and await self.quiet():
                break
        self.over = True
        wrong = [repr(err) for err in await asyncio.gather(*tasks, return_exceptions=True) if err is not None]
        return wrong + await self.audit()

    async def quiet(self) -> bool:
        loads = await asyncio.gather(*(self.store.load(SubjectId("t", "payout", name)) for name in self.legs))
        return all(s.status and s.status.state in ("settled", "awaiting_operator") for s, _ in loads)

    async def audit(self) -> list[str]:
        wrong: list[str] = []
        for name, rail in self.legs.items():
            subject, _ = await self.store.load(SubjectId("t", "payout", name))
            state, times = subject.status.state if subject.status else "", self.banks[rail].effects(name)
            if times > 1 or state == "settled" and times != 1:
                wrong.append(f"{name} on {rail} is {state} and was paid {times} times")
        self.time += 3600 * SECOND
        found = [*await examine(self.store, CONTROLLERS), *await replay_verify(self.store, CONTROLLERS)]
        return wrong + [f"{finding.what} {finding.place}: {finding.said}" for finding in found]


async def run(kind: type[Shaken], seeds: Sequence[int]) -> list[list[str]]:
    database, out = postgres.server().migrated(), []
    for seed in seeds:
        postgres.server().wipe(database)
        async with await kind.open(postgres.server().dsn("bursar_engine", database), lambda: 0, 4) as store:
            store.dice = Random(seed)
            world = World(seed, store)
            store.now = world.now
            out.append(await world.run())
    return out


@pytest.mark.parametrize("kind", [Shaken, WithoutLease])
def test_several_workers_pay_each_leg_once_with_or_without_the_lease(kind: type[Shaken]) -> None:
    assert asyncio.run(run(kind, [1])) == [[]]


def test_without_the_version_they_do_not() -> None:
    assert any(any(asyncio.run(run(WithoutVersion, [seed]))) for seed in range(2, 10))


@pytest.mark.real
def test_the_version_guards_and_the_lease_only_spares_work() -> None:
    seeds = range(10, 20)
    assert asyncio.run(run(Shaken, seeds)) == asyncio.run(run(WithoutLease, seeds)) == [[]] * 10
    assert sum(map(bool, asyncio.run(run(WithoutVersion, seeds)))) >= 2
