"""A whole service in one process for tests: memory store, a simulated chain and bank, real loops, HTTP without socket.

It starts no server process; the demo's test does that."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Container
from contextlib import asynccontextmanager
from pathlib import Path
from random import Random
from typing import Any

import httpx
from msgspec.structs import replace

from bursar.core.facts import Batch, Cursor
from bursar.core.money import Money, minor_of
from bursar.core.outcomes import Attempt, Outcome, Pay, Unknown
from bursar.engine import clock
from bursar.invoices.commands import Offer
from bursar.payouts.commands import Purse
from bursar.rails.bitcoin.addresses import CHAINS, script_of
from bursar.rails.sim.bank import Bank, BankRail
from bursar.rails.sim.chain import Chain, ChainSource, Tx
from bursar.rails.sim.world import Trouble
from bursar.server.config import Config, Database, Http, PriceConfig
from bursar.server.demo import address
from bursar.server.http.app import application
from bursar.server.http.auth import Sessions
from bursar.server.rails import Rail
from bursar.server.shell import Shell
from bursar.server.wiring import Bursar, Opened
from bursar.store.memory import MemoryStore

SECOND = 1_000_000
CHAIN, BANK, FOREIGN = "sim:test", "lnd", "bitcoin:regtest"
WAY = f"BTC@{CHAIN}"


async def still() -> None:
    await asyncio.sleep(0)


class Mute(ChainSource):
    """A source that can be told to say nothing. This chain never lags, so its watermark is the time of the read."""

    silent = ""

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        asked = clock.now()
        read = Unknown(self.silent) if self.silent else await super().follow(cursor, keys)
        if isinstance(read, Batch):
            return replace(read, cursor=replace(read.cursor, watermark=max(cursor.watermark, asked - 1)))
        return read


class Counting(BankRail):
    """A bank that knows how often it was asked to pay, and may be slow."""

    sent = 0
    slow: float = 0

    async def submit(self, attempt: Attempt) -> Outcome:
        self.sent += 1
        await asyncio.sleep(self.slow)
        return await super().submit(attempt)


class World:
    """What is outside: one chain, one bank."""

    def __init__(self) -> None:
        dice, calm = Random(7), Trouble()
        self.chain = Chain(dice)
        self.chain.now = clock.now()
        self.source = Mute(CHAIN, self.chain, dice, clock.now, still, calm)
        self.bank = Bank(BANK, dice, clock.now, calm, [])
        self.rail = Counting(self.bank, dice, clock.now, still, calm)

    def rails(self, blind_after: int) -> dict[str, Rail]:
        offer = Offer(WAY, CHAIN, "BTC", 11, 1_000, 2, 0, 8, address, lambda n: f"demo{n}")
        foreign = Offer(f"BTC@{FOREIGN}", FOREIGN, "BTC", 11, 1_000, 2, 0, 8, script)
        purse = Purse(BANK, "BTC", 11, 1, known, lambda minor: minor // 100)
        scales = {"BTC": 11}
        return {
            CHAIN: Rail(CHAIN, self.source, offers=(offer,), scales=scales, blind_after=blind_after, pause=0.05),
            FOREIGN: Rail(FOREIGN, offers=(foreign,), scales=scales),
            BANK: Rail(BANK, self.rail, self.rail, scales=scales, purse=purse, pause=0.05),
        }

    def pay(self, to: str, value: str) -> str:
        self.chain.now = clock.now()
        tx = f"tx{len(self.chain.txs)}"
        self.chain.broadcast(Tx(tx, (f"coin-{tx}",), ((to, Money("BTC", minor_of(value, 11))),), clock.now()))
        return tx

    def mine(self, blocks: int = 1) -> None:
        for _ in range(blocks):
            self.chain.now = clock.now()
            self.chain.mine(share=1)


def script(text: str) -> str:
    return script_of(text, CHAINS["bitcoin", "regtest"]).hex()


def known(effect: Pay, now: int) -> str:
    """What the test's bank says of a payee. Raises ValueError."""
    if not effect.to.startswith("payee"):
        raise ValueError(f"{effect.to!r} is no payee of this bank")
    if effect.to.endswith("expired") and now > started + SECOND // 2:
        raise ValueError("the invoice has expired")
    return ""


