"""Following litecoind and btcd: what a chain can do to a payment, and what the facts then amount to."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from tests.harness.bitcoin import BitcoinNode, Btcd, Litecoind

from bursar.core.facts import Batch, Cursor, Fact, Rollback, Stands, Watch, merge
from bursar.core.outcomes import Unknown
from bursar.engine.clock import now
from bursar.rails.bitcoin.addresses import script_of
from bursar.rails.bitcoin.rpc import Node
from bursar.rails.bitcoin.source import BitcoinSource

pytestmark = pytest.mark.real
SECOND = 1_000_000
LAG = SECOND // 10
NODES = {"litecoind": Litecoind, "btcd": Btcd}


class Follower:
    """What the observer does with a source, without a store: the cursor, the keys, all facts and rollbacks."""

    def __init__(self, real: BitcoinNode, lag: int = LAG) -> None:
        self.real, self.lag = real, lag
        self.cursor, self.keys = Cursor(), set[str]()
        self.facts, self.rollbacks = list[Fact](), list[Rollback]()
        self.loop = asyncio.new_event_loop()
        self.begin()

    def begin(self) -> None:
        """As a new process: what a source keeps in memory is lost."""
        self.node = Node(self.real.url, 10)
        self.source = BitcoinSource(self.real.chain.name, self.real.chain, self.node, now, self.lag)

    def end(self) -> None:
        self.loop.run_until_complete(self.node.close())

    def watch(self, address: str) -> str:
        key = script_of(address, self.real.chain).hex()
        self.keys.add(key)
        return key

    def turn(self) -> Batch | Unknown:
        batch = self.loop.run_until_complete(self.source.follow(self.cursor, self.keys))
        if isinstance(batch, Batch):
            if batch.rollback is not None:
                self.rollbacks.append(Rollback(self.source.name, batch.rollback, batch.cursor.branch))
            self.cursor = batch.cursor
            self.take(batch)
        return batch

    def take(self, batch: Batch) -> None:
        self.facts += batch.found
        self.keys |= {coin for fact in batch.found if fact.money for coin in fact.spends}

    def catch_up(self) -> None:
        """Until the watermark has moved at the node's tip."""
        asked, deadline = now(), time.monotonic() + 20
        while self.cursor.watermark < asked - self.source.delay:
            read = self.turn()
            assert time.monotonic() < deadline, read
        assert self.cursor.position == self.real.rpc("getblockcount")

    def scan(self, address: str, since: int) -> Batch | Unknown:
        watch = Watch(self.source.name, script_of(address, self.real.chain).hex(), since)
        return self.loop.run_until_complete(self.source.scan(self.cursor, [watch]))

    def paying(self) -> set[Fact]:
        return {fact for fact in self.facts if fact.money}

    def stands(self, txid: str) -> Stands:
        (found,) = (s for s in merge(self.facts, self.rollbacks).values() if s.fact.tx == txid and s.fact.money)
        return found.stands


@pytest.fixture(scope="module", params=list(NODES))
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitcoinNode]:
    with NODES[request.param](tmp_path_factory.mktemp(request.param)) as node:
        yield node


@pytest.fixture
def follower(real: BitcoinNode) -> Iterator[Follower]:
    follower = Follower(real)
    follower.catch_up()
    yield follower
    follower.end()


def test_seen_mined_and_its_exact_amount(follower: Follower, real: BitcoinNode) -> None:
    address = real.address(20)
    key = follower.watch(address)
    txid = real.pay(address, 123_456)
    follower.catch_up()
    assert follower.stands(txid) is Stands.PENDING
    follower.turn()
    (fact,) = follower.paying()  # one run of sightings is one fact
    assert fact.money is not None
    assert (fact.money.asset, fact.money.minor) == (real.chain.asset, 123_456_000)
    assert (fact.movement, fact.keys, fact.matures) == (f"{txid}:0", (key,), 0)
    (mined,) = real.mine()
    follower.catch_up()
    assert follower.stands(txid) is Stands.INCLUDED
    (placed,) = {f for f in follower.paying() if f.place}
    assert placed.place is not None
    assert (placed.place.hash, placed.place.position) == (mined, real.rpc("getblockcount"))
    assert (placed.movement, placed.money, placed.spends) == (fact.movement, fact.money, fact.spends)


