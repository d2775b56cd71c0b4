"""A shop on a simulated chain: customers who pay on time, late, short, over, twice or not at all, a chain that
reorganises, and a node that goes silent for a while. It starts from nothing each time."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Container, Sequence
from random import Random

from msgspec.structs import replace

from ..core.facts import Batch, Cursor, Watch
from ..core.money import Money, minor_of
from ..core.outcomes import Unknown
from ..core.ports import Event
from ..engine import clock
from ..invoices.commands import CreateInvoice, Offer, Price
from ..rails.sim import Chain, ChainSource, Trouble, Tx
from .config import Config, PriceConfig
from .wiring import Bursar, Rail

RAIL = "sim:demo"
SECOND = 1_000_000
TICK, BLOCK = 0.5, 2.0  # seconds
CUSTOMERS = (  # who pays what share of the price, after how many seconds each
    ("pays at once", ((100, 1),)),
    ("pays in two parts", ((60, 1), (40, 6))),
    ("pays too little", ((70, 2),)),
    ("pays too much", ((130, 2),)),
    ("pays twice", ((100, 1), (100, 8))),
    ("pays too late", ((100, 95),)),
    ("does not pay", ()),
)


class Silent:
    """The node in front of the demo's chain: sometimes it says nothing."""

    def __init__(self, source: ChainSource) -> None:
        self.source, self.silent = source, False

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        return Unknown("the node does not answer") if self.silent else await self.source.follow(cursor, keys)

    async def scan(self, upto: Cursor, watches: Sequence[Watch]) -> Batch | Unknown:
        return Unknown("the node does not answer") if self.silent else await self.source.scan(upto, watches)


class Demo:
    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.dice = say, Random()
        self.chain = Chain(self.dice)
        self.chain.now = clock.now()
        self.node = Silent(ChainSource(RAIL, self.chain, self.dice, clock.now, pause, Trouble()))
        self.due: list[tuple[int, str, int]] = []  # (when, to whom, how much)
        self.serial = self.ticks = 0
        self.orders: dict[str, str] = {}  # invoice -> what the shop calls it

    def rail(self) -> Rail:
        offer = Offer("BTC@" + RAIL, RAIL, "BTC", 11, 1_000, 2, 10 * SECOND, 8, address, lambda n: f"demo{n}")
        return Rail(RAIL, self.node, None, (offer,), {"BTC": 11}, blind_after=20 * SECOND, pause=0.5)

    def config(self, config: Config) -> Config:
        folder = config.folder / "demo"
        for link in folder.glob("postgres/elsewhere"):  # where the database had to be kept in another place
            shutil.rmtree(link.resolve(), ignore_errors=True)
        shutil.rmtree(folder, ignore_errors=True)
        return replace(config, data=str(folder), prices=PriceConfig({"BTC/EUR": "60000.00"}))

    async def run(self, bursar: Bursar, stopping: asyncio.Event) -> None:
        while not stopping.is_set():
            self.ticks += 1
            self.chain.now = clock.now()
            for payment in [p for p in self.due if p[0] <= clock.now()]:
                self.due.remove(payment)
                self.pay(*payment[1:])
            if self.ticks % int(BLOCK / TICK) == 0:
                self.mine()
            if self.ticks % 10 == 1:
                await self.customer(bursar)
            if self.ticks % 180 in (100, 160):
                self.node.silent = not self.node.silent
                self.say("the node stops answering" if self.node.silent else "the node answers again")
            try:
                await asyncio.wait_for(stopping.wait(), TICK)
            except TimeoutError:
                continue

    def mine(self) -> None:
        if self.ticks % 60 == 0:
            self.chain.reorg(2)
            self.say("the chain takes back two blocks")
        self.chain.mine()

    async def customer(self, bursar: Bursar) -> None:
        name, parts = CUSTOMERS[self.serial % len(CUSTOMERS)]
        self.serial += 1
        price = f"{self.dice.randint(5, 250)}.00"
        request = CreateInvoice(Price("EUR", price), external_id=f"order-{self.serial}", window_seconds=60)
        self.say(f"order {self.serial}: {price} EUR, a customer who {name}")
        invoice = await bursar.invoices.create("main", request, actor="demo")
        self.orders[invoice["id"]] = f"order {self.serial}"
        way = invoice["ways"][0]
        due = minor_of(way["expected"]["value"], 11)
        for share, seconds in parts:
            self.due.append((clock.now() + seconds * SECOND, way["address"], due * share // 100))

    def pay(self, to: str, minor: int) -> None:
        tx = f"tx{self.chain.now:x}{self.dice.getrandbits(16):04x}"
        self.chain.broadcast(Tx(tx, (f"coin-{tx}",), ((to, Money("BTC", minor)),), clock.now()))

    async def show(self, event: Event) -> None:
        kind, id = event.subject.kind, event.subject.id
        if kind not in ("invoice", "alert", "source") or event.previous is None and kind != "alert":
            return
        name = self.orders.get(id, id) if kind == "invoice" else f"{kind} {id}"
        news = [change.split("=", 1)[1] for change in event.changes if "=" in change]
        flags = [change for change in event.changes if "=" not in change]
        state = event.state.replace("_", " ") if event.state != event.previous else "; ".join(news)
        self.say(f"    {name}: {' '.join([state, *flags])}")


async def pause() -> None:
    await asyncio.sleep(0)


def address(text: str) -> str:
    """What is watched for a demo address. Raises ValueError."""
    if not text.startswith("demo") or not text[4:].isdecimal():
        raise ValueError(f"{text!r} is no address of the demo's chain, such as demo7")
    return text
