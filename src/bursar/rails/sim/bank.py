"""Banks that pay, each under the terms of one kind of payout rail; and the adapter that acts on them and reads them."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence
from random import Random

from msgspec import Struct

from ...core.facts import Batch, Cursor, Fact, Watch
from ...core.money import Instant, Money
from ...core.outcomes import (
    Absent,
    Attempt,
    Done,
    Effect,
    Finding,
    Outcome,
    Pay,
    Prepared,
    Rejected,
    Replace,
    Terms,
    Unknown,
)
from .world import LAG, SECOND, SKEW, Pause, Trouble


class Landing(Struct, frozen=True):
    at: Instant
    to: str
    money: Money
    key: str
    attempt: str
    cost: int  # what the rail charged on top


TERMS = {  # rail -> (resend, replace, what the rail dedupes by)
    "lnd": (True, Replace.EXPIRY, "key"),
    "phoenix": (True, Replace.NEVER, "key"),
    "lnbits": (False, Replace.EXPIRY, ""),
    "cheque": (False, Replace.NEVER, ""),
    "utxo": (True, Replace.SHARED, "resource"),
    "exchange": (True, Replace.SHARED, "key"),
    "setting": (False, Replace.SUPERSEDES, ""),
}


class Bank:
    """One payout rail under one set of terms. `arrive` is the only place where money moves."""

    def __init__(self, name: str, dice: Random, now: Callable[[], Instant], trouble: Trouble, log: list[str]) -> None:
        self.name, self.dice, self.now = name, dice, now  # its own clock, up to SKEW from ours
        self.trouble, self.log = trouble, log  # the log is of all banks of the world: an audit looks when it grows
        self.resend, self.replace, self.dedupes = TERMS[name]
        self.landed: list[Landing] = []
        self.failed: list[tuple[Instant, str]] = []
        self.used: set[str] = set()
        self.reneged: set[str] = set()  # to whom it may have paid what it had promised to refuse

    def arrive(self, attempt: Attempt) -> Outcome:
        prepared = attempt.prepared
        to, minor, fee = prepared.payload.split("|")
        if refused := self.refuse(prepared):
            self.failed.append((self.now(), attempt.key))
            return Rejected(refused, final=refused == "no funds" and self.dice.random() < 0.05)
        before = next((x for x in self.landed if x.key == attempt.key), None) if self.dedupes == "key" else None
        if before:  # a refusal speaks of this send only
            return Done(attempt.key, before.cost) if self.dice.random() < 0.5 else Rejected("duplicate")
        if self.dedupes == "resource":
            self.used.add(prepared.resource)
        cost = self.dice.randint(0, int(fee)) if int(fee) else 0
        self.log.append(to)
        self.landed.append(Landing(self.now(), to, Money("BTC", int(minor)), attempt.key, attempt.id, cost))
        return Done(attempt.key, cost)

    def refuse(self, prepared: Prepared) -> str:
        if prepared.expires_at is not None and self.now() > prepared.expires_at:
            if not self.trouble.renege or self.dice.random() >= self.trouble.renege:
                return "expired"
            self.reneged.add(prepared.payload.split("|")[0].split("#")[0])
        if prepared.resource in self.used:
            return "spent"
        return "no funds" if self.dice.random() < self.trouble.refusal else ""

    def effects(self, to: str) -> int:
        times = sum(landing.to.split("#")[0] == to for landing in self.landed)
        return min(times, 1) if self.replace is Replace.SUPERSEDES else times


class BankRail:
    """Executor and source of a bank. A lookup reads a replica up to LAG behind, a cache older than that (which says
    so),
    or a listing cut short; the feed reads a replica and misses nothing, once it answers."""

    def __init__(self, bank: Bank, dice: Random, now: Callable[[], Instant], pause: Pause, trouble: Trouble) -> None:
        self.bank, self.dice, self.now, self.pause, self.trouble = bank, dice, now, pause, trouble

    async def prepare(self, effect: Effect, key: str, resource: str) -> Prepared | Rejected | Unknown:
        await self.pause()
        bank = self.bank
        if not isinstance(effect, Pay):
            return Rejected("this rail only pays", final=True)
        terms = Terms(bank.resend, bank.replace, SKEW, LAG)
        expires_at = self.now() + 30 * SECOND if bank.replace is Replace.EXPIRY else None
        fresh = {"key": key, "resource": f"{bank.name}-{self.dice.getrandbits(48)}", "": ""}[bank.dedupes]
        shared = (resource or fresh) if bank.replace is Replace.SHARED else ""
        return Prepared(f"{effect.to}|{effect.money.minor}|{effect.fee}", terms, shared, expires_at)

    async def submit(self, attempt: Attempt) -> Outcome:
        await self.pause()
        return self.bank.arrive(attempt)

    async def lookup(self, attempt: Attempt) -> Finding:
        await self.pause()
        bank = self.bank
        if bank.name == "cheque":
            return Unknown("nobody can be asked about a cheque")  # only the account's statement, the feed, knows
        old = self.dice.random() < self.trouble.stale
        hidden = self.dice.randint(0, LAG) if old else 0  # a replica's lag: it does not know it
        cached = (
            self.dice.randint(0, 60 * SECOND) if old and self.dice.random() < 0.5 else 0
        )  # a cache's age: it says so
        then = bank.now() - hidden - cached
        cut = self.dice.random() < self.trouble.cut_short
        costs = [x.cost for x in bank.landed if x.key == attempt.key and x.at <= then]
        failed = any(key == attempt.key and at <= then for at, key in bank.failed)
        for _ in range(60 if self.dice.random() < self.trouble.slow_reply else 1):
            await self.pause()  # the way back: the answer is stamped when it arrives
        if cut:
            return Absent(bank.now() - cached, complete=False)
        if costs:
            return Done(attempt.key, max(costs))
        return Absent(bank.now() - cached, why="failed" if failed else "not found")

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        """The bank's own record of what it paid; its position is a serial number."""
        asked = self.now()
        await self.pause()
        lag = self.dice.randint(0, LAG) if self.dice.random() < self.trouble.stale else 0
        then = self.bank.now() - lag
        seen = sum(landing.at <= then for landing in self.bank.landed)
        if seen < cursor.position:
            return Unknown("behind our cursor")
        watermark = max(cursor.watermark, asked - LAG - SKEW)
        return Batch(Cursor(seen, (), 0, watermark), self.facts(cursor.position, seen, keys))

    async def scan(self, upto: Cursor, watches: Sequence[Watch]) -> Batch | Unknown:
        await self.pause()
        return Batch(upto, self.facts(0, upto.position, {watch.key for watch in watches}))

    def facts(self, first: int, end: int, keys: Container[str]) -> tuple[Fact, ...]:
        return tuple(
            Fact(
                self.bank.name,
                f"{self.bank.name}#{n}",
                f"{self.bank.name}#{n}",
                0,
                landing.at + SKEW,  # its own record, by its own clock
                keys=(landing.key,),
                money=landing.money,
                proves=landing.key,
                cost=landing.cost,
            )
            for n, landing in enumerate(self.bank.landed[first:end], first)
            if landing.key in keys
        )
