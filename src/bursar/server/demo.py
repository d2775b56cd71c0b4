"""A shop on a simulated chain: customers who pay on time, late, short, over, twice or not at all, a chain that
reorganises, and a node that goes silent for a while. It starts from nothing each time, and tells what happens."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import Callable, Container, Sequence
from fractions import Fraction
from secrets import SystemRandom
from typing import ClassVar

from msgspec.structs import replace

from ..core.facts import Batch, Cursor, Watch
from ..core.money import Amount, Instant, Money, minor_of
from ..core.outcomes import Unknown
from ..core.ports import Event
from ..engine import clock
from ..invoices.commands import CreateInvoice, Offer
from ..rails.sim.chain import Chain, ChainSource, Tx
from ..rails.sim.world import Trouble
from .config import Config, PriceConfig
from .library import first_reads
from .serve import alone
from .views import percent
from .wiring import Bursar, Rail

RAIL = "sim:demo"
SECOND = 1_000_000
TICK, BLOCK = 0.5, 2.0  # seconds
WINDOW, GRACE = 60, 10
CUSTOMERS = (  # who pays what share of the price, after how many seconds each
    ("pays at once", ((100, 1),)),
    ("pays in two parts", ((60, 1), (40, 6))),
    ("pays too little", ((70, 2),)),
    ("pays too much", ((130, 2),)),
    ("pays twice", ((100, 1), (100, 8))),
    ("pays too late", ((100, WINDOW + GRACE + 6),)),
    ("does not pay", ()),
)
WORDS = {  # what has come of an invoice, for whoever reads along
    "awaiting_payer": "waiting for the customer again",
    "awaiting_finality": "all of it is here: two blocks must stand on it",
    "settled": "SETTLED for good",
    "expired": "EXPIRED: the chain has been read past the deadline, and nothing had come in time",
    "+partial": "a part is missing",
    "+over": "that is too much: the excess is owed to the customer",
    "+late": "TOO LATE: a person decides; bursar invoice act {id} accept --payment … --reason …",
    "awaiting_operator": "TOO LITTLE when the time was over: a person decides;"
    " bursar invoice act {id} accept_short --reason …",
}
STANDS = {
    "pending": "is seen, in no block yet",
    "included": "is in a block",
    "adrift": "has lost its block, and counts for nothing until it is seen again",
    "displaced": "was spent elsewhere: a rival took its place",
    "gone": "left the mempool",
}


class Node:
    """In front of the demo's chain: sometimes it says nothing."""

    def __init__(self, source: ChainSource) -> None:
        self.source, self.silent = source, False

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        return SILENCE if self.silent else await self.source.follow(cursor, keys)

    async def scan(self, upto: Cursor, watches: Sequence[Watch]) -> Batch | Unknown:
        return SILENCE if self.silent else await self.source.scan(upto, watches)


SILENCE = Unknown("the demo has unplugged it for half a minute, and until it is back nothing expires")


