"""Stub nodes that answer from a chain in memory and count the requests: one of Bitcoin's kind, and a Koios.

They are as quick as can be and never wrong: what stands behind them is measured, not they."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import httpx
from msgspec import Struct, field, json

from bursar.engine import clock
from bursar.rails.bitcoin.addresses import CHAINS
from bursar.rails.cardano.networks import NETWORKS

REGTEST, PREPROD = CHAINS["bitcoin", "regtest"], NETWORKS["preprod"]
BEGUN = 60  # blocks that are there from the start
SECOND = 1_000_000


class Paid(Struct, frozen=True):
    """A transaction that pays one address, and spends what nobody else does."""

    txid: str
    to: str
    minor: int
    spends: str


class Block(Struct):
    height: int
    hash: str
    parent: str
    time: int
    txs: list[Paid] = field(default_factory=list)


class Ledger:
    """Blocks and a mempool."""

    def __init__(self, genesis: str) -> None:
        start = clock.now() // SECOND - 2 * BEGUN
        self.blocks = [Block(0, genesis, "", start)]
        self.pool: dict[str, Paid] = {}
        self.serial = 0
        for _ in range(BEGUN):
            self.mine()

    def pay(self, to: str, minor: int) -> None:
        self.serial += 1
        txid = f"{self.serial:064x}"
        self.pool[txid] = Paid(txid, to, minor, f"{self.serial + (1 << 128):064x}")

    def mine(self) -> None:
        last = self.blocks[-1]
        txs, self.pool = list(self.pool.values()), {}
        self.blocks.append(Block(last.height + 1, f"{last.height + 1 + (1 << 64):064x}", last.hash, last.time + 1, txs))

    @property
    def tip(self) -> Block:
        return self.blocks[-1]


class Stub:
    """One client's way to a ledger."""

    def __init__(self, ledger: Ledger) -> None:
        self.ledger, self.requests = ledger, 0
        self.by_hash: dict[str, Block] = {}

    @property
    def transport(self) -> httpx.MockTransport:
        return httpx.MockTransport(self.answer)

    def answer(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        return httpx.Response(200, content=json.encode(self.reply(request)))

    def reply(self, request: httpx.Request) -> object:
        raise KeyError(request.url.path)

    def block(self, hash: str) -> Block:
        if hash not in self.by_hash:
            self.by_hash = {block.hash: block for block in self.ledger.blocks}
        return self.by_hash[hash]


class BitcoinStub(Stub):
    """JSON-RPC as Bitcoin Core speaks it, as far as a source asks."""

    def reply(self, request: httpx.Request) -> object:
        asked = json.decode(request.content)
        return [self.call(one) for one in asked] if isinstance(asked, list) else self.call(asked)

    def call(self, one: Mapping[str, Any]) -> dict[str, object]:
        result: object = getattr(self, one["method"])(*one["params"])
        return {"id": one["id"], "result": result, "error": None}

    def getblockchaininfo(self) -> object:
        tip = self.ledger.tip
        return {
            "chain": "regtest",
            "blocks": tip.height,
            "headers": tip.height,
            "bestblockhash": tip.hash,
            "mediantime": tip.time,
        }

    def getblockhash(self, height: int) -> object:
        return self.ledger.blocks[height].hash

    def getbestblockhash(self) -> object:
        return self.ledger.tip.hash

    def getmempoolinfo(self) -> object:
        return {"loaded": True}

    def getnettotals(self) -> object:
        return {"totalbytesrecv": 0}

    def getrawmempool(self, _verbose: bool) -> object:
        return list(self.ledger.pool)

    def getrawtransaction(self, txid: str, _verbose: int) -> object:
        return transaction(self.ledger.pool[txid])

    def gettxout(self, _txid: str, _vout: int, _mempool: bool) -> object:
        return {"value": 1}

    def getblock(self, hash: str, _verbosity: int) -> object:
        block = self.block(hash)
        reward = {"txid": hash[::-1], "vin": [{"coinbase": "00"}], "vout": [output("", 50 * 10**11)]}
        return {
            "hash": hash,
            "height": block.height,
            "time": block.time,
            "confirmations": self.ledger.tip.height - block.height + 1,
            "previousblockhash": block.parent,
            "tx": [reward, *map(transaction, block.txs)],
        }


def transaction(tx: Paid) -> object:
    return {"txid": tx.txid, "vin": [{"txid": tx.spends, "vout": 0}], "vout": [output(tx.to, tx.minor)]}


def output(script: str, minor: int) -> object:
    return {"n": 0, "value": minor / 10**11, "scriptPubKey": {"hex": script}}


class KoiosStub(Stub):
    """Koios as far as a source that follows asks."""

    def reply(self, request: httpx.Request) -> object:
        call, query = request.url.path.rpartition("/")[2], request.url.params
        if call == "blocks":
            return self.blocks(query)
        body: dict[str, list[str]] = json.decode(request.content)
        if call == "block_txs":
            blocks = [self.block(hash) for hash in body["_block_hashes"]]
            return [{"block_hash": block.hash, "tx_hash": tx.txid} for block in blocks for tx in block.txs]
        if call == "tx_info":
            wanted = set(body["_tx_hashes"])
            return [self.info(b, tx) for b in self.ledger.blocks[-20:] for tx in b.txs if tx.txid in wanted]
        return super().reply(request)

    def blocks(self, query: httpx.QueryParams) -> object:
        limit, height = int(query["limit"]), query.get("block_height", "")
        if height.startswith("gte."):
            rows = self.ledger.blocks[int(height[4:]) :][:limit]
        else:
            rows = self.ledger.blocks[: -limit - 1 : -1]
        return [
            {
                "hash": b.hash,
                "block_height": b.height,
                "block_time": b.time,
                "abs_slot": b.time - PREPROD.start,
                "tx_count": len(b.txs),
                "parent_hash": b.parent or None,
            }
            for b in rows
        ]

    def info(self, block: Block, tx: Paid) -> object:
        paid = {
            "payment_addr": {"bech32": tx.to},
            "tx_hash": tx.txid,
            "tx_index": 0,
            "value": str(tx.minor),
            "asset_list": [],
        }
        return {
            "tx_hash": tx.txid,
            "block_hash": block.hash,
            "block_height": block.height,
            "tx_timestamp": block.time,
            "valid_contract": True,
            "inputs": [{"tx_hash": tx.spends, "tx_index": 0}],
            "outputs": [paid],
        }
