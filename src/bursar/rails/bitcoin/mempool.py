"""What waits in a node's mempool, kept from read to read: each transaction is fetched once, and it is known since when
each has waited without a break.

It knows no keys and makes no facts. A new process begins with nothing, so what was there before begins a new run."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

from msgspec import Struct

from ...core.money import Instant
from .rpc import BATCH, Node, RpcMoved, RpcUnknown, Tx

FETCH = 2_000  # transactions that one read fetches: a full mempool takes a minute of reads
MOST = 300_000  # ... that may wait: about a kilobyte of memory each


class Waiting(Struct):
    tx: Tx
    first: Instant  # of this run of sightings
    last: Instant  # when the newest listing with it was asked for
    things: tuple[str, ...]  # the scripts that it pays and the outpoints that it spends
    can_confirm: bool = False  # it could, once: it has been told of
    tried: str = ""  # the tip on which it could not
    gone: Instant = 0  # when it was found to have left


class Pool:
    """`patience`: for how long a transaction may be missing in a listing before it counts as gone."""

    def __init__(self, node: Node, now: Callable[[], Instant], patience: Instant) -> None:
        self.node, self.now, self.patience = node, now, patience
        self.txs: dict[str, Waiting] = {}
        self.asked: Instant = 0

    async def read(self, asked: Instant) -> tuple[str, bool]:
        """The tip that all this waits on; and whether we hold all that waits. Raises RpcUnknown."""
        pool = await self.node.mempool()
        if len(pool.txids) > MOST:
            raise RpcUnknown(f"{len(pool.txids)} transactions wait in the mempool, more than {MOST}")
        self.asked = asked
        for txid in pool.txids & self.txs.keys():
            known = self.txs[txid]
            if known.gone or known.last < asked - self.patience:
                self.txs[txid] = waiting(known.tx, self.now(), asked)
            known.last = asked
        new = list(pool.txids - self.txs.keys())[:FETCH]
        for start in range(0, len(new), BATCH):
            fetched = await self.node.transactions(new[start : start + BATCH])
            self.txs |= {txid: waiting(tx, self.now(), asked) for txid, tx in fetched.items()}
        return pool.tip, pool.txids <= self.txs.keys()

    def listed(self) -> Iterator[Waiting]:
        return (w for w in self.txs.values() if w.last == self.asked)

    def missing(self) -> list[Waiting]:
        """What has left: only a whole read says so."""
        return [w for w in self.txs.values() if w.last < self.asked - self.patience]

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
                if parent is None or parent.last < self.asked:
                    out.add(outpoint)
                elif parent.tx.txid not in seen:
                    seen.add(parent.tx.txid)
                    to_see.append(parent.tx)
        return out


def waiting(tx: Tx, now: Instant, asked: Instant) -> Waiting:
    return Waiting(tx, now, asked, (*(output.script for output in tx.outputs), *tx.inputs))
