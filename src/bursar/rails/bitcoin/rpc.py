"""Reads a node of Bitcoin's kind over JSON-RPC: Bitcoin Core and its like, and btcd, whose answers differ in shape.

It hides those differences and nothing else: it keeps no state, judges no payment, sends no transaction and never asks
twice. What is not an answer of the expected shape is `RpcUnknown`, never "no"."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from decimal import Decimal
from typing import Annotated, TypeVar

import httpx
import msgspec
from msgspec import Meta, Raw, Struct

from ...core.errors import BursarError

SATS = 100_000_000  # in one coin
MOST_COINS = 10**11
BATCH = 20  # questions in one request: twenty of the largest relayed transactions fit the limit of an answer
ANSWER_LIMIT_BYTES = 64 << 20  # the JSON of the largest block is about half of that
NOT_FOUND = -5
NOT_NOW = (-28, -9, -10)  # warming up, not connected, in its initial download
GENESIS_PARENT = "0" * 64
NULL = Raw(b"null")


class RpcUnknown(BursarError):
    """The node did not answer, or not in a shape that we understand: nothing follows from it."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class RpcMoved(RpcUnknown):
    """The chain moved between two questions that belong together: ask them again."""


class RpcError(RpcUnknown):
    """The node's own error. To whoever does not know the code it is as good as no answer."""

    def __init__(self, method: str, code: int, message: str) -> None:
        super().__init__(f"{method}: error {code}: {message}")
        self.method, self.code, self.message = method, code, message


class Tip(Struct, frozen=True):
    chain: str  # the node's own word for its network; block 0 tells more
    height: int
    hash: str
    headers: int  # of the best header that it knows: above `height` it is behind
    median_time: int  # seconds since 1970; btcd does not say that it is behind, an old tip does
    initial_download: bool  # its answers describe the past; False also where the node does not say
    pruned_below: int  # blocks under this height are gone; 0: none, or the node does not say


class Header(Struct, frozen=True):
    hash: str
    height: int
    previous: str  # "" before block 0
    time: int  # seconds since 1970, by the miner's clock; may go back from block to block


class Output(Struct, frozen=True):
    vout: int
    script: str  # hex
    amount_sats: int


class Tx(Struct, frozen=True):
    txid: str
    inputs: tuple[str, ...]  # the outpoints "txid:vout" that it spends; none in a coinbase
    outputs: tuple[Output, ...]  # without Litecoin's confidential ones
    coinbase: bool


class Block(Struct, frozen=True):
    header: Header
    txs: tuple[Tx, ...]


class Mempool(Struct, frozen=True):
    tip: str  # hash of the block that was the best one before and after the reading
    txids: frozenset[str]
    received: int  # bytes that the node has had from its peers since it was started


class _Fault(Struct):
    code: int
    message: str


class _Answer(Struct):
    id: int | None = None
    result: Raw = Raw(b"null")
    error: _Fault | None = None


_Hash = Annotated[str, Meta(min_length=64, max_length=64)]
_Count = Annotated[int, Meta(ge=0)]


class _Info(Struct):
    chain: str
    blocks: _Count
    headers: int
    bestblockhash: _Hash
    mediantime: int
    initialblockdownload: bool = False
    pruneheight: _Count = 0


class _Header(Struct):
    hash: _Hash
    height: _Count
    time: int
    confirmations: int
    previousblockhash: _Hash = GENESIS_PARENT


class _In(Struct):
    txid: _Hash | None = None
    vout: _Count | None = None
    coinbase: str | None = None
    ismweb: bool = False


class _Script(Struct):
    hex: str


class _Out(Struct):
    n: _Count | None = None
    value: Decimal | None = None
    scriptPubKey: _Script | None = None
    ismweb: bool = False


class _Tx(Struct):
    txid: _Hash
    vin: list[_In]
    vout: list[_Out]
    blockhash: str = ""


class _Block(_Header, kw_only=True):
    tx: list[_Tx] = []
    rawtx: list[_Tx] = []  # btcd's name


class _Pool(Struct):
    loaded: bool = True  # False while Core reads what had waited when it was stopped; btcd forgets that and is silent


class _Totals(Struct):
    totalbytesrecv: _Count


class _Coin(Struct):
    value: Decimal


T = TypeVar("T")