def test_replaced_by_fee_and_the_original_mined_all_the_same(follower: Follower, real: BitcoinNode) -> None:
    address = real.address(21)
    follower.watch(address)
    first = real.pay(address, 500_000)
    follower.catch_up()
    second = real.replace(first, address, 400_000)
    follower.catch_up()
    assert (follower.stands(first), follower.stands(second)) == (Stands.DISPLACED, Stands.PENDING)
    real.mine(only=[first])
    follower.catch_up()
    assert (follower.stands(first), follower.stands(second)) == (Stands.INCLUDED, Stands.DISPLACED)


def test_replaced_by_what_pays_us_nothing(follower: Follower, real: BitcoinNode) -> None:
    address = real.address(22)
    follower.watch(address)
    txid = real.pay(address, 500_000)
    follower.catch_up()
    rival = real.replace(txid)
    follower.catch_up()
    assert follower.stands(txid) is Stands.DISPLACED
    assert any(f.tx == rival and f.money is None for f in follower.facts)


def test_a_rivals_block_comes_while_we_read_the_mempool(follower: Follower, real: BitcoinNode) -> None:
    address = real.address(23)
    follower.watch(address)
    txid = real.pay(address, 500_000)
    rival, ask, mined = real.rival(txid), follower.node.unspent, list[str]()

    async def late(coins: list[str]) -> tuple[frozenset[str], str]:
        answer = await ask(coins)
        if not mined:  # the node's next block comes here
            mined.extend(await asyncio.to_thread(real.mine, 1, None, [rival]))
        return answer

    follower.node.unspent = late  # type: ignore[method-assign, assignment]
    follower.turn()
    assert mined
    assert follower.stands(txid) is Stands.PENDING
    follower.catch_up()
    assert follower.stands(txid) is Stands.DISPLACED


def test_a_reorganisation_and_the_same_block_back(follower: Follower, real: BitcoinNode) -> None:
    address = real.address(24)
    follower.watch(address)
    txid = real.pay(address, 600_000)
    follower.catch_up()
    (mined,) = real.mine()
    follower.catch_up()
    real.reorg(1)
    follower.catch_up()
    assert follower.rollbacks[-1].above == real.rpc("getblockcount") - 2
    assert follower.stands(txid) is Stands.PENDING  # it waits again
    real.mine(2, on=mined)
    follower.catch_up()
    assert follower.stands(txid) is Stands.INCLUDED
    places = [(f.branch, f.place.hash) for f in follower.facts if f.place and f.money]
    assert sorted(set(places)) == [(0, mined), (2, mined)]


def test_a_double_spend_that_nobody_saw_before_its_block(follower: Follower, real: BitcoinNode) -> None:
    address = real.address(25)
    follower.watch(address)
    txid = real.pay(address, 600_000)
    follower.catch_up()
    (mined,) = real.mine()
    follower.catch_up()
    real.reorg(1, only=[real.rival(txid)])
    follower.catch_up()
    assert follower.stands(txid) is Stands.DISPLACED
    real.mine(2, on=mined)
    follower.catch_up()
    assert follower.stands(txid) is Stands.INCLUDED


def test_a_shorter_chain_is_no_reorganisation(follower: Follower, real: BitcoinNode) -> None:
    address = real.address(26)
    follower.watch(address)
    txid = real.pay(address, 600_000)
    real.mine(2)
    follower.catch_up()
    before = follower.cursor
    first = real.disconnect(2)
    read = follower.turn()
    assert isinstance(read, Unknown)
    assert "behind" in read.reason
    real.reconnect(first)
    follower.catch_up()
    assert (follower.cursor.branch, follower.cursor.trail) == (before.branch, before.trail)
    assert follower.stands(txid) is Stands.INCLUDED


def test_received_and_swept_while_nobody_looked(follower: Follower, real: BitcoinNode) -> None:
    address = real.address(27)
    follower.watch(address)
    txid = real.pay(address, 900_000)
    real.mine()
    real.sweep(address)
    real.mine(12)  # more than one turn reads
    follower.begin()
    follower.catch_up()
    assert follower.stands(txid) is Stands.INCLUDED


def test_a_watch_that_comes_late_is_scanned(follower: Follower, real: BitcoinNode) -> None:
    address, since = real.address(28), real.rpc("getblockcount") + 1
    txid = real.pay(address, 900_000)
    (mined,) = real.mine()
    sweep = real.sweep(address)
    real.mine()
    follower.catch_up()
    assert not follower.facts
    scanned = follower.scan(address, since)
    assert isinstance(scanned, Batch)
    assert scanned.cursor == follower.cursor
    (fact,) = scanned.found
    assert fact.place is not None
    assert (fact.tx, fact.place.hash, fact.branch) == (txid, mined, follower.cursor.branch)
    later = follower.scan(address, since + 1)
    assert isinstance(later, Batch)
    assert not later.found
    coin = Watch(follower.source.name, f"{txid}:0", since)
    spent = follower.loop.run_until_complete(follower.source.scan(follower.cursor, [coin]))
    assert isinstance(spent, Batch)
    assert [(f.tx, f.money, f.keys) for f in spent.found] == [(sweep, None, (coin.key,))]


