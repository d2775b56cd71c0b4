"""Invoices on real chains and a real database, through kills: the second example; and a node that says nothing."""

from __future__ import annotations

import asyncio
import runpy
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.harness.bitcoin import BitcoinNode, Btcd, Litecoind

import bursar
from bursar.core.money import Amount
from bursar.core.ports import Event
from bursar.core.subject import SubjectId
from bursar.invoices.commands import AskedWay, CreateInvoice
from bursar.server.wiring import Bursar

pytestmark = pytest.mark.real
SOURCE = """
database.url = "memory"
[rails."{rail}"]
source = "{url}"
blind_after_seconds = 7
"""


def test_the_second_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["02_an_invoice_is_paid"])
    runpy.run_module("examples.02_an_invoice_is_paid", run_name="__main__")


async def until(so: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        for _ in range(600):
            if await so():
                return
            await asyncio.sleep(0.1)
        raise TimeoutError


async def an_invoice(b: Bursar, real: BitcoinNode) -> SubjectId:
    """Of which all is read."""
    rail = real.chain.name

    async def read() -> bool:
        cursors = await b.store.cursors()
        return rail in cursors and cursors[rail].watermark > 0

    async def covered() -> bool:
        return rail in (await b.store.load(subject))[1]

    await until(read)
    way = AskedWay(f"{real.chain.asset}@{rail}", real.address(60))
    created = await b.invoices.create("main", CreateInvoice(Amount(real.chain.asset, "0.01"), [way]))
    subject = SubjectId("main", "invoice", created.id)
    await until(covered)
    await asyncio.sleep(1)  # becoming covered wakes it
    return subject


@pytest.mark.parametrize("make", [Litecoind, lambda folder: Btcd(folder, "simnet")], ids=["litecoind", "btcd-simnet"])
def test_a_silent_node_is_one_alert_and_touches_no_invoice(make: Callable[[Path], BitcoinNode], tmp_path: Path) -> None:
    alerts: list[str] = []

    async def hear(event: Event) -> None:
        if event.subject.kind == "alert":
            alerts.append(f"{event.subject.id} {event.state}")

    async def story(real: BitcoinNode) -> None:
        alert = f"blind/source/{real.chain.name}"
        config = SOURCE.format(rail=real.chain.name, url=real.url)
        async with bursar.open(config, tell={"here": hear}) as b:
            subject = await an_invoice(b, real)
            before, _ = await b.store.load(subject)
            assert not alerts

            async def told(state: str) -> bool:
                return f"{alert} {state}" in alerts

            real.freeze()
            await until(lambda: told("firing"))
            real.thaw()
            await until(lambda: told("cleared"))
            after, _ = await b.store.load(subject)
            assert (after.version, after.records) == (before.version, before.records)
            real.kill()
            alerts.clear()
            await until(lambda: told("firing"))
            real.restart()
            real.pay(real.address(60), 1_000_000)
            await until(lambda: told("cleared"))

            async def seen() -> bool:
                return (await b.invoices.get("main", subject.id)).state == "awaiting_finality"

            await until(seen)
            assert alerts == [f"{alert} firing", f"{alert} cleared"]

    with make(tmp_path / "node") as real:
        asyncio.run(story(real))