started = clock.now()


class House:
    """A running service."""

    def __init__(self, bursar: Bursar, world: World, store: MemoryStore, secret: str) -> None:
        self.bursar, self.world, self.store = bursar, world, store
        self.said: list[str] = []
        self.shell = Shell(bursar, self.said.append, asyncio.Event())
        self.sessions = Sessions()
        self.app = application(bursar, self.shell, self.sessions)
        self.http = self.client(secret)

    def client(self, secret: str = "") -> httpx.AsyncClient:
        headers = {"Authorization": f"Bearer {secret}"} if secret else {}
        transport = httpx.ASGITransport(self.app)  # type: ignore[arg-type]
        return httpx.AsyncClient(transport=transport, base_url="http://bursar.test", headers=headers)

    def facts(self) -> tuple[object, ...]:
        """All that a command of a tenant could have written."""
        rows = {n: (row.records, row.status, len(row.events)) for n, row in self.store.rows.items()}
        keys = {n for n in rows if n.kind in ("key", "xpub")}
        return {n: row for n, row in rows.items() if n.tenant != "system"}, keys, self.store.entries.copy()

    async def get(self, path: str, **params: Any) -> Any:
        answer = await self.http.get(path, params=params)
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def soon(self, holds: Callable[[], object], seconds: float = 8) -> None:
        end = clock.now() + int(seconds * SECOND)
        while not holds():
            assert clock.now() < end, f"not within {seconds} s"
            await asyncio.sleep(0.02)

    async def until(self, path: str, seconds: float = 8, **wanted: Any) -> Any:
        """What stands at `path`, once it has these fields."""
        end = clock.now() + int(seconds * SECOND)
        while clock.now() < end:
            body = await self.get(path)
            if all(body[name] == value for name, value in wanted.items()):
                return body
            await asyncio.sleep(0.03)
        raise AssertionError(f"after {seconds} s no {wanted}: {body}")

    async def listen(self, name: str) -> None:
        """Tell a sink that came after the loops had begun."""
        await self.store.begin(name, whole=True)
        turn = self.shell.teller(name, self.bursar.sinks[name])
        self.shell.loops[name] = asyncio.create_task(self.shell.forever(name, turn))

    async def invoice(self, **more: Any) -> Any:
        body = {"price": {"asset": "BTC", "value": "0.5"}, "ways": [WAY], "window_seconds": 60} | more
        answer = await self.http.post("/v1/invoices", json=body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    async def fund(self, value: str) -> None:
        body = {"rail": BANK, "amount": {"asset": "BTC", "value": value}, "reason": "what is in it"}
        answer = await self.http.post("/v1/balances", json=body)
        assert answer.status_code == 201, answer.text


@asynccontextmanager
async def house(
    tmp: Path,
    world: World | None = None,
    store: MemoryStore | None = None,
    *,
    blind_after: int = 60 * SECOND,
    **more: Any,
) -> AsyncIterator[House]:
    """A service with its loops running, and an admin's client; given the store of another one, its successor."""
    world, store = world or World(), store or MemoryStore(clock.now)
    prices = PriceConfig({"BTC/EUR": "60000.00"})
    config = Config(str(tmp), database=Database("memory"), http=Http(port=1), prices=prices)
    bursar = Bursar(replace(config, **more), Opened(store), world.rails(blind_after))
    await bursar.begin()
    await bursar.keys.first(tmp, "main")
    it = House(bursar, world, store, (tmp / "admin.key").read_text().strip())
    running = asyncio.create_task(it.shell.run())
    try:
        await it.soon(lambda: it.shell.loops)
        yield it
    finally:
        it.shell.stopping.set()
        await asyncio.wait_for(running, 10)
        await it.http.aclose()