def test_a_scan_reads_only_the_branch_of_the_cursor(follower: Follower, real: BitcoinNode) -> None:
    real.mine()
    follower.catch_up()
    real.reorg(1)
    scanned = follower.scan(real.address(29), 0)
    assert isinstance(scanned, Unknown)
    assert "not on our branch" in scanned.reason
    follower.catch_up()
    assert isinstance(follower.scan(real.address(29), 0), Batch)
    nothing = follower.loop.run_until_complete(follower.source.scan(Cursor(), [Watch(follower.source.name, "51", 0)]))
    assert isinstance(nothing, Unknown)  # nothing has been followed yet: there is no branch


def test_a_reward_matures(follower: Follower, real: BitcoinNode) -> None:
    address = real.address(30)
    follower.watch(address)
    real.mine(1, address)
    follower.catch_up()
    (fact,) = set(follower.facts)
    assert fact.place is not None
    assert fact.matures == fact.place.position + 99  # a hundred confirmations: the next block may spend it
    assert fact.spends == ()


def test_a_node_that_forgets_its_mempool(tmp_path: Path) -> None:
    with Litecoind(tmp_path / "node") as real:
        follower = Follower(real)
        follower.catch_up()
        address = real.address()
        follower.watch(address)
        txid = real.pay(address, 500_000)
        follower.catch_up()
        real.kill()
        read = follower.turn()
        assert isinstance(read, Unknown)
        assert "no answer" in read.reason
        real.restart()
        follower.catch_up()
        time.sleep(follower.source.delay / SECOND)
        follower.catch_up()
        assert follower.stands(txid) is Stands.PENDING  # nobody knows whether it has left
        real.send(txid)
        follower.catch_up()
        assert follower.stands(txid) is Stands.PENDING
        real.mine()
        follower.catch_up()
        assert follower.stands(txid) is Stands.INCLUDED
        follower.end()


def test_what_a_peers_block_made_impossible_is_never_pending(tmp_path: Path) -> None:
    with Btcd(tmp_path / "node") as real:
        early, late = Follower(real), Follower(real)
        early.catch_up()
        for follower in (early, late):
            follower.watch(real.address())
        txid = real.pay(real.address(), 600_000)
        early.catch_up()
        real.mine()
        early.catch_up()
        real.reorg_by_peer(1, only=[real.rival(txid)])
        early.catch_up()
        late.catch_up()  # it begins above the rival's block
        assert txid in real.rpc("getrawmempool", False)
        assert early.stands(txid) is Stands.DISPLACED
        assert late.cursor.position == early.cursor.position
        assert not late.facts
        early.begin()
        early.catch_up()
        assert early.stands(txid) is Stands.DISPLACED
        early.end()
        late.end()


@pytest.mark.parametrize("make", [Litecoind, lambda folder: Btcd(folder, "simnet")], ids=["litecoind", "btcd-simnet"])
def test_killed_and_frozen_it_is_unknown_and_goes_on(make: Callable[[Path], BitcoinNode], tmp_path: Path) -> None:
    with make(tmp_path / "node") as real:
        follower = Follower(real)
        follower.catch_up()
        before = follower.cursor
        follower.node._timeout = 1
        real.freeze()
        frozen = follower.turn()
        real.thaw()
        assert isinstance(frozen, Unknown)
        assert "no answer within 1 s" in frozen.reason
        real.mine(3)
        real.kill()
        assert isinstance(follower.turn(), Unknown)
        real.restart()
        follower.catch_up()
        assert follower.cursor.position >= before.position + 3
        follower.end()


def test_another_network_is_unknown(follower: Follower, real: BitcoinNode, tmp_path: Path) -> None:
    other = BitcoinSource("x", Litecoind(tmp_path).chain._replace(genesis="ab" * 32), follower.node, now, LAG)
    read = follower.loop.run_until_complete(other.follow(Cursor(), ()))
    assert isinstance(read, Unknown)
    assert f"is on {real.chain.name}" in read.reason
