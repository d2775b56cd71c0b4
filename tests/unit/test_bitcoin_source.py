"""What the follower makes of nodes that a test network can't be: behind, cut off, pruned, lying, or several behind one
address. The node is our own fake."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Callable, Container
from typing import Any

import httpx
import pytest

from bursar.core.facts import Batch, Cursor, Fact, Watch
from bursar.core.outcomes import Unknown
from bursar.rails.bitcoin import mempool, source
from bursar.rails.bitcoin.addresses import CHAINS
from bursar.rails.bitcoin.rpc import Node
from bursar.rails.bitcoin.source import BitcoinSource

SECOND = 1_000_000
MAINNET = CHAINS["bitcoin", "mainnet"]
OURS, THEIRS = "0014" + "aa" * 20, "0014" + "bb" * 20
Json = dict[str, Any]


def name(text: str) -> str:
    return text.encode().hex().rjust(64, "0")


def coin(text: str) -> str:
    return f"{name(text)}:0"


def tx(text: str, spends: str, pays: str = OURS) -> Json:
    vin = [{"txid": name(spends), "vout": 0}] if spends else [{"coinbase": "00"}]
    return {"txid": name(text), "vin": vin, "vout": [{"n": 0, "value": 0.5, "scriptPubKey": {"hex": pays}}]}


class FakeNode(httpx.AsyncBaseTransport):
    """A chain of blocks `b0`, `b1` …, a mempool, the set of unspent coins; each answer can be replaced."""

    def __init__(self, height: int) -> None:
        self.blocks: list[tuple[str, list[Json]]] = [("b0", [tx("c0", "", THEIRS)])]
        self.waiting: dict[str, Json] = {}
        self.unspent: Container[str] = {coin(f"in{n}") for n in range(9)}
        self.answers: dict[str, Callable[..., Any]] = {}
        self.time, self.requests, self.asked, self.received = 0, 0, Counter[str](), 0
        self.mine(*([] for _ in range(height)))

    def mine(self, *blocks: list[Json], mark: str = "b") -> None:
        for txs in blocks:
            n = len(self.blocks)
            self.blocks.append((f"{mark}{n}", [tx(f"c{mark}{n}", "", THEIRS), *txs]))

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        calls = json.loads(await request.aread())
        answers = [self.answer(call) for call in (calls if isinstance(calls, list) else [calls])]
        return httpx.Response(200, json=answers if isinstance(calls, list) else answers[0])

    def answer(self, call: Json) -> Json:
        method, params = call["method"], call["params"]
        self.asked[method] += 1
        return {"id": call["id"], "result": self.answers.get(method, getattr(self, method))(*params)}

    def getblockchaininfo(self) -> Json:
        height = len(self.blocks) - 1
        best = self.getbestblockhash()
        return {"chain": "main", "blocks": height, "headers": height, "bestblockhash": best, "mediantime": self.time}

    def getbestblockhash(self) -> str:
        return name(self.blocks[-1][0])

    def getblockhash(self, height: int) -> str:
        return name(self.blocks[height][0])

    def getblock(self, hash: str, _: int) -> Json:
        height = next(n for n, (block, _) in enumerate(self.blocks) if name(block) == hash)
        header = {"hash": hash, "height": height, "time": 1_000 + height, "confirmations": 1}
        before = {"previousblockhash": name(self.blocks[height - 1][0])} if height else {}
        return header | before | {"tx": self.blocks[height][1]}

    def getmempoolinfo(self) -> Json:
        return {}

    def getnettotals(self) -> Json:
        self.received += 100
        return {"totalbytesrecv": self.received}

    def getrawmempool(self, _: bool) -> list[str]:
        return list(self.waiting)

    def getrawtransaction(self, txid: str, _: int) -> Any:
        return self.waiting.get(txid)

    def gettxout(self, txid: str, vout: int, _: bool) -> Any:
        return {"value": 1} if f"{txid}:{vout}" in self.unspent else None

    def wait(self, *txs: Json) -> None:
        self.waiting |= {t["txid"]: t for t in txs}


class Reader:
    def __init__(self, fake: FakeNode, genesis: str = name("b0"), fork: tuple[int, str] | None = None) -> None:
        self.fake, self.time = fake, 1_000_000 * SECOND
        fake.time = self.time // SECOND
        node = Node("http://user:secret@node.test", 5, fake)
        chain = MAINNET._replace(genesis=genesis, fork=fork)
        self.source = BitcoinSource("bitcoin:mainnet", chain, node, self.now, 8 * SECOND)
        self.cursor, self.found = Cursor(), list[Fact]()

    def now(self) -> int:
        return self.time

    def follow(self, keys: Container[str] = (OURS,)) -> Batch | Unknown:
        self.time += SECOND
        read = asyncio.run(self.source.follow(self.cursor, keys))
        if isinstance(read, Batch):
            self.cursor = read.cursor
            self.found += read.found
        return read

    def known(self) -> Cursor:
        read = self.follow()
        assert isinstance(read, Batch), read
        return read.cursor

    def scan(self, since: int) -> Batch | Unknown:
        return asyncio.run(self.source.scan(self.cursor, [Watch("bitcoin:mainnet", OURS, since)]))


def info(**change: object) -> Callable[[FakeNode], None]:
    def apply(fake: FakeNode) -> None:
        fake.answers["getblockchaininfo"] = lambda: fake.getblockchaininfo() | change

    return apply


def answers(method: str, result: object) -> Callable[[FakeNode], None]:
    def apply(fake: FakeNode) -> None:
        fake.answers[method] = lambda *_: result

    return apply


def shorter(fake: FakeNode) -> None:
    del fake.blocks[-2:]


def deeper(fake: FakeNode) -> None:
    del fake.blocks[1:]
    fake.mine(*([] for _ in range(200)), mark="x")


def foreign(fake: FakeNode) -> None:
    fake.blocks = [("y", [tx("cy", "")])]
    fake.mine(*([] for _ in range(200)), mark="x")


UNFIT = [
    (info(initialblockdownload=True), "still loading the chain"),
    (info(headers=122), "it is behind|node is behind"),
    (info(mediantime=1_000_000 - 5 * 3600), "no block of the last 5 hours"),
    (info(pruneheight=200), "thrown away"),
    (info(blocks="many"), "another shape"),
    (shorter, "behind us: it has 118 blocks"),
    (deeper, "forked below the last 50 blocks"),
    (answers("getmempoolinfo", {"loaded": False}), "reading its mempool"),
    (answers("getrawmempool", {"a": 1}), "another shape"),
    (answers("getrawmempool", [name("t")]), "another shape"),
]


@pytest.mark.parametrize(("change", "reason"), UNFIT, ids=[reason for _, reason in UNFIT])
def test_an_unfit_node_is_unknown_and_says_why(change: Callable[[FakeNode], None], reason: str) -> None:
    fake = FakeNode(120)
    reader = Reader(fake)
    reader.known()
    change(fake)
    read = reader.follow()
    assert isinstance(read, Unknown)
    assert any(part in read.reason for part in reason.split("|")), read.reason
    assert "secret" not in read.reason


def test_a_node_of_another_network_is_unknown_at_the_start_and_in_the_middle() -> None:
    wrong = Reader(FakeNode(3), genesis=CHAINS["litecoin", "mainnet"].genesis).follow()
    assert isinstance(wrong, Unknown)
    assert "a network not known here, not on bitcoin:mainnet" in wrong.reason
    fake = FakeNode(120)
    reader = Reader(fake)
    reader.known()
    foreign(fake)
    assert isinstance(reader.follow(), Unknown)
    later = reader.follow()
    assert isinstance(later, Unknown)
    assert "a network not known here" in later.reason


def test_it_begins_at_the_tip_and_reads_a_few_blocks_a_turn() -> None:
    fake = FakeNode(120)
    reader = Reader(fake)
    first = reader.known()
    assert (first.position, len(first.trail), first.trail[-1]) == (120, source.TRAIL, name("b120"))
    assert first.watermark == 0  # until it has heard something of its peers
    first = reader.known()
    assert first.watermark == reader.time - reader.source.delay
    fake.mine(*([] for _ in range(25)))
    positions, marks = list[int](), list[int]()
    for _ in range(4):
        cursor = reader.known()
        positions.append(cursor.position)
        marks.append(cursor.watermark - first.watermark)
    assert positions == [130, 140, 145, 145]
    assert marks == [0, 0, 3 * SECOND, 4 * SECOND]  # only at the tip


def test_requests_a_block_do_not_grow_with_the_keys() -> None:
    counts = {}
    for keys in (100, 10_000):
        fake = FakeNode(120)
        reader = Reader(fake)
        watched = {f"0014{n:040x}": None for n in range(keys)} | {OURS: None}
        reader.follow(watched)
        fake.requests = 0
        fake.mine(*([tx(f"p{n}", f"in{n}")] for n in range(10)))
        reader.follow(watched)
        assert len(reader.found) == 10
        counts[keys] = fake.requests
    assert counts[100] == counts[10_000] == 13  # tip, hashes, mempool, and one a block


def test_each_waiting_transaction_is_fetched_and_checked_once() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.wait(*(tx(f"w{n}", f"in{n}") for n in range(9)), tx("elsewhere", "x", THEIRS))
    for _ in range(3):
        reader.follow()
    assert (fake.asked["getrawtransaction"], fake.asked["gettxout"]) == (10, 9)
    assert len(set(reader.found)) == 9
    assert {f.as_of for f in reader.found} == {1_000_001 * SECOND}


def test_a_mempool_read_in_part_moves_no_watermark(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mempool, "FETCH", 4)
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.wait(*(tx(f"w{n}", f"in{n}") for n in range(9)))
    assert [reader.known().watermark > 0 for _ in range(3)] == [False, False, True]
    assert len(set(reader.found)) == 9


def test_one_that_vanished_before_it_was_fetched_moves_no_watermark() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.answers["getrawmempool"] = lambda _: [name("w")]
    fake.answers["getrawtransaction"] = lambda *_: {**tx("w", "in0"), "blockhash": name("b6")}
    assert reader.known().watermark == 0
    fake.mine([tx("w", "in0")])
    fake.answers.clear()
    assert reader.known().watermark > 0
    assert [f.place and f.place.position for f in reader.found] == [6]


def test_a_mempool_that_waits_on_another_branch_moves_no_watermark() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.answers["getbestblockhash"] = lambda: name("b4")  # another node behind the same address
    assert reader.known().watermark == 0
    fake.answers["getbestblockhash"] = lambda: name("other")
    assert reader.known().watermark == 0


def test_a_node_one_header_behind_is_read_and_moves_no_watermark() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    info(headers=6)(fake)
    fake.wait(tx("w", "in0"))
    assert (reader.known().watermark, len(reader.found)) == (0, 1)


def test_gone_is_said_only_after_the_lag_and_is_said_again_for_a_while() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.wait(tx("w", "in0"))
    reader.follow()
    fake.waiting.clear()
    for _ in range(11):  # seconds: the first listing without it, then the lag and the skew
        reader.follow()
    assert not [f for f in reader.found if f.gone]
    for _ in range(3):
        read = reader.follow()
        assert isinstance(read, Batch)
        assert [f.gone for f in read.found if f.money] == [True]  # in case that a commit was lost
    (gone,) = {f for f in reader.found if f.gone}
    assert (gone.movement, gone.as_of) == (coin("w"), 1_000_013 * SECOND)
    reader.time += source.KEEP
    reader.follow()
    assert not reader.source.pool.txs


def test_gone_needs_a_whole_mempool_at_our_tip() -> None:
    for method, result in (("getbestblockhash", name("other")), ("getrawmempool", [name("never fetched")])):
        fake = FakeNode(5)
        reader = Reader(fake)
        fake.wait(tx("w", "in0"))
        reader.follow()
        fake.waiting.clear()
        answers(method, result)(fake)
        fake.answers["getrawtransaction"] = lambda *_: {**tx("never fetched", "in1"), "blockhash": name("b5")}
        for _ in range(20):
            reader.follow()
        assert not [f for f in reader.found if f.gone]


def test_what_a_block_took_is_not_gone() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.wait(tx("w", "in0"))
    reader.follow()
    fake.mine([fake.waiting.pop(name("w"))])
    for _ in range(20):
        reader.follow()
    assert [bool(f.place) for f in reader.found if not f.gone] == [False, True]
    assert not [f for f in reader.found if f.gone]


def test_what_was_never_told_is_not_told_to_be_gone() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.wait(tx("w", "spent"))
    reader.follow()
    fake.waiting.clear()
    for _ in range(20):
        reader.follow()
    assert not reader.found
    assert not reader.source.pool.txs


def test_what_comes_back_begins_a_new_run() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.wait(tx("w", "in0"))
    reader.follow()
    fake.waiting.clear()
    for _ in range(12):
        reader.follow()
    fake.wait(tx("w", "in0"))
    reader.follow()
    assert sorted({(f.as_of // SECOND, f.gone) for f in reader.found}) == [
        (1_000_001, False),
        (1_000_013, True),
        (1_000_014, False),
    ]


def test_what_is_missing_after_a_break_is_not_gone() -> None:
    """The node may have lost its mempool: nobody looked."""
    for broken in (True, False):
        fake = FakeNode(5)
        reader = Reader(fake)
        fake.wait(tx("w", "in0"))
        reader.follow()
        fake.waiting.clear()
        if broken:
            fake.answers["getmempoolinfo"] = lambda: {"loaded": False}
            assert isinstance(reader.follow(), Unknown)
            del fake.answers["getmempoolinfo"]
        else:
            reader.time += 20 * SECOND
        for _ in range(30):
            reader.follow()
        assert {f.gone for f in reader.found} == {False}


def test_a_break_begins_no_new_run() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.wait(tx("w", "in0"))
    for _ in range(5):
        reader.follow()
        reader.time += 20 * SECOND
    assert len({f.as_of for f in reader.found}) == 1


def test_a_node_that_hears_nothing_moves_no_watermark() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    reader.follow()
    assert reader.known().watermark == reader.time - 10 * SECOND
    fake.answers["getnettotals"] = lambda: {"totalbytesrecv": fake.received}
    fake.mine([tx("a", "in1")])
    reader.time += source.DEAF
    before = reader.cursor.watermark
    for _ in range(3):
        read = reader.known()
    assert (read.position, read.watermark) == (6, before)
    del fake.answers["getnettotals"]
    assert reader.known().watermark > before


def test_of_a_mempool_that_is_too_large_the_blocks_are_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bursar.rails.bitcoin.mempool.MOST", 1)
    fake = FakeNode(5)
    reader = Reader(fake)
    reader.follow()
    fake.wait(tx("v", "in0"), tx("w", "in1"))
    fake.mine([tx("a", "in2")])
    assert reader.known().position == 6 and [bool(f.place) for f in reader.found] == [True]


def test_a_payment_and_its_rival_in_one_read() -> None:
    """Two nodes behind one address: the mempool of the one does not know the newest block of the other."""
    fake = FakeNode(5)
    reader = Reader(fake)
    reader.follow()
    fake.wait(tx("w", "in0"))
    fake.mine([tx("rival", "in0", THEIRS)])
    read = reader.follow()
    assert isinstance(read, Batch)
    assert [(f.movement, f.keys, f.place is None) for f in read.found] == [
        (f"{name('rival')}:in", (coin("in0"),), False),
        (coin("w"), (OURS,), True),
    ]


def test_what_spends_nothing_that_is_there_is_not_told_until_a_reorganisation() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.wait(tx("w", "spent"), tx("child", "w"), tx("other", "in0"))
    for _ in range(3):
        reader.follow()
    assert {f.tx for f in reader.found} == {name("other")}
    assert fake.asked["gettxout"] == 2
    fake.unspent = {coin("spent"), coin("in0")}
    fake.blocks[-1:] = []
    fake.mine([], [], mark="x")
    read = reader.follow()
    assert isinstance(read, Batch)
    assert read.rollback == 4
    assert {f.tx for f in read.found} == {name(t) for t in ("w", "child", "other")}


def test_a_chain_that_moves_while_it_is_read_is_read_again() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    reader.follow()
    fake.mine([])
    moved = {name("b6"): name("b3")}
    fake.answers["getblock"] = lambda hash, n: (
        fake.getblock(hash, n) | {"previousblockhash": moved.pop(hash, name("b5"))}
    )
    assert reader.known().position == 6
    fake.mine([])
    fake.answers["getblock"] = lambda hash, n: fake.getblock(hash, n) | {"previousblockhash": name("b3")}
    read = reader.follow()
    assert isinstance(read, Unknown)
    assert "moved while it was read" in read.reason


def test_a_watch_is_scanned_for_from_its_own_block_on() -> None:
    fake = FakeNode(5)
    fake.mine([tx("p6", "in0"), tx("q6", "in1", THEIRS)], [tx("p7", "in2"), tx("q7", "in3", THEIRS)])
    reader = Reader(fake)
    reader.follow()
    watches = [Watch("bitcoin:mainnet", OURS, 7), Watch("bitcoin:mainnet", THEIRS, 6)]
    scanned = asyncio.run(reader.source.scan(reader.cursor, watches))
    assert isinstance(scanned, Batch)
    assert [f.movement for f in scanned.found] == [coin(t) for t in ("cb6", "q6", "cb7", "p7", "q7")]


def test_a_scan_is_whole_or_unknown() -> None:
    fake = FakeNode(5)
    fake.mine([tx("p", "in0")], [], [])
    reader = Reader(fake)
    reader.follow()
    scanned = reader.scan(2)
    assert isinstance(scanned, Batch)
    assert [f.movement for f in scanned.found] == [coin("p")]
    assert scanned.cursor == reader.cursor
    nothing = reader.scan(9)
    assert isinstance(nothing, Batch)
    assert not nothing.found
    for change, reason in (
        (info(pruneheight=3), "thrown away"),
        (answers("getblockhash", name("x")), "not on our branch"),
        (answers("getblock", {"hash": "x"}), "another shape"),
    ):
        fake.answers.clear()
        change(fake)
        unknown = reader.scan(2)
        assert isinstance(unknown, Unknown)
        assert reason in unknown.reason


def test_a_chain_with_the_same_beginning_is_another_one() -> None:
    for fork, right in ((name("b3"), True), (name("a3"), False)):
        read = Reader(FakeNode(5), fork=(3, fork)).follow()
        assert isinstance(read, Batch) if right else isinstance(read, Unknown) and "has left" in read.reason


def test_a_tip_that_moves_while_the_mempool_is_listed_hides_nothing_that_has_left() -> None:
    fake = FakeNode(5)
    reader = Reader(fake)
    fake.wait(tx("w", "in0"))
    reader.follow()
    fake.waiting.clear()
    for _ in range(5):
        reader.follow()
    tips = iter([name("b5"), name("b5"), name("other")])
    fake.answers["getbestblockhash"] = lambda: next(tips, name("b5"))
    for _ in range(15):
        reader.follow()
    assert any(f.gone for f in reader.found)


def test_a_short_absence_begins_no_new_run() -> None:
    """Two nodes behind one address do not have the same mempool."""
    fake = FakeNode(5)
    reader = Reader(fake)
    for _ in range(10):
        fake.wait(tx("w", "in0"))
        reader.follow()
        fake.waiting.clear()
        reader.follow()
    assert len({f.as_of for f in reader.found}) == 1
