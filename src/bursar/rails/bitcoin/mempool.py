"""What waits in a node's mempool, kept from read to read: each transaction is fetched once, and it is known since when
each has waited without a break.

It knows no keys and makes no facts. A new process begins with nothing, so what was there before begins a new run."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Sequence

from msgspec import Struct

from ...core.money import Instant
from .rpc import BATCH, Node, RpcMoved, Tx

FETCH = 2_000  # transactions that one read fetches: a full mempool takes minutes of reads
MOST = 300_000  # ... that are held, about a kilobyte each: of more only the blocks are read


class Waiting(Struct):
    tx: Tx
    first: Instant  # when this run of sightings began
    things: tuple[str, ...]  # the scripts that it pays and the outpoints that it spends
    can_confirm: bool = False  # it could, once: it has been told of
    tried: str = ""  # the tip on which it could not
    missing: Instant = 0  # when the first listing without it was asked for; 0: it is listed
    gone: Instant = 0  # when it was found to have left


class Pool:
    """`patience`: for how long a transaction must be missing, in listing after listing, before it counts as gone."""

    def __init__(self, node: Node, now: Callable[[], Instant], patience: Instant) -> None:
        self.node, self.now, self.patience = node, now, patience
        self.txs: dict[str, Waiting] = {}
        self.asked: Instant = 0  # the newest listing
        self.received, self.heard = 0, 0  # bytes that the node had had by then, and when they last grew

    async def read(self, asked: Instant) -> tuple[str, bool]:
        """The tip that all this waits on; and whether we hold all that waits. Raises RpcUnknown."""
        broken = self.asked < asked - self.patience
        pool = await self.node.mempool()
        if 0 < self.received < pool.received:
            self.heard = asked
        self.received, self.asked = pool.received, asked
        self.miss(pool.txids, asked, broken=broken)
        if len(pool.txids) > MOST:
            return pool.tip, False
        new = list(pool.txids - self.txs.keys())[:FETCH]
        for start in range(0, len(new), BATCH):
            fetched = await self.node.transactions(new[start : start + BATCH])
            self.txs |= {txid: waiting(tx, self.now()) for txid, tx in fetched.items()}
        return pool.tip, pool.txids <= self.txs.keys()

    def interrupted(self) -> None:
        """The node did not answer, and may come back without what waited."""
        self.asked = 0

    def miss(self, listed: Container[str], asked: Instant, *, broken: bool) -> None:
        """`broken`: nobody looked for a while, and the node may have lost its mempool meanwhile: what is not listed any
        more is forgotten, for nobody knows whether it has left."""
        for txid, known in list(self.txs.items()):
            if txid not in listed:
                known.missing = known.missing or asked
                if broken and not known.gone:
                    del self.txs[txid]
            elif known.gone or known.missing and known.missing < asked - self.patience:
                self.txs[txid] = waiting(known.tx, self.now())
            else:
                known.missing = 0

    def listed(self) -> Iterator[Waiting]:
        return (w for w in self.txs.values() if not w.missing)

    def missing(self) -> list[Waiting]:
        """What has left: only a whole read says so."""
        return [w for w in self.txs.values() if w.gone or w.missing and w.missing < self.asked - self.patience]

    def forget(self, txid: str) -> None:
        self.txs.pop(txid, None)

    async def confirmable(self, asked: Sequence[Waiting], tip: str) -> list[Waiting]:
        """Those of a whole read that can still be mined: btcd keeps for good what a block has made impossible.
        Raises RpcUnknown."""
        unsure = [w for w in asked if not w.can_confirm and w.tried != tip]
        needed = {w.tx.txid: self.coins(w.tx) for w in unsure}
        coins, there = sorted(set().union(*needed.values())), set[str]()
        for start in range(0, len(coins), BATCH):
            found, at = await self.node.unspent(coins[start : start + BATCH])
            if at != tip:  # what seems to be spent may be so by the very one that we ask about
                raise RpcMoved("the tip moved while the mempool was read")
            there |= found
        for w in unsure:
            w.can_confirm, w.tried = needed[w.tx.txid] <= there, tip
        return [w for w in asked if w.can_confirm]

    def coins(self, tx: Tx) -> set[str]:
        """The outpoints outside the mempool that it, and all that it waits for, spend."""
        out, to_see, seen = set[str](), [tx], {tx.txid}
        while to_see:
            for outpoint in to_see.pop().inputs:
                parent = self.txs.get(outpoint[:64])
                if parent is None or parent.missing:
                    out.add(outpoint)
                elif parent.tx.txid not in seen:
                    seen.add(parent.tx.txid)
                    to_see.append(parent.tx)
        return out


def waiting(tx: Tx, now: Instant) -> Waiting:
    return Waiting(tx, now, (*(output.script for output in tx.outputs), *tx.inputs))
