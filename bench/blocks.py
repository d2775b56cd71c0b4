"""What a block costs when more invoices are open: requests to the node, subjects woken, statements, time."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import AsyncExitStack

import httpx
from msgspec import Struct

from bursar.core.ports import Source
from bursar.engine import clock
from bursar.engine.observe import Observer
from bursar.invoices.commands import Offer
from bursar.rails.bitcoin.rpc import Node
from bursar.rails.bitcoin.source import BitcoinSource
from bursar.rails.cardano.koios import Endpoint
from bursar.rails.cardano.source import KoiosSource

from .copies import copy
from .database import Cluster, opened
from .nodes import PREPROD, REGTEST, BitcoinStub, KoiosStub, Ledger, Stub
from .rows import Row, beside, flat, most
from .shop import HOUR, Shop

BITCOIN, CARDANO = "bitcoin:regtest", "cardano:preprod"
BTC = Offer("BTC@bitcoin", BITCOIN, "BTC", 11, 1000, 1, HOUR, 0, str, "{:044x}".format)
ADA = Offer("ADA@cardano", CARDANO, "ADA", 6, 1, 1, HOUR, 0, str, "addr_test{}".format)
PRICE = {BITCOIN: -(-10 * 10**11 // 60_000_000) * 1000, CARDANO: 20_000_000}  # of ten euros, in minor units
FOREIGN = 50  # transactions of a block that concern nobody here
PAYING = 10  # that pay an invoice, where requests are counted
CONCERNED, FEW, MANY = 50, 1_000, 100_000
MADE = 1_000  # by the engine; the rest are copies of one of them
ROUNDS = 7


class Side(Struct):
    """A shop of one size, what it reads through, and what a block cost it."""

    shop: Shop
    stub: Stub
    observer: Observer
    requests: int = 0
    woken: int = 0
    statements: int = 0
    seconds: list[float] = []

    async def turn(self) -> None:
        """Read what there is, and let everybody whom it concerns come to rest."""
        before, statements = time.perf_counter(), self.shop.store.statements
        requests, woken = self.stub.requests, self.shop.woken
        await self.observer.turn()
        await self.shop.work()
        self.seconds.append(time.perf_counter() - before)
        self.requests += self.stub.requests - requests
        self.woken += self.shop.woken - woken
        self.statements += self.shop.store.statements - statements

    def forget(self) -> None:
        self.requests = self.woken = self.statements = 0
        self.seconds = []


def reader(rail: str, ledger: Ledger) -> tuple[Stub, Source]:
    if rail == BITCOIN:
        stub: Stub = BitcoinStub(ledger)
        node = Node("http://127.0.0.1:1", transport=stub.transport)
        return stub, BitcoinSource(BITCOIN, REGTEST, node, clock.now, 0)
    stub, endpoint = KoiosStub(ledger), Endpoint("http://127.0.0.1:1/api/v1", clock.now, at_once)
    endpoint.client = httpx.AsyncClient(transport=stub.transport)
    return stub, KoiosSource(CARDANO, PREPROD, [endpoint], {})


async def at_once(_seconds: float) -> None:
    """Nobody limits us here."""


async def opened_shops(
    stack: AsyncExitStack, cluster: Cluster, ledger: Ledger, offer: Offer, *sizes: int
) -> list[Side]:
    """Shops of these sizes on databases of their own, that read one ledger."""
    sides = []
    for size in sizes:
        database = cluster.migrated()
        store = await stack.enter_async_context(await opened(cluster, database, clock.now))
        stub, source = reader(offer.rail, ledger)
        observer = Observer(store, offer.rail, source)
        await observer.turn()
        shop = Shop(store, [offer])
        await shop.open(min(size, MADE))
        if size > MADE:
            with cluster.admin(database) as admin:
                copy(admin, size - MADE)
        cluster.settle(database)
        sides.append(Side(shop, stub, observer))
    for _ in range(2):  # they learn their watches, and every statement is prepared
        ledger.mine()
        for side in sides:
            await side.turn()
            side.forget()
    return sides


def pay(ledger: Ledger, offer: Offer, who: range) -> None:
    assert offer.derive is not None
    for n in who:
        ledger.pay(offer.derive(n), PRICE[offer.rail])
    for n in range(FOREIGN):
        ledger.pay(offer.derive(10**9 + n), PRICE[offer.rail])


async def requests(cluster: Cluster) -> list[Row]:
    return [row for offer in (BTC, ADA) for row in [await requests_of(cluster, offer)]]


async def requests_of(cluster: Cluster, offer: Offer) -> Row:
    """A payment waits in the mempool, where there is one, for one read, and stands in a block at the next."""
    async with AsyncExitStack() as stack:
        ledger = Ledger(REGTEST.genesis)
        few, many = await opened_shops(stack, cluster, ledger, offer, 100, 10_000)
        blocks = 100 // PAYING
        for b in range(blocks):
            pay(ledger, offer, range(b * PAYING, (b + 1) * PAYING))
            for mined in (False, True):
                if mined:
                    ledger.mine()
                await few.turn()
                await many.turn()
        assert few.woken == many.woken > 0
    name = f"requests a block, {offer.rail.partition(':')[0]}: 10,000 open invoices, against 100"
    return flat(name, "requests", many.requests / blocks, few.requests / blocks)


async def concerned(cluster: Cluster) -> list[Row]:
    """A block that pays the same fifty invoices; the two sides take turns, and who begins alternates."""
    async with AsyncExitStack() as stack:
        ledger = Ledger(REGTEST.genesis)
        sides = few, many = await opened_shops(stack, cluster, ledger, BTC, FEW, MANY)
        for n in range(ROUNDS):
            pay(ledger, BTC, range(n * CONCERNED, (n + 1) * CONCERNED))
            ledger.mine()
            for side in sides[:: 1 if n % 2 else -1]:
                await side.turn()
    return list(compared(few, many))


def compared(few: Side, many: Side) -> Iterator[Row]:
    name = f"a block that pays {CONCERNED} of {MANY:,} open invoices, against {CONCERNED} of {FEW:,}: "
    yield flat(name + "woken", "subjects", many.woken / ROUNDS, few.woken / ROUNDS)
    yield flat(name + "queries", "queries", many.statements / ROUNDS, few.statements / ROUNDS)
    ours, theirs = beside([s * 1000 for s in many.seconds], [s * 1000 for s in few.seconds])
    yield most(name + "time", "ms", ours, theirs, 1.5)
