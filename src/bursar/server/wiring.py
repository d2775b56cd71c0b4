"""What is configured, put together: store, rails, controllers, sinks. The tables of this house stand here."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple, Protocol

from msgspec import json

from .. import alerts, balances, invoices, sources
from ..core.errors import CommitLost, LostRace
from ..core.ports import Controller, Event, Sink, Store
from ..core.subject import Spec, SubjectId
from ..engine import clock
from ..engine.intake import command
from ..engine.observe import Observer
from ..engine.reconcile import BURSAR, Engine
from ..invoices import xpub
from ..payouts import allocation, leg
from ..sinks.callback import CallbackSink
from ..sinks.jsonl import JsonlSink
from ..store.memory import MemoryStore
from . import encode, keys, views
from .commands import SYSTEM, Alerts, Desk, Invoices, Payouts, Sources
from .config import Config
from .prices import Prices
from .rails import Rail as Rail
from .rails import build

SECOND = 1_000_000

ALERTS = {  # (kind, flag) -> when it is an alert; docs/runbook has a page for each flag
    ("invoice", "late"): alerts.Rule(dwell=30 * SECOND),
    ("invoice", "short"): alerts.Rule(),
    ("invoice", "overdue"): alerts.Rule(),
    ("invoice", "paid_after_cancel"): alerts.Rule(),
    ("invoice", "paid_after_expiry"): alerts.Rule(),
    ("invoice", "unpriced"): alerts.Rule(dwell=600 * SECOND),
    ("invoice", "reorged"): alerts.Rule(latched=True),
    ("invoice", "wrong_asset"): alerts.Rule(),
    ("invoice", "unassigned"): alerts.Rule(),
    ("invoice", "contradicted"): alerts.Rule(latched=True),
    ("payout", "stuck"): alerts.Rule(),
    ("payout", "unfunded"): alerts.Rule(dwell=60 * SECOND),
    ("payout", "unprepared"): alerts.Rule(dwell=300 * SECOND),
    ("payout", "paid_twice"): alerts.Rule(latched=True),
    ("payout", "paid_after_close"): alerts.Rule(latched=True),
    ("source", "blind"): alerts.Rule(),
}

CONTROLLERS: Mapping[str, Controller] = {
    controller.kind: controller
    for controller in (
        invoices.controller,
        xpub.controller,
        leg.controller,
        allocation.controller,
        balances.controller,
        sources.controller,
        alerts.controller(ALERTS),
        keys.controller,
    )
}


class Server(Protocol):
    """A database server of ours, which we start again when it has died."""

    def alive(self) -> bool: ...

    def start(self) -> None: ...


class Opened(NamedTuple):
    store: Store
    server: Server | None = None


class Bursar:
    """The library's handle: `async with bursar.open(config) as b`."""

    def __init__(self, config: Config, opened: Opened, rails: Mapping[str, Rail]) -> None:
        store, self.server = opened
        self.config, self.store, self.rails = config, store, rails
        executors = {name: rail.executor for name, rail in rails.items() if rail.executor is not None}
        self.prices = Prices(config.prices)
        self.engine = Engine(store, executors, CONTROLLERS, clock.now, self.prices.now, frozenset(ALERTS))
        self.offers = {offer.way: offer for rail in rails.values() for offer in rail.offers}
        self.scales = {asset: scale for rail in rails.values() for asset, scale in rail.scales.items()}
        self.observers = {n: Observer(store, n, rail.source) for n, rail in rails.items() if rail.source is not None}
        self.sinks: dict[str, Sink] = {
            name: JsonlSink(Path(sink.jsonl), encode.event_line) for name, sink in config.sinks.items()
        }
        purses = {name: rail.purse for name, rail in rails.items() if rail.purse is not None}
        shared = self.engine, store, self.scales
        self.desk = Desk[views.View](*shared)
        self.alerts, self.sources, self.keys = Alerts(*shared), Sources(*shared), keys.Keys(*shared)
        self.invoices, self.payouts = Invoices(*shared, self.offers), Payouts(*shared, purses)

    def tell(self, name: str, call: Callable[[Event], Awaitable[None]]) -> None:
        """Every event from the first start with it on, in order per subject, at least once, to a coroutine of the
        application's; said before `begin`."""
        self.sinks[name] = CallbackSink(call)

    async def begin(self) -> None:
        """Before the loops run: what is told from now on is owed to every sink, and each source has a subject that
        says when it is blind."""
        for name in self.sinks:
            await self.store.begin(name, whole=name in self.config.sinks and self.config.sinks[name].history)
        for name, rail in self.rails.items():
            if rail.source is None:
                continue
            to = SubjectId(SYSTEM, "source", name)
            subject, _ = await self.store.load(to)
            window = sources.Window(name, self.engine.now(), rail.blind_after)
            if subject.records and sources.window_of(subject.spec.body).window == window.window:
                continue
            generation = subject.spec.generation + 1 if subject.records else 1
            spec = Spec(generation, json.encode(window), BURSAR, self.engine.now())
            try:
                await command(self.engine, to, spec)
            except (LostRace, CommitLost):
                continue  # a replica of ours declares the same


@asynccontextmanager
async def wired(
    config: Config, more: Mapping[str, Rail] = {}, progress: Callable[[str], None] = lambda _: None
) -> AsyncIterator[Bursar]:
    """Everything open, nothing running yet; `more`: rails that no configuration can name. Raises Explained."""
    async with AsyncExitStack() as stack:
        opened = await open_store(config, stack, progress)
        rails = {name: await build(name, rail, stack) for name, rail in config.rails.items()}
        yield Bursar(config, opened, {**more, **rails})


async def open_store(config: Config, stack: AsyncExitStack, progress: Callable[[str], None]) -> Opened:
    """Raises Explained."""
    url = config.database.url
    if url == "memory":
        return Opened(MemoryStore(clock.now))
    from ..store.embedded import Embedded
    from ..store.postgres import PostgresStore
    from ..store.postgres.migrate import migrate

    server = None
    migrating = config.database.migrate or url
    if url == "embedded":
        config.folder.mkdir(parents=True, exist_ok=True, mode=0o711)  # the server may be another user's
        server = Embedded(config.folder / "postgres")
        stack.push_async_callback(asyncio.to_thread, server.stop)
        await asyncio.to_thread(server.start, 120, progress)
        url, migrating = server.dsn("bursar_engine"), server.dsn("bursar_migrate")
    for name in await asyncio.to_thread(migrate, migrating):
        progress(f"the database has been brought up to {name}")
    store = await PostgresStore.open(url, clock.now)
    stack.push_async_callback(store.close)
    return Opened(store, server)
