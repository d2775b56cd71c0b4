"""Open invoices by the thousand, and the engine that works on them. They are made through the store's ports, in larger
commits than a service would make; only what comes after is measured."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from typing import TypeVar

from msgspec import json
from msgspec.structs import replace

from bursar import invoices
from bursar.core.facts import Cursor
from bursar.core.money import Amount
from bursar.core.ports import Advance, Commit, Seen, Write
from bursar.core.steps import Wait
from bursar.core.subject import Spec, Subject, SubjectId
from bursar.engine import clock
from bursar.engine.reconcile import Engine, change
from bursar.invoices.commands import CreateInvoice, Offer, declare
from bursar.server.shell import BATCH, Reconciler

from .database import Counting

HOUR = 3_600_000_000
FEW = 10  # writes in one commit, and BATCH commits in one transaction, while a shop is made
SCANNED = 5_000  # watches in one commit
PRICES = {"BTC/EUR": "60000", "ADA/EUR": "0.50"}

T = TypeVar("T")


class Shop:
    """Invoices 0, 1, 2, …; `offers`: the ways in which each can be paid, to the addresses that they derive from n."""

    def __init__(self, store: Counting, offers: Sequence[Offer]) -> None:
        self.store, self.offers = store, offers
        self.engine = Engine(store, {}, {invoices.controller.kind: invoices.controller}, clock.now)
        self.woken = 0

    async def open(self, n: int) -> None:
        """`n` invoices that wait for their payers: scanned, covered and asleep. Every rail has a cursor."""
        now, cursors = clock.now(), await self.store.cursors()
        await self.write([self.declared(i, cursors, now) for i in range(n)])
        for rail in dict.fromkeys(offer.rail for offer in self.offers):
            await self.cover(rail)
        subject, seen = await self.store.load(name(0))  # all of them stand as this one does
        assert subject.status is not None
        step = invoices.controller.next_step(subject, subject.status, Seen(now, seen))
        assert isinstance(step, Wait) and step.until
        await self.write([Write(name(i), expect=subject.version, until=step.until) for i in range(n)])

    def declared(self, n: int, cursors: Mapping[str, Cursor], now: int) -> Write:
        ways = [(offer, offer.derive(n)) for offer in self.offers if offer.derive]
        invoice, quote = declare(
            CreateInvoice(Amount("EUR", "10.00"), window_seconds=86_400), ways, cursors, PRICES, now
        )
        spec = Spec(1, json.encode(invoice), "bench", now)
        subject = Subject(name(n), 0, (spec, quote))
        status = invoices.controller.status(subject)
        return Write(subject.id, subject.records, 0, status, (), change(Subject(subject.id), status, now))

    async def write(self, writes: Sequence[Write]) -> None:
        for some in batches(writes, FEW * BATCH):
            answers = await asyncio.gather(*(self.store.commit(Commit(tuple(few))) for few in batches(some, FEW)))
            assert all(isinstance(answer, int) for answer in answers), answers

    async def cover(self, rail: str) -> None:
        """As if its blocks had been scanned and read on from there."""
        await self.read_on(rail)
        assigned = await self.store.assignment(rail, 0)
        for some in batches([r.watch for r in assigned.changed], SCANNED):
            advance = Advance(rail, assigned.cursor, assigned.cursor, scanned=tuple(some))
            assert isinstance(await self.store.commit(Commit(advance=advance)), int)
        await self.read_on(rail)

    async def read_on(self, rail: str) -> None:
        assigned = await self.store.assignment(rail, 0)
        to = replace(assigned.cursor, watermark=assigned.cursor.watermark + 1, watched=assigned.version)
        assert isinstance(await self.store.commit(Commit(advance=Advance(rail, assigned.cursor, to))), int)

    async def work(self) -> None:
        """As the service does it, until nobody is due."""
        self.store.batches = []
        reconciler = Reconciler(self.engine, failed)
        while not await reconciler.turn():
            pass
        self.woken += sum(map(len, self.store.batches))


def failed(subject: str, why: str) -> None:
    assert not why, f"{subject}: {why}"


def name(n: int) -> SubjectId:
    return SubjectId("main", "invoice", f"inv_{n}")


def batches(items: Sequence[T], size: int) -> Iterator[Sequence[T]]:
    return (items[start : start + size] for start in range(0, len(items), size))
