"""Follows a chain of Bitcoin's kind by block and by mempool, over one node. Keys are scripts in hex and outpoints
"txid:vout"; they are matched here, so a block costs the same requests however many there are.

A payment is an output to a watched script; whoever spends a watched outpoint, or what a payment spends, is a rival. The
mempool counts only where it waits on a block of our trail, and moves the watermark only at the node's tip. What only
other nodes have, and what this one forgot by crashing, it can't know."""

from __future__ import annotations

from collections.abc import Callable, Container, Mapping, Sequence

from msgspec.structs import replace

from ...core.facts import Batch, Cursor, Fact, Place, Watch
from ...core.money import Instant, Money
from ...core.outcomes import Unknown
from .addresses import CHAINS, Chain
from .mempool import Pool, Waiting
from .rpc import Block, Node, RpcMoved, RpcUnknown, Tip, Tx

SECOND = 1_000_000
SCALE, STEP = 11, 1_000  # minor units are a thousandth of the chain's smallest unit, as on Lightning
TRAIL = 50  # blocks: a deeper fork is for a person
WIDTH = 10  # blocks in one turn
STRIDE = 500  # hashes in one request of a scan
STALE = 24  # times what a block takes: older than that, the node is cut off
SKEW = 2 * SECOND  # that the clocks of two of us may be apart
DEAF = 180 * SECOND  # without a byte from its peers, who ping each other every two minutes: the node is cut off
KEEP = 3_600 * SECOND  # that "gone" is said again, in case that a commit was lost
TRIES = 3


