"""Follows Cardano through Koios by block, so that it costs the same for any number of watched addresses.

A block has been read when as many transactions came as it has and its parent is ours: that proves absence on its
branch, whichever databases answered. Silence counts where nobody is known to be on another branch that is as long. Old
blocks are searched by address, with a witness. No mempool: the first sighting is a block."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Iterator, Mapping, Sequence, Set

from msgspec import Struct
from msgspec.structs import replace

from ...core.facts import Batch, Cursor, Fact, Place, Watch
from ...core.money import Money
from ...core.outcomes import Unknown
from .koios import PAGE, Endpoint, Header, Output, Paid, Silent, Tx
from .networks import ADA, SECOND, Network

TRAIL = 120  # block hashes, about 40 minutes: a deeper fork is an operator's matter
WIDTH = 10  # blocks of one read
NEAR = 20  # a scan reads so many of the newest blocks whole, and searches the older ones by address
KEPT = 64  # blocks in memory: what stands under a hash never changes
PAGES = 20  # of one search
STALE = 180 * SECOND  # without a block: on the chain that happens once in 10,000
SAY = 300 * SECOND  # an endpoint that was heard of since has a say in what is silence
ACCOMPANYING = "/accompanying"  # ends the movement of lovelace that came with tokens, as every token needs some
COLLATERAL = ".collateral"  # ends the asset of what a failed script left: not counted before a person has looked


class Witness(Struct, frozen=True):
    """An output of the newest blocks: a database that does not show it with its answer is behind, or on a fork."""

    address: str
    tx: str
    height: int
    at: int


class KoiosSource:
    """`assets`: "policy.namehex" -> the name of a listed token; any other is called that itself, and has no value.

    One endpoint answers a read; when it is silent the others are asked, each once."""

    def __init__(self, rail: str, network: Network, endpoints: Sequence[Endpoint], assets: Mapping[str, str]) -> None:
        self.rail, self.network, self.endpoints, self.assets = rail, network, list(endpoints), assets
        self.kept: dict[str, tuple[Tx, ...]] = {}

    async def close(self) -> None:
        for endpoint in self.endpoints:
            await endpoint.close()

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        return await self.ask(lambda endpoint: self.follow_on(endpoint, cursor, keys))

    async def scan(self, upto: Cursor, watches: Sequence[Watch]) -> Batch | Unknown:
        return await self.ask(lambda endpoint: self.scan_on(endpoint, upto, watches))

    async def ask(self, what: Callable[[Endpoint], Awaitable[Batch]]) -> Batch | Unknown:
        """Whoever answered last is asked first; when all are silent, another one is next time."""
        reasons = []
        for endpoint in tuple(self.endpoints):
            try:
                batch = await what(endpoint)
            except Silent as err:
                reasons.append(f"{endpoint.name}: {err}")
            else:
                self.endpoints.remove(endpoint)
                self.endpoints.insert(0, endpoint)
                return batch
        self.endpoints.append(self.endpoints.pop(0))
        return Unknown("; ".join(reasons))

    # -- by block -----------------------------------------------------------------------------
    async def follow_on(self, endpoint: Endpoint, cursor: Cursor, keys: Container[str]) -> Batch:
        if not cursor.trail:
            return Batch(await self.begin(endpoint, cursor))
        base, trail, ahead = await self.fork(endpoint, cursor)
        if not ahead:
            return Batch(cursor)
        read, txs = await self.read(endpoint, next(stretches(ahead)))
        branch = cursor.branch + (base < cursor.position)
        trail = (*trail, *(row.hash for row in read))[-TRAIL:]
        watermark = read[-1].block_time * SECOND
        if not await self.undisputed(endpoint, read[-1]):
            watermark = min(watermark, cursor.watermark)
        to = Cursor(base + len(read), trail, branch, watermark, cursor.watched)
        found = self.match(txs, keys, branch, endpoint.name)
        return Batch(to, tuple(found), base if base < cursor.position else None)

    async def begin(self, endpoint: Endpoint, cursor: Cursor) -> Cursor:
        """Nothing was read yet: begin with the newest block, or with the one at the cursor. Older ones are scanned."""
        rows = self.ours(endpoint, await endpoint.newest(TRAIL, cursor.position or None))
        if not rows or cursor.position not in (0, rows[-1].block_height):
            raise Silent("it has no block to begin with")
        hashes, last = tuple(row.hash for row in rows), rows[-1]
        return replace(cursor, position=last.block_height, trail=hashes, watermark=last.block_time * SECOND)

    async def fork(self, endpoint: Endpoint, cursor: Cursor) -> tuple[int, tuple[str, ...], list[Header]]:
        """The last position that we and the endpoint agree on, the trail up to it, and the blocks after it."""
        rows = self.ours(endpoint, await endpoint.headers(cursor.position, WIDTH + 1))
        if rows and rows[0].hash == cursor.trail[-1]:
            if len(rows) == 1 and endpoint.now() - rows[0].block_time * SECOND > STALE:
                raise Silent("it has no newer block than ours, and ours is old")
            return cursor.position, cursor.trail, rows[1:]
        if endpoint is not self.endpoints[0]:
            raise Silent("it does not hold the block that we stand on, and only stands in")
        first = cursor.position - len(cursor.trail) + 1
        rows = self.ours(endpoint, await endpoint.headers(first, len(cursor.trail) + WIDTH))
        if not rows or rows[-1].block_height <= cursor.position:  # nodes leave a chain only for a longer one
            raise Silent("it is behind our cursor, or on a branch that is no longer than ours")
        common = [n for n, hash in enumerate(cursor.trail, 1) if rows[n - 1].hash == hash]
        if not common:
            raise Silent("the fork is deeper than our trail")
        return first + common[-1] - 1, cursor.trail[: common[-1]], rows[common[-1] :]

    async def undisputed(self, endpoint: Endpoint, last: Header) -> bool:
        """Whether all who have a say hold this block or are behind it; other databases behind the same name have one.

        Raises Silent: somebody is on another branch that is as long."""
        sure = True
        for other in self.endpoints:
            try:
                rows = await other.headers(last.block_height, 1)
            except Silent:
                sure = sure and other.now() - other.heard > SAY
                continue
            if self.ours(other, rows) and rows[0].hash != last.hash:
                mine, theirs = [sum(row.block_height for row in await each.newest(1)) for each in (endpoint, other)]
                if theirs >= mine:
                    raise Silent(f"{other.name} is on another branch that is as long")
        return sure

    def ours(self, endpoint: Endpoint, rows: list[Header]) -> list[Header]:
        if any(row.block_time - row.abs_slot != self.network.start for row in rows):
            raise Silent(f"{endpoint.name} is no endpoint of cardano:{self.network.name}")
        return rows

    async def read(self, endpoint: Endpoint, blocks: Sequence[Header]) -> tuple[Sequence[Header], list[Tx]]:
        """As many of the blocks as came whole, of a stretch of them, and their transactions. Raises Silent: none."""
        why = Silent("no block came whole")
        try:
            await self.fetch(endpoint, [row for row in blocks if row.hash not in self.kept])
        except Silent as err:  # what came before is as good as ever
            why = err
        whole = next((n for n, row in enumerate(blocks) if row.hash not in self.kept), len(blocks))
        if not whole:
            raise why
        txs = [tx for row in blocks[:whole] for tx in self.kept[row.hash]]
        while len(self.kept) > KEPT:
            del self.kept[next(iter(self.kept))]
        return blocks[:whole], txs

    async def fetch(self, endpoint: Endpoint, blocks: Sequence[Header]) -> None:
        """Keeps one block after the other. Raises Silent at the first that does not come whole."""
        listed: dict[str, dict[str, None]] = {row.hash: {} for row in blocks}
        for some in endpoint.batches([row.hash for row in blocks if row.tx_count]):
            for line in await endpoint.block_txs(some):
                listed.get(line.block_hash, {})[line.tx_hash] = None
        batches = endpoint.batches([tx for row in blocks for tx in listed[row.hash]])
        got: dict[str, Tx] = {}
        for row in blocks:
            if len(listed[row.hash]) != row.tx_count:
                raise Silent("block_txs: not as many transactions as the block has")
            while not listed[row.hash].keys() <= got.keys():
                got |= await self.transactions(endpoint, next(batches))
            txs = tuple(got[tx] for tx in listed[row.hash])
            if any((tx.block_hash, tx.block_height) != (row.hash, row.block_height) for tx in txs):
                raise Silent("tx_info: a transaction stands in another block")
            self.kept[row.hash] = txs

    async def transactions(self, endpoint: Endpoint, hashes: Sequence[str]) -> dict[str, Tx]:
        txs = {tx.tx_hash: tx for tx in await endpoint.tx_info(hashes)}
        if txs.keys() != set(hashes):
            raise Silent("tx_info: not the transactions that were asked for")
        if any(out.tx_hash != tx.tx_hash for tx in txs.values() for out in tx.outputs):
            raise Silent("tx_info: an output of another transaction")
        return txs

    # -- scans --------------------------------------------------------------------------------
    async def scan_on(self, endpoint: Endpoint, upto: Cursor, watches: Sequence[Watch]) -> Batch:
        if not upto.trail:
            raise Silent("nothing has been followed yet")
        oldest = upto.position - len(upto.trail) + 1  # of the trail
        since = min(watch.since for watch in watches)
        near = max(since, oldest, upto.position - NEAR + 1)
        if since >= near and all(hash in self.kept for hash in upto.trail[near - oldest :]):
            txs = [tx for hash in upto.trail[near - oldest :] for tx in self.kept[hash]]
        else:
            rows = self.ours(endpoint, await endpoint.headers(oldest, len(upto.trail)))
            if tuple(row.hash for row in rows) != upto.trail:
                raise Silent("it does not hold our trail")
            if since < near:
                near = min(near, max((row.block_height for row in rows if row.tx_count), default=near))
            txs = []
            for some in stretches(rows[near - oldest :]):
                read, more = await self.read(endpoint, some)
                if len(read) < len(some):
                    raise Silent("not all blocks came whole")
                txs += more
        if since < near:
            far = {watch.key: None for watch in watches if watch.since < near}
            rows_of = await self.search(endpoint, list(far), range(since, near), witness(txs, far.keys()))
            txs += await self.searched(endpoint, rows_of, dict(enumerate(upto.trail, oldest)))
        return Batch(upto, tuple(self.match(txs, {w.key for w in watches}, upto.branch, endpoint.name)))

    async def search(
        self, endpoint: Endpoint, addresses: Sequence[str], heights: range, witness: Witness
    ) -> list[Paid]:
        """All outputs that paid the addresses in blocks of these heights."""
        # The first transaction of the block at the boundary is not shown, so that one must be older, and on every fork.
        older = {"block_height": f"lt.{heights.start - TRAIL}", "tx_count": "gt.0", "order": "block_height.desc"}
        floor = await endpoint.blocks({**older, "limit": "1"}) if heights.start > TRAIL else []
        after = floor[0].block_height if floor else 0
        out: list[Paid] = []
        for some in endpoint.batches(addresses, len(witness.address) + 3):
            out += await self.paid(endpoint, some, after, heights.stop - 1, witness)
        return [row for row in out if row.block_height in heights]

    async def paid(
        self, endpoint: Endpoint, addresses: Sequence[str], after: int, top: int, witness: Witness
    ) -> list[Paid]:
        """Newest first, page by page; each page is one statement of one database, and has the witness in it."""
        out: dict[tuple[str, int], Paid] = {}
        mark = f"tx_hash.eq.{witness.tx}"
        for _ in range(PAGES):
            query = {
                "or": (f"(block_height.lte.{top},{mark})", f"(address.neq.{witness.address},{mark})"),
                "order": "block_height.desc,tx_hash.asc,tx_index.asc",
                "limit": str(PAGE - 1),
            }
            rows = await endpoint.outputs([*addresses, witness.address], after, query)
            if witness not in [Witness(row.address, row.tx_hash, row.block_height, row.block_time) for row in rows]:
                raise Silent("address_outputs: whoever answered is behind, or on another branch")
            out |= {(row.tx_hash, row.tx_index): row for row in rows if row.address in addresses}
            if len(rows) < PAGE - 1:
                return list(out.values())
            lowest = min(row.block_height for row in rows)
            if lowest == top:
                break
            top = lowest
        raise Silent("address_outputs: more payments to one address than can be paged through")

    async def searched(self, endpoint: Endpoint, rows: Sequence[Paid], trail: Mapping[int, str]) -> list[Tx]:
        """The transactions of what a search found, in the blocks that it said, on our branch as far as we know it."""
        txs: dict[str, Tx] = {}
        for some in endpoint.batches(list(dict.fromkeys(row.tx_hash for row in rows))):
            txs |= await self.transactions(endpoint, some)
        for row in rows:
            tx = txs[row.tx_hash]
            paid = [out.tx_index for out in tx.outputs if out.payment_addr.bech32 == row.address]
            if tx.block_height != row.block_height or row.tx_index not in paid:
                raise Silent("tx_info: it does not say what address_outputs said")
            if trail.get(tx.block_height, tx.block_hash) != tx.block_hash:
                raise Silent("tx_info: a transaction stands on another branch")
        return list(txs.values())

    # -- facts --------------------------------------------------------------------------------
    def match(self, txs: Sequence[Tx], keys: Container[str], branch: int, source: str) -> Iterator[Fact]:
        """A fact an output and asset that pays a key, and one for whatever spends a key. What a payment of one chain
        spends, no other one of that chain does."""
        for tx in txs:
            at = tx.tx_timestamp * SECOND
            spends = tuple(f"{put.tx_hash}#{put.tx_index}" for put in tx.inputs)
            place = Place(tx.block_height, tx.block_hash, at)
            base = Fact(
                self.rail, f"{tx.tx_hash}:in", tx.tx_hash, branch, at, spends=spends, place=place, source=source
            )
            for out in tx.outputs:
                if out.payment_addr.bech32 in keys:
                    for movement, money in self.amounts(out, "" if tx.valid_contract else COLLATERAL):
                        yield replace(base, movement=movement, keys=(out.payment_addr.bech32,), money=money)
            if spent := tuple(thing for thing in spends if thing in keys):
                yield replace(base, keys=spent)

    def amounts(self, out: Output, suffix: str) -> Iterator[tuple[str, Money]]:
        """Movements survive re-mining, and do not depend on which tokens are listed."""
        ref = f"{out.tx_hash}#{out.tx_index}"
        yield ref + (ACCOMPANYING if out.asset_list else ""), Money(ADA + suffix, int(out.value))
        for each in out.asset_list:
            id = f"{each.policy_id}.{each.asset_name}"
            yield f"{ref}/{id}", Money(self.assets.get(id, id) + suffix, int(each.quantity))


def stretches(rows: Sequence[Header]) -> Iterator[Sequence[Header]]:
    """Pieces of so many blocks, and fewer transactions than a page: one block's alone are always fewer."""
    start = 0
    while start < len(rows):
        end, count = start + 1, rows[start].tx_count
        while end < min(start + WIDTH, len(rows)) and count + rows[end].tx_count < PAGE:
            count += rows[end].tx_count
            end += 1
        yield rows[start:end]
        start = end


def witness(txs: Sequence[Tx], watched: Set[str]) -> Witness:
    """Of the newest transaction that has one: a person's address rather than a script's, whose list may be long."""
    for tx in reversed(txs):
        addresses = [out.payment_addr.bech32 for out in tx.outputs if tx.valid_contract]
        foreign = sorted(set(addresses) - watched, key=lambda a: (a.partition("1")[2][:1] not in "qv", a))
        if foreign:
            return Witness(foreign[0], tx.tx_hash, tx.block_height, tx.tx_timestamp)
    raise Silent("no transaction in our trail to prove an absence by")
