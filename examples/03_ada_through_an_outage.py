"""Invoices in ADA, in a token, and one that nobody pays, through ten minutes in which no Koios can be believed.

    python3 tools/setup.py real
    .venv/bin/python -m examples.03_ada_through_an_outage

The first two are paid while nothing can be read, and all three run out in that time. Nothing expires and nothing is
lost; one alert says that the source is blind, and clears by itself. Then the third one expires, and the others settle.
The ledger's rules are scalus', the two Koios are fakes of ours, and the clock is the story's: it takes seconds.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from functools import partial
from typing import Literal, NamedTuple

from msgspec import json
from tests.harness.cardano import LOVELACE, CardanoHarness, a_ledger

from bursar import sources
from bursar.core.facts import Batch
from bursar.core.money import Amount
from bursar.core.ports import Event
from bursar.core.subject import Spec, Subject, SubjectId
from bursar.engine.deliver import deliver
from bursar.engine.intake import command
from bursar.engine.observe import Observer
from bursar.engine.reconcile import BURSAR, Engine, work
from bursar.invoices.commands import AskedWay, CreateInvoice, Offer
from bursar.rails.cardano.networks import CONFIRMATIONS, DEPTH, GRACE, key_of, tokens
from bursar.server.commands import Invoices
from bursar.server.wiring import ALERTS, CONTROLLERS
from bursar.sinks.callback import CallbackSink
from bursar.store.memory import MemoryStore
from bursar.testing.fakes.koios import Backend, Fault, Kind
from bursar.testing.fakes.koios_chain import Pay

RAIL, TENANT, SECOND = "cardano:preview", "main", 1_000_000
COIN = b"COIN".hex()
SCALES = {"ADA": 6, "COIN": 2}
WINDOW = 300  # seconds: to pay an invoice, and until a source without news is blind
PHASE = 120  # seconds of each kind of trouble
Trouble = Kind | Literal["", "fork"]
TROUBLES: tuple[tuple[str, Trouble, Trouble], ...] = (  # of each endpoint
    ("one endpoint is on a fork, the other says 429", "fork", "limit"),
    ("429 from both", "limit", "limit"),
    ("time-outs", "timeout", "hang"),
    ("HTML, and connections that are reset", "html", "reset"),
    ("pages that are cut off, or short of a row", "truncated", "short"),
)


class Report(NamedTuple):
    then: dict[str, str]  # the invoices' states when the outage was over, and nothing had been read yet ...
    alert_then: str  # ... and the alert's
    in_the_end: dict[str, str]
    episodes: list[str]  # of the alert
    told: list[str]  # every event, in order


class Story:
    def __init__(self, world: CardanoHarness) -> None:
        self.world, self.began = world, world.now()
        self.coin = world.alice.policy, COIN
        self.store = MemoryStore(world.now)
        self.engine = Engine(self.store, {}, CONTROLLERS, world.now, dict, frozenset(ALERTS))
        self.observer = Observer(self.store, RAIL, world.source(tokens({"COIN": ".".join(self.coin)})))
        self.invoices = Invoices(self.engine, self.store, SCALES, {f"{a}@{RAIL}": self.offer(a) for a in SCALES})
        self.ids: dict[str, str] = {}
        self.told: list[str] = []
        self.silence = ""

    def offer(self, asset: str) -> Offer:
        key = partial(key_of, network=self.world.network)
        return Offer(f"{asset}@{RAIL}", RAIL, asset, SCALES[asset], 1, CONFIRMATIONS, GRACE, DEPTH, key)

    def say(self, what: str) -> None:
        seconds = (self.world.now() - self.began) // SECOND
        print(f"{seconds // 60:3}:{seconds % 60:02}  {what}")

    async def hear(self, event: Event) -> None:
        name = next((name for name, id in self.ids.items() if id == event.subject.id), event.subject.id)
        self.told.append(f"{name} {event.state}")
        self.say(f"{name}: {event.state} {' '.join(sorted(event.flags))}".rstrip())

    async def begin(self) -> dict[str, str]:
        """A receiver, the source and its window, and three invoices with an address each."""
        await self.store.begin("story", whole=False)
        window = sources.Window(RAIL, self.world.now(), WINDOW * SECOND)
        await command(self.engine, SubjectId("system", "source", RAIL), Spec(1, json.encode(window), BURSAR))
        await self.block()
        addresses = {}
        for name, asset, value in (("ada", "ADA", "25"), ("coin", "COIN", "7.50"), ("unpaid", "ADA", "10")):
            addresses[name] = self.world.key()
            way = AskedWay(f"{asset}@{RAIL}", addresses[name])
            invoice = await self.invoices.create(
                TENANT, CreateInvoice(Amount(asset, value), [way], external_id=name, window_seconds=WINDOW)
            )
            self.ids[name] = invoice.id
        for _ in range(3):
            await self.block()
        return addresses

    async def block(self) -> None:
        """One comes; we look until there is no more to see; what is due is done and told."""
        self.world.mine()
        moved = True
        while moved:
            before = await self.store.cursors()
            read = await self.observer.turn()
            moved = isinstance(read, Batch) and await self.store.cursors() != before
            reason = "" if isinstance(read, Batch) else read.reason
            if bool(reason) != bool(self.silence):
                self.say(f"the source is silent: {reason}" if reason else "the source answers")
            self.silence = reason
            for _ in range(5):
                await work(self.engine, 100)
            while await deliver(self.store, "story", CallbackSink(self.hear), 100):
                pass

    async def outage(self, addresses: dict[str, str]) -> None:
        """The payments come in its second minute. The fork grows as fast as the chain does, and holds neither."""
        chain = self.world.chain
        chain.fork("minority", 1)
        chain.mine(1, branch="minority", take=[])
        for name, *kinds in TROUBLES:
            self.say(f"-- {name}")
            self.trouble(kinds)
            end = self.world.now() + PHASE * SECOND
            while self.world.now() < end:
                if addresses and self.world.now() > end - 60 * SECOND:
                    self.pay(addresses)
                chain.mine(1, branch="minority", take=[])
                await self.block()
        self.say("-- all is well")
        self.trouble(["", ""])

    def trouble(self, kinds: Sequence[Trouble]) -> None:
        for net, well, kind in zip(self.world.nets, self.world.well, kinds, strict=True):
            net.backends, net.faults = list(well), []
            if kind == "fork":
                net.backends = [Backend("fork", "minority")]
            elif kind != "":
                net.faults = [Fault(kind, seconds=1)]

    def pay(self, addresses: dict[str, str]) -> None:
        self.say("two of the three are paid")
        pays = Pay(addresses["ada"], 25 * LOVELACE), Pay(addresses["coin"], 2 * LOVELACE, {self.coin: 750})
        self.world.alice.pay(*pays, mint={COIN: 1_000})
        addresses.clear()

    async def states(self) -> dict[str, str]:
        return {name: (await self.invoices.get(TENANT, id)).state for name, id in self.ids.items()}

    async def tell(self) -> Report:
        await self.outage(await self.begin())
        then, firing = await self.states(), (await self.alert()).status
        for _ in range(CONFIRMATIONS + 5):
            await self.block()
        alert = await self.alert()
        return Report(
            then,
            firing.state if firing else "",
            await self.states(),
            [
                f"{decision.name}: {decision.reason}"
                for decision in alert.decisions("firing") + alert.decisions("cleared")
            ],
            self.told,
        )

    async def alert(self) -> Subject:
        return (await self.store.load(SubjectId("system", "alert", f"blind/source/{RAIL}")))[0]


def main() -> Report:
    with a_ledger() as ledger, CardanoHarness(ledger, [Backend("one")], [Backend("two")]) as world:
        return asyncio.run(Story(world).tell())


if __name__ == "__main__":
    report = main()
    print(f"\nThe alert: {'; '.join(report.episodes)}")