class Shop:
    """The customers, and what is told of them; where they pay is a subclass's."""

    unit = 1_000  # the smallest amount that they can pay
    can_move = True  # the chain goes on while its node is unplugged
    prices: ClassVar = {"BTC/EUR": "60000.00"}

    def __init__(self, say: Callable[[str], None]) -> None:
        self.say, self.dice = say, SystemRandom()
        self.due: list[tuple[int, str, int]] = []  # (when, to whom, how much)
        self.serial = self.ticks = 0
        self.unplugged = False
        self.orders: dict[str, str] = {}  # invoice -> what the shop calls it

    def config(self, config: Config) -> Config:
        """Clears away what the last one left. Raises Explained: it still runs."""
        folder = config.folder / "demo"
        with alone(folder):
            for link in folder.glob("postgres/elsewhere"):  # where the database had to be kept in another place
                shutil.rmtree(link.resolve(), ignore_errors=True)
            for left in [path for path in folder.iterdir() if path.is_dir()]:
                shutil.rmtree(left, ignore_errors=True)
            (folder / "admin.key").unlink(missing_ok=True)
        return replace(config, data=str(folder), prices=PriceConfig(dict(self.prices)))

    async def run(self, bursar: Bursar, stopping: asyncio.Event) -> None:
        await first_reads(bursar)
        while not stopping.is_set():
            self.ticks += 1
            if self.ticks % 180 in (100, 160):
                self.unplugged = not self.unplugged
                self.plug()
            if self.ticks % 10 == 1:
                await self.customer(bursar)
            if self.can_move or not self.unplugged:
                self.move()
            try:
                await asyncio.wait_for(stopping.wait(), TICK)
            except TimeoutError:
                continue

    def move(self) -> None:
        for payment in [p for p in self.due if p[0] <= clock.now()]:
            self.due.remove(payment)
            self.pay(*payment[1:])
        if self.ticks % int(BLOCK / TICK) == 0:
            self.mine()
        if self.ticks % 60 == 0:
            self.reorganise()
            self.say("THE CHAIN TAKES BACK TWO BLOCKS, and grows three others: what stood there is judged anew")

    def rails(self) -> dict[str, Rail]:
        """What no configuration can name."""
        return {}

    def pay(self, to: str, minor: int) -> None: ...

    def mine(self) -> None: ...

    def reorganise(self) -> None: ...

    def plug(self) -> None: ...

    def stop(self) -> None: ...

    async def customer(self, bursar: Bursar) -> None:
        name, parts = CUSTOMERS[self.serial % len(CUSTOMERS)]
        self.serial += 1
        price = f"{9 * self.dice.randint(1, 28)}.00"  # in coins it is a round number, and so are its parts
        request = CreateInvoice(Amount("EUR", price), external_id=f"order-{self.serial}", window_seconds=WINDOW)
        invoice = await bursar.invoices.create(bursar.config.tenant, request, actor="shop")
        way = invoice.ways[0]
        self.orders[invoice.id] = f"order {self.serial}"
        what = f"{price} EUR = {way.expected.value} {way.expected.asset} to {way.address} within {WINDOW} s"
        self.say(f"order {self.serial}: {what}; a customer who {name}")
        due = minor_of(way.expected.value, 11)
        for share, seconds in parts:
            amount = due * share // 100
            assert amount % self.unit == 0
            self.due.append((clock.now() + seconds * SECOND, way.address, amount))

    async def show(self, event: Event) -> None:
        """The listener: an event as a line."""
        kind, id = event.subject.kind, event.subject.id
        if kind == "alert" and (event.state == "firing" or event.previous == "firing"):
            flag, _, about = id.split("/", 2)
            self.say(f"    ALERT {event.state}: {self.orders.get(about, about)}, {flag.replace('_', ' ')}")
        if kind != "invoice" or event.previous is None:
            return
        news = [moved(change.split("=", 1)[1]) for change in event.changes if "=" in change]
        flags = [WORDS.get(change, "") for change in event.changes if "=" not in change]
        state = WORDS.get(event.state, "") if event.state != event.previous else ""
        text = "; ".join(filter(None, [*news, *flags, state])).format(id=id)
        if text:
            self.say(f"    {self.orders.get(id, id)}: {text}")


class Demo(Shop):
    """On a simulated chain."""

    def __init__(self, say: Callable[[str], None]) -> None:
        super().__init__(say)
        self.chain = Chain(self.dice)
        self.node = Node(ChainSource(RAIL, self.chain, self.dice, self.now, pause, Trouble()))

    def now(self) -> Instant:
        self.chain.now = clock.now()
        return self.chain.now

    def rails(self) -> dict[str, Rail]:
        grace = GRACE * SECOND
        offer = Offer("BTC@" + RAIL, RAIL, "BTC", 11, self.unit, 2, grace, 8, address, lambda n: f"demo{n}")
        rail = Rail(RAIL, self.node, offers=(offer,), scales={"BTC": 11}, blind_after=15 * SECOND, pause=0.5)
        return {RAIL: rail}

    def pay(self, to: str, minor: int) -> None:
        tx = f"tx{self.now():x}{self.dice.getrandbits(16):04x}"
        self.chain.broadcast(Tx(tx, (f"coin-{tx}",), ((to, Money("BTC", minor)),), self.now()))

    def mine(self) -> None:
        self.now()
        self.chain.mine()

    def reorganise(self) -> None:
        self.now()
        self.chain.reorg(2)
        for _ in range(3):
            self.chain.mine()

    def plug(self) -> None:
        self.node.silent = self.unplugged


def moved(word: str) -> str:
    """ "included 3/5 final" -> "60 % of the price is in a block, final"."""
    stands, share, *rest = word.split(" ", 2)
    what = f"{percent(Fraction(share))} of the price" if share != "0" else "a payment that does not count now"
    return f"{what} {STANDS[stands]}" + (", final" if rest and "final" in rest[0] else "")


async def pause() -> None:
    await asyncio.sleep(0)


def address(text: str) -> str:
    """What is watched for a demo address. Raises ValueError."""
    if not text.startswith("demo") or not text[4:].isdecimal():
        raise ValueError(f"{text!r} is no address of the demo's chain, such as demo7")
    return text
