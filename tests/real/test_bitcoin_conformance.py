"""The rail conformance suite against litecoind and btcd."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

import httpx
import pytest
from tests.harness.bitcoin import BitcoinNode, Btcd, Litecoind

from bursar.core.facts import Stands
from bursar.core.money import Instant, Money
from bursar.core.outcomes import Unknown
from bursar.rails.bitcoin.addresses import address_of, script_of
from bursar.rails.bitcoin.rpc import Node
from bursar.rails.bitcoin.source import STEP, WIDTH, BitcoinSource
from bursar.testing.conformance import rail
from bursar.testing.conformance.rail import Payment, Traits

pytestmark = pytest.mark.real
SECOND = 1_000_000
LAG = 2 * SECOND
LOADING = {"id": 0, "result": None, "error": {"code": -28, "message": "Loading block index…"}}


class Between(httpx.AsyncHTTPTransport):
    """The way to the node: it counts, and may be in trouble."""

    def __init__(self) -> None:
        super().__init__()
        self.requests, self.trouble = 0, ""

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests += 1
        match self.trouble:
            case "silent":
                raise httpx.ReadTimeout("nothing came", request=request)
            case "every second one fails" if self.requests % 2:
                return httpx.Response(503, text="<html>Service unavailable</html>")
            case "loading":
                return httpx.Response(500, json=LOADING)
            case "cut short":
                answer = await super().handle_async_request(request)
                return httpx.Response(200, content=(await answer.aread())[:-2])
        return await super().handle_async_request(request)


class BitcoinHarness:
    traits = Traits(
        width=WIDTH,
        sees_unconfirmed=True,
        can_reorg=True,
        can_replace=True,
        can_drop=False,
        troubles=("silent", "every second one fails", "loading", "cut short"),
    )
    serial = 100

    def __init__(self, real: BitcoinNode) -> None:
        self.real, self.rail, self.between = real, real.chain.name, Between()
        self.ahead, self.left = 0, ("", 0)

    def now(self) -> Instant:
        return time.time_ns() // 1_000 + self.ahead

    def source(self) -> BitcoinSource:
        node = Node(self.real.url, 10, self.between)
        return BitcoinSource(self.rail, self.real.chain, node, self.now, LAG)

    def requests(self) -> int:
        return self.between.requests

    def key(self) -> str:
        BitcoinHarness.serial += 1
        return script_of(self.real.address(self.serial), self.real.chain).hex()

    def address(self, key: str) -> str:
        address = address_of(bytes.fromhex(key), self.real.chain)
        assert address is not None
        return address

    def pay(self, key: str) -> Payment:
        sats = 100_000 + self.serial
        return Payment(f"{self.real.pay(self.address(key), sats)}:0", Money(self.real.chain.asset, sats * STEP))

    def sweep(self, key: str) -> None:
        self.real.sweep(self.address(key))

    def mine(self, blocks: int = 1) -> None:
        self.real.mine(blocks)

    def leave(self, blocks: int) -> None:
        height = self.real.rpc("getblockcount")
        self.left = self.real.reorg(blocks), height

    def back(self) -> None:
        block, height = self.left
        self.real.mine(self.real.rpc("getblockcount") - height + 1, on=block)

    def outrun(self, movement: str) -> None:
        self.real.mine(only=[self.real.rival(movement[:64])])

    def replace(self, movement: str) -> None:
        self.real.replace(movement[:64])

    def confirm(self, movement: str) -> None:
        self.real.mine(only=[movement[:64]])

    def drop(self, movement: str) -> None:
        raise AssertionError("of no node it is certain that something has left: it may have forgotten it")

    def mislead(self, trouble: str) -> None:
        self.between.trouble = trouble


@pytest.fixture(scope="module", params=[Litecoind, Btcd], ids=["litecoind", "btcd"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitcoinNode]:
    with request.param(tmp_path_factory.mktemp("node")) as node:
        yield node


@pytest.mark.parametrize("case", rail.cases(BitcoinHarness.traits), ids=lambda case: case.__name__)
def test_a_node(real: BitcoinNode, case: rail.Case) -> None:
    asyncio.run(case(BitcoinHarness(real)))


def test_a_node_that_forgets_its_mempool_takes_nothing_back(real: BitcoinNode) -> None:
    """Killed, it comes back without what waited: nobody knows whether that has left."""

    async def scene() -> None:
        h = BitcoinHarness(real)
        follower, key, subject = await rail.watching(h)
        payment = h.pay(key)
        await follower.catch_up()
        real.kill()
        assert isinstance(await rail.asked(follower.observer.turn()), Unknown)
        real.restart()
        assert payment.movement[:64] not in real.rpc("getrawmempool", False)
        for _ in range(3):
            await follower.catch_up()
            h.ahead += LAG
        assert await follower.stands(subject, payment) is Stands.PENDING
        h.confirm(payment.movement)
        await follower.catch_up()
        await follower.included(subject, payment)

    asyncio.run(scene())