class Node:
    """`url` as in http://user:password@127.0.0.1:8332. Raises ValueError where it is malformed.

    Every method makes one request that is answered in whole within `timeout_seconds`, or raises RpcUnknown."""

    def __init__(self, url: str, timeout_seconds: int = 30, transport: httpx.AsyncBaseTransport | None = None) -> None:
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            address = httpx.URL("")
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError("a node's address looks like http://user:password@127.0.0.1:8332")
        self._url = address.copy_with(userinfo=b"")  # httpx writes it into the application's log
        self._timeout = timeout_seconds
        # What the environment says of proxies is not for us: the password would travel through them. Without TLS there
        # is nothing to verify, and loading certificates takes longer than many requests.
        self._client = httpx.AsyncClient(
            auth=(address.username, address.password) if address.userinfo else None,
            timeout=timeout_seconds,
            transport=transport,
            trust_env=False,
            verify=address.scheme == "https",
        )

    async def close(self) -> None:
        await self._client.aclose()

    async def ask(self, shape: type[T], method: str, *params: object) -> T:
        """One call. Raises RpcUnknown, RpcError."""
        (raw,) = await self._exchange([(method, params)])
        return self._read(shape, method, raw)

    async def tip(self) -> Tip:
        info = await self.ask(_Info, "getblockchaininfo")
        return Tip(
            info.chain,
            info.blocks,
            info.bestblockhash,
            info.headers,
            info.mediantime,
            info.initialblockdownload,
            info.pruneheight,
        )

    async def hashes(self, first: int, last: int) -> list[str]:
        """Of the best chain's blocks from height `first` to `last`, in one request. Above the tip: RpcUnknown."""
        calls = [("getblockhash", (height,)) for height in range(first, last + 1)]
        return [self._read(_Hash, "getblockhash", raw) for raw in (await self._exchange(calls) if calls else ())]

    async def block(self, hash: str) -> Block | None:
        """With all transactions. None: not on the best chain. A block that the node does not hold, pruned or never
        seen, is RpcUnknown."""
        try:
            wire = await self.ask(_Block, "getblock", hash, 2)
        except RpcError as error:
            if _orphaned(error):
                return None
            raise
        header = _header(wire, hash)
        if header is None:
            return None
        txs = tuple(map(_tx, wire.tx or wire.rawtx))
        if not txs or not txs[0].coinbase or any(tx.coinbase for tx in txs[1:]):
            raise RpcUnknown(f"getblock: {hash} does not begin with its one coinbase")
        return Block(header, txs)

    async def mempool(self) -> Mempool:
        """All that waits, and the tip it waits on; RpcUnknown where the tip moved meanwhile, or where the node has not
        yet read back all that waited before it was started. Waiting does not mean that it can still confirm: btcd keeps
        what a block has made impossible."""
        best: tuple[str, tuple[object, ...]] = ("getbestblockhash", ())
        info, totals, first, listed, last = await self._exchange(
            [("getmempoolinfo", ()), ("getnettotals", ()), best, ("getrawmempool", (False,)), best]
        )
        tip = self._read(_Hash, "getbestblockhash", first)
        if tip != self._read(_Hash, "getbestblockhash", last):
            raise RpcMoved("the tip moved while the mempool was read")
        if not self._read(_Pool, "getmempoolinfo", info).loaded:
            raise RpcUnknown("the node is still reading its mempool from disk")
        received = self._read(_Totals, "getnettotals", totals).totalbytesrecv
        return Mempool(tip, frozenset(self._read(list[_Hash], "getrawmempool", listed)), received)

    async def transactions(self, txids: Sequence[str]) -> dict[str, Tx]:
        """Those of at most BATCH that wait in the mempool now: one that is in a block, or unknown, is left out."""
        if len(txids) > BATCH:
            raise ValueError(f"more than {BATCH} transactions in one request")
        raws = await self._exchange([("getrawtransaction", (txid, 1)) for txid in txids]) if txids else []
        found = {}
        for txid, raw in zip(txids, raws, strict=True):
            if isinstance(raw, RpcError) and raw.code == NOT_FOUND:
                continue
            wire = self._read(_Tx, "getrawtransaction", raw)
            if wire.txid != txid:
                raise RpcUnknown(f"getrawtransaction: asked for {txid}, got {wire.txid}")
            if not wire.blockhash:
                found[txid] = _tx(wire)
        return found

    async def unspent(self, outpoints: Sequence[str]) -> tuple[frozenset[str], str]:
        """Which of at most BATCH outpoints no block has spent, whatever waits; and the tip at the end of the asking."""
        if len(outpoints) > BATCH:
            raise ValueError(f"more than {BATCH} outpoints in one request")
        coins = [("gettxout", (o[:64], int(o[65:]), False)) for o in outpoints]
        *raws, last = await self._exchange([*coins, ("getbestblockhash", ())])
        found = [None if raw == NULL else self._read(_Coin, "gettxout", raw) for raw in raws]
        there = frozenset(o for o, coin in zip(outpoints, found, strict=True) if coin is not None)
        return there, self._read(_Hash, "getbestblockhash", last)

    def _read(self, shape: type[T], method: str, raw: Raw | RpcError) -> T:
        if isinstance(raw, RpcError):
            raise raw
        try:
            return msgspec.json.decode(raw, type=shape)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
            raise RpcUnknown(f"{method}: an answer of another shape: {error}") from None

    async def _exchange(self, calls: Sequence[tuple[str, Sequence[object]]]) -> list[Raw | RpcError]:
        """One request; the answers in the order of the calls."""
        bodies = [{"jsonrpc": "1.0", "id": i, "method": m, "params": p} for i, (m, p) in enumerate(calls)]
        status, body = await self._post(msgspec.json.encode(bodies if len(bodies) > 1 else bodies[0]))
        try:
            answers = msgspec.json.decode(body, type=_Answer | list[_Answer])
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            raise RpcUnknown(f"not an answer of a node (HTTP {status})") from None
        by_id = {a.id: a for a in (answers if isinstance(answers, list) else [answers])}
        out: list[Raw | RpcError] = []
        for i, (method, _) in enumerate(calls):
            answer = by_id.get(i)
            if answer is None or (status >= 300 and answer.error is None):
                raise RpcUnknown(f"{method}: no answer to it (HTTP {status})")
            if answer.error is None:
                out.append(answer.result)
            elif answer.error.code in NOT_NOW:
                raise RpcUnknown(f"the node is not ready: {answer.error.message}")
            else:
                out.append(RpcError(method, answer.error.code, answer.error.message))
        return out

    async def _post(self, content: bytes) -> tuple[int, bytes]:
        headers = {"content-type": "application/json", "accept-encoding": "identity"}
        body = bytearray()
        try:
            async with (
                asyncio.timeout(self._timeout),
                self._client.stream("POST", self._url, content=content, headers=headers) as response,
            ):
                if response.status_code in (401, 403):
                    raise RpcUnknown("the node refuses the user or the password")
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > ANSWER_LIMIT_BYTES:
                        raise RpcUnknown(f"an answer of more than {ANSWER_LIMIT_BYTES} bytes")
                return response.status_code, bytes(body)
        except TimeoutError:
            raise RpcUnknown(f"no answer within {self._timeout} s") from None
        except httpx.HTTPError as error:
            raise RpcUnknown(f"no answer: {type(error).__name__}: {error}") from None


