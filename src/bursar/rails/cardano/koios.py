"""Asks one Koios endpoint: PostgREST in front of several databases that may be behind, or on a fork, each call another.

It keeps the limits (requests, bytes of a body) and takes nothing for an answer but rows of the expected shape: an
error, `null` where data was asked for, a full page is Silent, never an empty list. It asks once: no retries, in no
layer below. Whether rows are complete, and of which branch, is judged by the source."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Annotated, TypeVar

import httpx
import msgspec
from msgspec import Meta, Struct

from ...core.errors import BursarError
from ...core.money import Instant
from .networks import SECOND

PAGE = 1_000  # rows; what has so many is cut short, without a word
PUBLIC_BYTES, REGISTERED_BYTES, LEAST_BYTES = 1_000, 5_000, 250  # of a body: "1 kB", "5 kB"
FRAME_BYTES = 50  # of a body around its list
ANSWER_LIMIT_BYTES = 64 << 20
INTERVAL, BURST = SECOND // 8, 16  # of calls of one name: below 100 in any 10 s
PAUSE = 60 * SECOND  # after a 429, for the calls of that name
TIMEOUT_SECONDS = 30  # Koios ends a query after as long


class Silent(BursarError):
    """No answer that anything follows from."""


Hash = Annotated[str, Meta(pattern=r"^[0-9a-f]{64}\Z")]
Count = Annotated[int, Meta(ge=0)]
Amount = Annotated[str, Meta(pattern=r"^[0-9]{1,20}\Z")]


class Header(Struct, frozen=True):
    hash: Hash
    block_height: Count
    block_time: Count  # seconds since 1970
    abs_slot: Count
    tx_count: Count
    parent_hash: Hash | None  # None: the first block


class Listed(Struct, frozen=True):
    block_hash: Hash
    tx_hash: Hash


class Input(Struct, frozen=True):
    tx_hash: Hash
    tx_index: Count


class Payee(Struct, frozen=True):
    bech32: str


class Quantity(Struct, frozen=True):
    policy_id: Annotated[str, Meta(pattern=r"^[0-9a-f]{56}\Z")]
    asset_name: Annotated[str, Meta(pattern=r"^([0-9a-f]{2}){0,32}\Z")]
    quantity: Amount  # its `decimals` are a cache's guess, and not read


class Output(Struct, frozen=True):
    payment_addr: Payee
    tx_hash: Hash
    tx_index: Count
    value: Amount  # lovelace
    asset_list: tuple[Quantity, ...]


class Tx(Struct, frozen=True):
    tx_hash: Hash
    block_hash: Hash
    block_height: Count
    tx_timestamp: Count
    valid_contract: bool  # False: inputs and outputs are those of its collateral
    inputs: tuple[Input, ...]
    outputs: tuple[Output, ...]


class Paid(Struct, frozen=True):
    address: str
    tx_hash: Hash
    tx_index: Count
    block_height: Count
    block_time: Count


T = TypeVar("T", bound=Struct)


class Endpoint:
    """`url` as in https://api.koios.rest/api/v1, with a token as password where there is one: https://:TOKEN@….
    Raises ValueError where it is malformed. Every method makes one request, or raises Silent."""

    def __init__(
        self,
        url: str,
        now: Callable[[], Instant],
        sleep: Callable[[float], Awaitable[object]] = asyncio.sleep,
        timeout_seconds: float = TIMEOUT_SECONDS,
    ) -> None:
        try:
            address = httpx.URL(url)
        except httpx.InvalidURL:
            address = httpx.URL("")
        if address.scheme not in ("http", "https") or not address.host:
            raise ValueError("the address of a Koios endpoint looks like https://api.koios.rest/api/v1")
        token = address.password
        self.url, self.name = address.copy_with(userinfo=b""), address.netloc.decode()
        self.now, self.sleep, self.timeout = now, sleep, timeout_seconds
        self.budget = REGISTERED_BYTES if token else PUBLIC_BYTES
        self.due: dict[str, Instant] = {}  # of each call: when its bucket is full again
        self.paused: dict[str, Instant] = {}
        self.heard: Instant = 0  # when it last answered
        headers = {"authorization": f"Bearer {token}"} if token else {}
        # What the environment says of proxies is not for us: the token would travel through them. Without TLS there is
        # nothing to verify, and loading certificates takes longer than many requests.
        self.client = httpx.AsyncClient(
            timeout=timeout_seconds, headers=headers, trust_env=False, verify=address.scheme == "https"
        )

    async def close(self) -> None:
        await self.client.aclose()

    async def headers(self, first: int, count: int) -> list[Header]:
        """Up to `count` blocks from a height on, oldest first."""
        rows = await self.blocks({"block_height": f"gte.{first}", "order": "block_height.asc", "limit": str(count)})
        if rows and rows[0].block_height != first:
            raise Silent("blocks: not from where they were asked for")
        return linked(rows)

    async def newest(self, count: int, upto: int | None = None) -> list[Header]:
        """Up to `count` blocks that end with the newest, or with the newest up to a height; oldest first."""
        bound = {} if upto is None else {"block_height": f"lte.{upto}"}
        rows = await self.blocks({"order": "block_height.desc", "limit": str(count), **bound})
        return linked(rows[::-1])

    async def blocks(self, query: Mapping[str, str]) -> list[Header]:
        return await self.ask(Header, "blocks", None, query)

    async def block_txs(self, blocks: Sequence[str]) -> list[Listed]:
        return await self.ask(Listed, "block_txs", {"_block_hashes": blocks}, {})

    async def tx_info(self, txs: Sequence[str]) -> list[Tx]:
        """Of those that it knows. With inputs, outputs and assets; asked for these, `null` is no answer."""
        body = {"_tx_hashes": txs, "_inputs": True, "_assets": True}
        return await self.ask(Tx, "tx_info", body, {})

    async def outputs(self, addresses: Sequence[str], after: int, query: Mapping[str, Sequence[str]]) -> list[Paid]:
        """What paid the addresses, spent or not. What it lacks: the first transaction of the first block with any at
        or above `after`; everything, where `after` is above its own tip."""
        body = {"_addresses": addresses, "_after_block_height": after}
        return await self.ask(Paid, "address_outputs", body, query)

    def batches(self, items: Sequence[str], taken: int = 0) -> Iterator[Sequence[str]]:
        """As many in one body as its bytes allow, beside the `taken` ones."""
        size = max((len(item) + 3 for item in items), default=1)  # with its quotes and a comma
        start = 0
        while start < len(items):  # the budget may shrink meanwhile
            some = items[start : start + max(1, (self.budget - FRAME_BYTES - taken) // size)]
            yield some
            start += len(some)

    async def ask(self, shape: type[T], call: str, body: object, query: Mapping[str, str | Sequence[str]]) -> list[T]:
        """One request. `body` None: GET."""
        await self.turn(call)
        columns = {"select": ",".join(shape.__struct_fields__)}
        content = msgspec.json.encode(body) if body else None
        status, span, answer = await self.send(call, content, {**query, **columns})
        if status == 429:
            self.paused[call] = self.now() + PAUSE
        if status == 413:
            self.budget = max(LEAST_BYTES, self.budget // 2)
        if status not in (200, 206):
            raise Silent(f"{call}: HTTP {status}")
        try:
            rows = msgspec.json.decode(answer, type=list[shape])  # type: ignore[valid-type]
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as err:
            raise Silent(f"{call}: an answer of another shape: {err}") from None
        if len(rows) >= PAGE or span not in ("", spanned(len(rows))):
            raise Silent(f"{call}: {len(rows)} rows, and more may have been meant")
        self.heard = self.now()
        return rows

    async def turn(self, call: str) -> None:
        """Wait for our turn; a clock that was set back makes nobody wait longer."""
        now = self.now()
        if 0 < self.paused.get(call, 0) - now <= PAUSE:
            raise Silent(f"{call}: it said 429, and is left in peace for a minute")
        due = self.due.get(call, 0)
        due = now if due > now + PAUSE else max(due, now - BURST * INTERVAL)
        self.due[call] = due + INTERVAL
        if due > now:
            await self.sleep((due - now) / SECOND)

    async def send(
        self, call: str, content: bytes | None, query: Mapping[str, str | Sequence[str]]
    ) -> tuple[int, str, bytes]:
        """The status, which rows it says that it sends, and what it sends."""
        method, headers = ("GET", {}) if content is None else ("POST", {"content-type": "application/json"})
        url, body = self.url.copy_with(path=f"{self.url.path}/{call}"), bytearray()
        try:
            async with (
                asyncio.timeout(self.timeout),
                self.client.stream(method, url, params=dict(query), content=content, headers=headers) as response,
            ):
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > ANSWER_LIMIT_BYTES:
                        raise Silent(f"{call}: an answer of more than {ANSWER_LIMIT_BYTES} bytes")
                return response.status_code, response.headers.get("content-range", ""), bytes(body)
        except TimeoutError:
            raise Silent(f"{call}: no answer within {self.timeout} s") from None
        except httpx.HTTPError as err:
            raise Silent(f"{call}: no answer: {type(err).__name__}") from None


def spanned(count: int) -> str:
    return f"0-{count - 1}/*" if count else "*/*"


def linked(rows: list[Header]) -> list[Header]:
    """Each is the child of the one before. Raises Silent."""
    for parent, row in pairwise(rows):
        if (row.parent_hash, row.block_height) != (parent.hash, parent.block_height + 1):
            raise Silent("blocks: they are no chain")
    return rows
