"""Fifty payouts through a real pair of LNbits, while both of them and Bursar are frozen and killed in the middle.

    python3 tools/setup.py real
    .venv/bin/python -m examples.04_pay_once_on_lnbits

B pays, out of a wallet that is funded by A; the payees are on A. Bursar is a process of its own on PostgreSQL, and dies
by SIGKILL. In the end each payout is settled once, or it is with the operator, who is told why; the payees have what
was settled, and the ledger equals B's wallet to the millisatoshi. It takes some minutes, and no money.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from random import Random
from typing import NamedTuple

from msgspec import json
from tests.harness.lnbits import Invoice, LNbits, Pair, die_with_parent

import bursar
from bursar import balances
from bursar.core.ledger import RESERVED, Line
from bursar.core.money import Amount, text_of
from bursar.core.outcomes import Done, Verb
from bursar.core.subject import Mover, Spec, Status, Subject, SubjectId
from bursar.engine import clock
from bursar.engine.intake import command
from bursar.payouts import leg
from bursar.payouts.commands import ActOnPayout, CreatePayout, Purse
from bursar.rails.lightning.bolt11 import usual_fee
from bursar.rails.lightning.lnbits import Account, LnbitsExecutor
from bursar.server.config import Config, Database
from bursar.server.rails import Rail
from bursar.server.wiring import Bursar, wired
from bursar.store.embedded import Embedded

ROOT = Path(__file__).resolve().parent.parent
RAIL, TENANT, SCALE = "lightning:b", "main", 11
TOGETHER = 2  # payouts that are asked for at once; at every other time something breaks
OVER = 200.0  # seconds after which whoever is still at work is reported


def rail(url: str, key: str) -> Rail:
    account = Account(url, key)
    purse = Purse(RAIL, "BTC", SCALE, 1, account.check, usual_fee)
    return Rail(RAIL, executor=LnbitsExecutor(account, clock.now), purse=purse, scales={"BTC": SCALE})


async def worker(dsn: str, migrate: str, url: str, key: str) -> None:
    """Bursar: its loops, until it is killed."""
    async with bursar.open(Config(database=Database(dsn, migrate)), {RAIL: rail(url, key)}):
        print("at work", flush=True)
        await asyncio.Event().wait()


class Report(NamedTuple):
    legs: int
    settled: int
    in_doubt: int  # of these: settled although the answer to the payment never came, or said nothing
    with_operator: int
    closed: int  # by the operator, who found that LNbits knows nothing of them; asked for again
    kills: int
    freezes: int
    ledger_msat: int
    wallet_msat: int
    seconds: float


class Story:
    def __init__(self, pair: Pair, b: Bursar, command: list[str], seed: int) -> None:
        self.pair, self.b, self.command, self.dice = pair, b, command, Random(seed)
        self.invoices: dict[str, Invoice] = {}
        self.kills = self.freezes = 0

    def start_bursar(self) -> None:
        self.bursar = subprocess.Popen(self.command, cwd=ROOT, stdout=subprocess.PIPE, preexec_fn=die_with_parent)

    async def at_work(self) -> None:
        assert self.bursar.stdout is not None
        if not await asyncio.to_thread(self.bursar.stdout.readline):
            raise RuntimeError("Bursar did not start")

    async def ask(self, name: str, sats: int) -> None:
        """One payout, to a fresh invoice of the payee."""
        invoice = await asyncio.to_thread(self.pair.a.invoice, self.pair.payee, sats)
        amount = Amount("BTC", text_of(sats * 1_000, SCALE))
        request = CreatePayout(RAIL, invoice.bolt11, amount, external_id=name, patience_seconds=60)
        view = await self.b.payouts.create(TENANT, request)
        self.invoices[view.id] = invoice

    # -- what breaks ------------------------------------------------------------------------
    async def freeze(self, instance: LNbits) -> None:
        self.freezes += 1
        instance.freeze()
        await asyncio.sleep(self.dice.uniform(0.2, 7))
        instance.thaw()

    async def kill(self, instance: LNbits) -> None:
        self.kills += 1
        instance.kill()
        await asyncio.sleep(self.dice.uniform(0, 1))
        instance.launch()
        await asyncio.to_thread(instance.wait)

    async def freeze_and_kill(self) -> None:
        """What A has been sent is lost."""
        self.freezes += 1
        self.pair.a.freeze()
        await asyncio.sleep(self.dice.uniform(0.2, 7))
        await self.kill(self.pair.a)

    async def kill_bursar(self) -> None:
        self.kills += 1
        self.end_bursar()
        self.start_bursar()
        await self.at_work()

    def end_bursar(self) -> None:
        self.bursar.kill()
        self.bursar.communicate()

    async def trouble(self, legs: int) -> None:
        a, b = self.pair.a, self.pair.paying
        breaks: list[tuple[str, Callable[[], Awaitable[None]]]] = [
            ("Bursar is killed", self.kill_bursar),
            ("A is frozen", lambda: self.freeze(a)),
            ("B is killed", lambda: self.kill(b)),
            ("A is killed", lambda: self.kill(a)),
            ("B is frozen", lambda: self.freeze(b)),
            ("Bursar is killed", self.kill_bursar),
            ("A is frozen, then killed", self.freeze_and_kill),
        ]
        for n in range(0, legs, TOGETHER):
            names = [f"bill-{k}" for k in range(n, min(n + TOGETHER, legs))]
            await asyncio.gather(*(self.ask(name, self.dice.randint(1, 5_000)) for name in names))
            await asyncio.sleep(self.dice.uniform(0, 0.6))
            turn, calm = divmod(n // TOGETHER, 2)
            if calm:
                continue
            says, breaks_now = breaks[turn % len(breaks)]
            print(f"{names[0]} and {names[-1]} are asked for; {says}", flush=True)
            await breaks_now()
            await self.until((Mover.NOBODY, Mover.OPERATOR, Mover.RAIL))  # what a dead process had claimed waits 20 s

    # -- what comes of it -------------------------------------------------------------------
    async def load(self, id: str) -> tuple[Subject, Status]:
        subject, _ = await self.b.store.load(SubjectId(TENANT, "payout", id))
        assert subject.status is not None
        return subject, subject.status

    async def until(self, movers: tuple[Mover, ...]) -> None:
        """Every payout waits for one of these."""
        deadline = time.monotonic() + OVER
        while left := [id for id in self.invoices if (await self.load(id))[1].mover not in movers]:
            if time.monotonic() > deadline:
                raise TimeoutError(f"after {OVER} s these are still at work: {left}")
            await asyncio.sleep(0.3)

    async def operate(self) -> int:
        """A person looks at what no proof decides. What LNbits does not know, and the payee has not got, is closed and
        asked for again; what LNbits holds as pending stays where it is, with its money reserved on both sides."""
        closed = 0
        for id, invoice in list(self.invoices.items()):
            subject, status = await self.load(id)
            if status.mover is not Mover.OPERATOR:
                continue
            there = self.pair.paying.payment(self.pair.payer, invoice.hash)
            print(f"{id} is with the operator: {leg.why(subject)}; LNbits says {there and there.get('status')}")
            if there is None or there.get("status") == "failed":
                what = ActOnPayout("close", "LNbits and the payee know nothing of it", "not_paid", invoice.hash)
                await self.b.payouts.act(TENANT, id, what)
                await self.ask(f"{leg.leg_of(subject.spec.body).external_id} again", self.dice.randint(1, 5_000))
                closed += 1
        return closed

    async def report(self, closed: int, began: float) -> Report:
        """Raises AssertionError where the payees, the ledger and the wallet disagree."""
        settled = in_doubt = with_operator = paid = 0
        for id, invoice in self.invoices.items():
            subject, status = await self.load(id)
            there = self.pair.a.payment(self.pair.payee, invoice.hash)
            assert there is not None and there["paid"] == (status.state == "settled"), f"{id} is {status.state}"
            settled += status.state == "settled"
            with_operator += status.mover is Mover.OPERATOR
            if status.state == "settled":
                paid += leg.leg_of(subject.spec.body).money.minor
                last = [a for case in subject.cases(leg.SLOT) for a in case.answers if isinstance(a.said, Done)]
                in_doubt += last[0].verb is Verb.LOOKUP
        assert self.pair.a.balance(self.pair.payee) == paid
        sums = await self.b.store.sums(TENANT, [leg.wallet(RAIL), leg.wallet(RAIL) + RESERVED])
        ledger = sum(sums.values())
        wallet = self.pair.paying.balance(self.pair.payer)
        assert ledger == wallet, f"the ledger says {ledger} msat, the wallet {wallet}"
        spent = time.monotonic() - began
        legs = len(self.invoices)
        return Report(
            legs, settled, in_doubt, with_operator, closed, self.kills, self.freezes, ledger, wallet, round(spent, 1)
        )


async def tell(pair: Pair, postgres: Embedded, legs: int, seed: int) -> Report:
    began = time.monotonic()
    database = Database(postgres.dsn("bursar_engine"), postgres.dsn("bursar_migrate"))
    url, key = pair.paying.url, pair.payer.key
    async with wired(Config(database=database), {RAIL: rail(url, key)}) as b:
        opening = pair.paying.balance(pair.payer)
        lines = (Line(leg.wallet(RAIL), "BTC", opening), Line("equity", "BTC", -opening))
        spec = Spec(1, json.encode(balances.Balance(lines, "what is in the wallet")), "operator")
        await command(b.engine, SubjectId(TENANT, "balance", "opening"), spec)
        program = [sys.executable, "-m", __spec__.name, database.url, database.migrate, url, key]
        story = Story(pair, b, program, seed)
        story.start_bursar()
        try:
            await story.at_work()
            await story.trouble(legs)
            await story.until((Mover.NOBODY, Mover.OPERATOR))
            closed = await story.operate()
            await story.until((Mover.NOBODY, Mover.OPERATOR))
            return await story.report(closed, began)
        finally:
            story.end_bursar()


def main(folder: Path, legs: int = 50, seed: int = 1) -> Report:
    with Embedded(folder / "postgres") as postgres, Pair(folder / "lnbits") as pair:
        return asyncio.run(tell(pair, postgres, legs, seed))


if __name__ == "__main__":
    if sys.argv[1:]:
        asyncio.run(worker(*sys.argv[1:]))
    else:
        with tempfile.TemporaryDirectory() as scratch:
            for figure, value in main(Path(scratch))._asdict().items():
                print(f"{figure:16}{value}")