class BitcoinSource:
    """`lag`: how long a transaction may take to this node, or be out of its mempool without having left."""

    def __init__(self, name: str, chain: Chain, node: Node, now: Callable[[], Instant], lag: Instant) -> None:
        self.name, self.chain, self.node, self.now, self.delay = name, chain, node, now, lag + SKEW
        self.pool = Pool(node, now, self.delay)
        self.right_network = False

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        """Up to WIDTH blocks. A cursor without a trail begins at its position, or at the tip: what is older is for
        `scan`."""
        reason = ""
        for _ in range(TRIES):
            try:
                return await self.read(cursor, keys)
            except RpcMoved as err:
                reason = err.reason
            except RpcUnknown as err:
                self.pool.interrupted()
                return Unknown(err.reason)
        return Unknown(reason)

    async def scan(self, upto: Cursor, watches: Sequence[Watch]) -> Batch | Unknown:
        """Block by block, however many: it is whole or Unknown."""
        try:
            return Batch(upto, tuple(await self.read_blocks(upto, watches)))
        except RpcUnknown as err:
            return Unknown(err.reason)

    async def read(self, cursor: Cursor, keys: Container[str]) -> Batch:
        asked = self.now()
        tip = await self.tip(asked)
        base, trail, ahead = await self.path(cursor, tip)
        branch = cursor.branch + (base < cursor.position)
        self.not_pruned(base + 1, tip)
        waits_on, whole, waiting = "", False, list[Waiting]()
        if base + len(ahead) == tip.height:
            waits_on, whole = await self.pool.read(asked)
        if whole:
            touched = [w for w in self.pool.listed() if any(thing in keys for thing in w.things)]
            waiting = await self.pool.confirmable(touched, waits_on)
        paid = {coin: w.tx.txid for w in waiting if pays(w.tx, keys) for coin in w.tx.inputs}
        found, parent = list[Fact](), trail[-1]
        for height, hash in enumerate(ahead, base + 1):
            block = await self.block(hash, height, parent)
            found += self.placed(block, keys, paid, branch)
            for tx in block.txs:
                self.pool.forget(tx.txid)
            parent = hash
        for w in waiting:
            found += self.facts(w.tx, keys, paid, self.waits(w, branch))
        watermark = cursor.watermark
        if whole and waits_on in (trail[-1], *ahead):
            found += self.left(keys, branch)
            if tip.headers <= tip.height and self.hears(asked):
                watermark = max(watermark, asked - self.delay)
        to = Cursor(base + len(ahead), (*trail, *ahead)[-TRAIL:], branch, watermark)
        return Batch(to, tuple(found), base if base < cursor.position else None)

    async def read_blocks(self, upto: Cursor, watches: Sequence[Watch]) -> list[Fact]:
        tip = await self.tip(self.now())
        first = min(watch.since for watch in watches)
        if not upto.trail or await self.node.hashes(upto.position, upto.position) != [upto.trail[-1]]:
            raise RpcUnknown("the node is not on our branch")
        if first <= upto.position:
            self.not_pruned(first, tip)
        found, parent = list[Fact](), ""
        for start in range(first, upto.position + 1, STRIDE):
            hashes = await self.node.hashes(start, min(start + STRIDE - 1, upto.position))
            for height, hash in enumerate(hashes, start):
                block = await self.block(hash, height, parent)
                keys = {watch.key for watch in watches if watch.since <= height}
                found += self.placed(block, keys, {}, upto.branch)
                parent = hash
        if parent and parent != upto.trail[-1]:
            raise RpcUnknown("the node has left our branch")
        return found

    async def tip(self, asked: Instant) -> Tip:
        """Of a node that is fit to be asked. Raises RpcUnknown."""
        if not self.right_network:
            (genesis,) = await self.node.hashes(0, 0)
            if genesis != self.chain.genesis:
                whose = next((c.name for c in CHAINS.values() if c.genesis == genesis), "a network not known here")
                raise RpcUnknown(f"the node is on {whose}, not on {self.chain.name}")
            if self.chain.fork:
                height, ours = self.chain.fork
                if await self.node.hashes(height, height) != [ours]:
                    raise RpcUnknown(f"the node is on a chain that has left {self.chain.name} long ago")
            self.right_network = True
        tip = await self.node.tip()
        if tip.initial_download:
            raise RpcUnknown(f"the node is still loading the chain: it has {tip.height} blocks")
        if tip.headers > tip.height + 1:  # by one it is whenever a block comes
            raise RpcUnknown(f"the node is behind: it has {tip.height} of {tip.headers} blocks")
        age = asked // SECOND - tip.median_time
        if self.chain.network == "mainnet" and age > STALE * self.chain.block_seconds:
            raise RpcUnknown(f"the node has no block of the last {age // 3600} hours: it is behind, or cut off")
        return tip

    async def path(self, cursor: Cursor, tip: Tip) -> tuple[int, tuple[str, ...], list[str]]:
        """The last position that we and the node agree on, the trail up to it, the next hashes. Raises RpcUnknown."""
        base, trail = cursor.position, cursor.trail
        if tip.height < base:
            raise RpcUnknown(f"the node is behind us: it has {tip.height} blocks, we have read {base}")
        if not trail:
            base = base or tip.height
            return base, tuple(await self.node.hashes(max(0, base - TRAIL + 1), base)), []
        if tip.hash == trail[-1]:
            return base, trail, []
        here, *ahead = await self.node.hashes(base, min(base + WIDTH, tip.height))
        if here != trail[-1]:
            self.right_network = False  # it may be another node now
            theirs = await self.node.hashes(base - len(trail) + 1, base)
            kept = next((n for n, (a, b) in enumerate(zip(trail, theirs, strict=True)) if a != b), len(trail))
            if not kept:
                raise RpcUnknown(f"the chain has forked below the last {len(trail)} blocks that we have read")
            base, trail = base - len(trail) + kept, trail[:kept]
            ahead = await self.node.hashes(base + 1, min(base + WIDTH, tip.height))
        return base, trail, ahead

    def hears(self, asked: Instant) -> bool:
        """A node that is cut off shows an unchanged chain and mempool for hours: its silence is not the rail's."""
        alone = self.chain.block_seconds == 1  # a chain for tests, whose node has no peers
        return alone or self.pool.heard > asked - DEAF

    def not_pruned(self, height: int, tip: Tip) -> None:
        if height < tip.pruned_below:
            raise RpcUnknown(f"we need block {height}, and the node has thrown away those below {tip.pruned_below}")

    async def block(self, hash: str, height: int, parent: str) -> Block:
        """Raises RpcUnknown: it does not stand there, upon `parent` ("": whatever it is)."""
        block = await self.node.block(hash)
        if block is None or block.header.height != height or parent not in ("", block.header.previous):
            raise RpcMoved("the chain moved while it was read")
        return block

    # -- facts --------------------------------------------------------------------------------
    def placed(self, block: Block, keys: Container[str], paid: Mapping[str, str], branch: int) -> list[Fact]:
        head, out = block.header, list[Fact]()
        place = Place(head.height, head.hash, head.time * SECOND)
        for tx in block.txs:
            if pays(tx, keys) or any(coin in keys or coin in paid for coin in tx.inputs):
                base = Fact(self.name, f"{tx.txid}:in", tx.txid, branch, self.now(), spends=tx.inputs, place=place)
                out += self.facts(tx, keys, paid, base)
        return out

    def waits(self, w: Waiting, branch: int) -> Fact:
        return Fact(self.name, f"{w.tx.txid}:in", w.tx.txid, branch, w.first, spends=w.tx.inputs)

    def left(self, keys: Container[str], branch: int) -> list[Fact]:
        """What we had told of and what is in the mempool no more; a block that took it was read before."""
        out = list[Fact]()
        for w in self.pool.missing():
            w.gone = w.gone or self.now()
            if w.can_confirm and self.now() <= w.gone + KEEP:
                out += self.facts(w.tx, keys, {}, replace(self.waits(w, branch), gone=True, as_of=w.gone))
            else:
                self.pool.forget(w.tx.txid)
        return out

    def facts(self, tx: Tx, keys: Container[str], paid: Mapping[str, str], base: Fact) -> list[Fact]:
        """One for each output that pays a key, and one for what it spends of what is watched or pays us elsewhere."""
        matures = base.place.position + self.chain.coinbase_maturity - 1 if base.place and tx.coinbase else 0
        out = [
            replace(
                base,
                movement=f"{tx.txid}:{output.vout}",
                keys=(output.script,),
                money=Money(self.chain.asset, output.amount_sats * STEP),
                matures=matures,
            )
            for output in tx.outputs
            if output.amount_sats and output.script in keys
        ]
        spent = tuple(coin for coin in tx.inputs if coin in keys or paid.get(coin, tx.txid) != tx.txid)
        return [*out, replace(base, keys=spent)] if spent else out


def pays(tx: Tx, keys: Container[str]) -> bool:
    return any(output.script in keys for output in tx.outputs)
