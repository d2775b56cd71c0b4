"""Commits against bare PostgreSQL: a block of a thousand facts, and the passes of those whom it woke. Whatever the
product writes to one database, plain statements write to a copy of it, in turns; in the end both hold the same rows."""

from __future__ import annotations

import gc
import time
from collections.abc import Iterator, Sequence
from contextlib import AsyncExitStack

import psycopg
from msgspec.structs import replace

from bursar.core.facts import Cursor, Fact, Place
from bursar.core.money import Money
from bursar.core.ports import Advance, Claim, Commit
from bursar.engine import clock
from bursar.engine.observe import WatchSet, covering, route
from bursar.server.shell import BATCH
from bursar.store.postgres import LEASE

from .bare import Change, Connection, Copied, Schema, difference, of, write
from .blocks import BITCOIN, BTC, PRICE
from .database import Cluster, opened
from .rows import Row, beside, least, most
from .shop import Shop

DEEP = replace(BTC, confirmations=1_000)  # no later block wakes whom an earlier one has paid
FACTS, ROUNDS = 1_000, 7
CLAIM = b"update heads set lease = %s where sk = any(%s)"
READS = (  # what a pass must know of its subjects
    b"select sk, n, body from records where sk = any(%s) order by sk, n",
    b"select sk, body from statuses where sk = any(%s)",
    b"select sk, version from heads where sk = any(%s)",
    b"select w.sk, c.* from watches w join cursors c using (rail) where w.sk = any(%s)",
)


class Twins:
    """A shop on one database, and the same rows written to a copy of it by plain statements."""

    def __init__(self, shop: Shop, ours: Connection, bare: Connection) -> None:
        self.shop, self.ours, self.bare = shop, ours, bare
        self.watched, self.schema = WatchSet(), Schema(bare)
        self.sk = {id: sk for id, sk in bare.execute("select id, sk from subjects where kind = 'invoice'")}
        self.blocks, self.bare_blocks = list[float](), list[float]()  # seconds of each round
        self.passes, self.bare_passes = list[float](), list[float]()

    async def round(self, n: int) -> None:
        who = range(n * FACTS, (n + 1) * FACTS)
        sks = [self.sk[f"inv_{i}"] for i in who]
        await self.block(who, sks)
        await self.work(sks)

    async def block(self, who: range, sks: Sequence[int]) -> None:
        store = self.shop.store
        assigned = await store.assignment(BITCOIN, self.watched.version)
        self.watched.update(assigned)
        cursor, at = assigned.cursor, assigned.cursor.position + 1
        place = Place(at, f"block {at}", clock.now())
        found = [payment(i, place) for i in who]
        to = covering(cursor, Cursor(at, (place.hash,), 0, clock.now()), assigned.version)
        began = start()
        writes = route(self.watched, found, cursor)
        answer = await store.commit(Commit(writes, Advance(BITCOIN, cursor, to)))
        self.blocks.append(time.perf_counter() - began)
        assert isinstance(answer, int) and len(writes) == FACTS, answer
        bare = Copied(self.bare, self.schema, list(difference(self.bare, self.ours, self.schema, sks)))
        began = start()
        bare.run()
        self.bare_blocks.append(time.perf_counter() - began)

    async def work(self, sks: Sequence[int]) -> None:
        """Batch after batch, on both sides: the service's own loop; claim and commit, read, write and commit."""
        store = self.shop.store
        began = start()
        await self.shop.work()
        self.passes.append(time.perf_counter() - began)
        batches = [claims for claims in store.batches if claims]
        assert sum(map(len, batches)) == FACTS
        changes = list(difference(self.bare, self.ours, self.schema, sks))
        mine = [self.of(changes, claims, last=claims is batches[-1]) for claims in batches]
        began = start()
        for who, written in mine:
            self.bare.execute(CLAIM, [clock.now() + LEASE, who])
            with self.bare.pipeline():
                reads = [self.bare.execute(query, [who]) for query in READS]
            for read in reads:
                read.fetchall()
            write(self.bare, self.schema, written)
        self.bare_passes.append(time.perf_counter() - began)

    def of(self, changes: Sequence[Change], claims: Sequence[Claim], *, last: bool) -> tuple[list[int], list[Change]]:
        """Who was in a batch, and what became of them. Sums are of no subject: they are written once, with the last."""
        who = [self.sk[claim.subject.id] for claim in claims]
        wanted = frozenset(who)
        return who, of(changes, lambda row: row["sk"] in wanted if "sk" in row else last)


def start() -> float:
    """What the bench itself leaves behind is cleared away before a time is taken."""
    gc.collect()
    return time.perf_counter()


def payment(n: int, place: Place) -> Fact:
    assert DEEP.derive is not None
    txid, money = f"{n:064x}", Money(DEEP.asset, PRICE[BITCOIN])
    spends = (f"{n + (1 << 128):064x}:0",)
    return Fact(BITCOIN, f"{txid}:0", txid, 0, clock.now(), 0, (DEEP.derive(n),), spends, place, money=money)


async def commits(cluster: Cluster) -> list[Row]:
    database = cluster.migrated()
    async with AsyncExitStack() as stack:
        async with await opened(cluster, database, clock.now) as store:
            await store.commit(Commit(advance=Advance(BITCOIN, Cursor(), Cursor(1, ("block 1",), 0, clock.now()))))
            await Shop(store, [DEEP]).open(FACTS * ROUNDS)
        copy = cluster.copy(database)
        for each in (database, copy):
            cluster.settle(each)
        store = await stack.enter_async_context(await opened(cluster, database, clock.now))
        ours = stack.enter_context(psycopg.connect(cluster.dsn("bursar_read", database), autocommit=True))
        dsn = cluster.dsn("bursar_engine", copy)
        bare = stack.enter_context(psycopg.connect(dsn, autocommit=True, prepare_threshold=0))
        twins = Twins(Shop(store, [DEEP]), ours, bare)
        for n in range(ROUNDS):
            await twins.round(n)
        assert not list(difference(bare, ours, twins.schema, list(twins.sk.values())))
    return list(reported(twins))


def reported(twins: Twins) -> Iterator[Row]:
    """Of the rounds after the first two, in which statements are prepared."""
    rates = [[FACTS / seconds for seconds in side[2:]] for side in (twins.passes, twins.bare_passes)]
    name = f"wake-ups a second, an invoice's payment seen, in batches of {BATCH}, against bare statements"
    yield least(name, "/s", *beside(*rates), 0.4)
    times = [[seconds * 1000 for seconds in side[2:]] for side in (twins.blocks, twins.bare_blocks)]
    yield most(f"a block of {FACTS:,} facts in one commit, against bare COPY + INSERT", "ms", *beside(*times), 1.5)