def _orphaned(error: RpcError) -> bool:
    return error.code == -32603 and "not in the main chain" in error.message  # btcd


def _header(wire: _Header, asked: str) -> Header | None:
    if wire.hash != asked:
        raise RpcUnknown(f"asked for block {asked}, got {wire.hash}")
    if wire.confirmations < 1:
        return None
    previous = "" if wire.previousblockhash == GENESIS_PARENT else wire.previousblockhash
    if not previous and wire.height:
        raise RpcUnknown(f"block {asked} at height {wire.height} without a predecessor")
    return Header(wire.hash, wire.height, previous, wire.time)


def _tx(wire: _Tx) -> Tx:
    coinbase = len(wire.vin) == 1 and wire.vin[0].coinbase is not None
    inputs = [] if coinbase else [f"{i.txid}:{i.vout}" for i in wire.vin if not i.ismweb]
    if not coinbase and any(i.txid is None or i.vout is None for i in wire.vin if not i.ismweb):
        raise RpcUnknown(f"transaction {wire.txid} with an input that spends nothing")
    return Tx(wire.txid, tuple(inputs), tuple(_output(wire.txid, o) for o in wire.vout if not o.ismweb), coinbase)


def _output(txid: str, wire: _Out) -> Output:
    if wire.n is None or wire.value is None or wire.scriptPubKey is None:
        raise RpcUnknown(f"transaction {txid} with an output in part")
    return Output(wire.n, wire.scriptPubKey.hex, _sats(wire.value))


def _sats(coins: Decimal) -> int:
    """Exactly: a node writes coins as a JSON number, which is read as text."""
    if not coins.is_finite() or not 0 <= coins <= MOST_COINS or (sats := coins * SATS) != int(sats):
        raise RpcUnknown(f"{coins} is not an amount of coins")
    return int(sats)
