"""Invoices on Litecoin and on Bitcoin, with the embedded database: paid in two parts, paid too much, paid too late, and
taken back by a reorganisation after it was settled. Bursar, PostgreSQL, or both are killed in between.

In the end the receiver's file has every event of every invoice, in order, none under two ids, and the last one.

    python3 tools/setup.py real
    .venv/bin/python -m examples.02_an_invoice_is_paid
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from msgspec import to_builtins
from tests.harness.bitcoin import BitcoinNode, Btcd, Litecoind

import bursar
from bursar.core.errors import Explained
from bursar.core.money import Amount, minor_of
from bursar.invoices.commands import CreateInvoice

Invoice = dict[str, Any]
ORDERS = {"parts": 600, "over": 600, "reorged": 600, "late": 60}  # what happens to it -> its window in seconds
PRICE = Amount("EUR", "12.00")
CONFIRMATIONS = 2
CONFIG = """
data = "{folder}/bursar"
prices = {{ fixed = {{ "LTC/EUR" = "80.00", "BTC/EUR" = "60000.00" }} }}
sinks.receiver = {{ jsonl = "{folder}/events.jsonl" }}
"""
RAIL = """
[rails."{node.chain.name}"]
source = "{node.url}"
xpub = "{node.xpub}"
confirmations = {confirmations}
"""


# -- the application ----------------------------------------------------------------------------
async def shop(config: Path) -> None:
    """It embeds Bursar and asks for the same invoices whenever it starts. It answers each line of its input with all of
    them, as JSON."""
    async with bursar.open(config) as b:
        ids, read = {}, await b.store.cursors()
        while not all(name in read and read[name].trail for name in b.rails):
            await asyncio.sleep(0.1)  # what stands in a block by now is for no invoice of today
            read = await b.store.cursors()
        for way in b.offers:
            for order, seconds in ORDERS.items():
                asked = CreateInvoice(PRICE, [way], external_id=f"{order} {way}", window_seconds=seconds)
                ids[asked.external_id] = (await b.invoices.create("main", asked)).id
        while await asyncio.to_thread(sys.stdin.readline):
            print(json.dumps(await look(b, ids)), flush=True)


async def look(b: Any, ids: dict[str, str]) -> dict[str, Invoice]:
    """By its external id, each invoice with the ids of its events."""
    while True:
        try:
            found = {order: to_builtins(await b.invoices.get("main", id)) for order, id in ids.items()}
            told = [event.id for _, event in await b.store.events("main", 0, 1_000)]
        except Explained:  # the database is being started again
            await asyncio.sleep(0.2)
            continue
        return {
            order: invoice | {"events": [id for id in told if id.startswith(f"main/invoice/{invoice['id']}/")]}
            for order, invoice in found.items()
        }


# -- what happens to it -------------------------------------------------------------------------
class Shop:
    """The application, in a process of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Self:
        command = [sys.executable, "-m", "examples.02_an_invoice_is_paid", str(self.folder / "bursar.toml")]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        return self

    def __exit__(self, *_: object) -> None:
        """Orderly: its input has ended."""
        self.process.communicate(timeout=60)

    def look(self) -> dict[str, Invoice]:
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write("\n")
        self.process.stdin.flush()
        answer: dict[str, Invoice] = json.loads(self.process.stdout.readline())
        return answer

    def wait(self, order: str, state: str, *flags: str) -> None:
        """Until both invoices of this order are so."""
        deadline = time.monotonic() + 120
        while True:
            found = [invoice for name, invoice in self.look().items() if name.startswith(order)]
            if all(i["state"] == state and set(flags) <= set(i["flags"]) for i in found):
                print(f"{order:8} {state} {' '.join(flags)}")
                return
            assert time.monotonic() < deadline, [(i["state"], i["flags"], i["why"]) for i in found]
            time.sleep(0.3)

    def told(self) -> dict[str, Invoice]:
        """When the receiver has the last event of each."""
        deadline = time.monotonic() + 30
        while True:
            invoices, file = self.look(), (self.folder / "events.jsonl").read_text()
            if all(f'"{invoice["events"][-1]}"' in file for invoice in invoices.values()):
                return invoices
            assert time.monotonic() < deadline
            time.sleep(0.3)

    def kill(self) -> None:
        print("         Bursar is killed")
        self.process.kill()
        self.process.communicate()

    def kill_database(self) -> None:
        print("         PostgreSQL is killed")
        pid = (self.folder / "bursar/postgres/data/postmaster.pid").read_text().split()[0]
        os.kill(int(pid), signal.SIGKILL)


class Customers:
    """They pay on both chains."""

    def __init__(self, nodes: list[BitcoinNode], invoices: dict[str, Invoice]) -> None:
        self.nodes, self.invoices = nodes, invoices

    def pay(self, order: str, percent: int) -> dict[BitcoinNode, str]:
        """The txid on each."""
        paid = {}
        for node in self.nodes:
            (way,) = self.invoices[f"{order} {node.chain.asset}@{node.chain.name}"]["ways"]
            paid[node] = node.pay(way["address"], minor_of(way["expected"]["value"], 8) * percent // 100)
        return paid

    def mine(self) -> None:
        for node in self.nodes:
            node.mine(CONFIRMATIONS)


def story(nodes: list[BitcoinNode], at: Shop) -> dict[str, Invoice]:
    customers = Customers(nodes, at.look())
    customers.pay("parts", 50)
    at.wait("parts", "awaiting_payer", "partial")
    at.kill()
    customers.pay("over", 150)
    customers.mine()
    at.__enter__()
    at.wait("over", "settled", "over")
    at.kill_database()
    customers.pay("parts", 50)
    customers.mine()
    at.wait("parts", "settled")
    paid = customers.pay("reorged", 100)
    customers.mine()
    at.wait("reorged", "settled")
    at.kill_database()
    at.kill()
    for node, txid in paid.items():
        node.reorg(CONFIRMATIONS, only=[node.rival(txid)])  # a double spend that nobody had seen
    at.__enter__()
    at.wait("reorged", "settled", "reorged")
    at.wait("late", "expired")
    customers.pay("late", 100)
    customers.mine()
    at.kill()
    at.__enter__()
    at.wait("late", "expired", "late")
    return at.told()


def check(invoices: dict[str, Invoice], file: Path) -> int:
    """What the receiver has, after each of its lines was taken once. How many events."""
    events: dict[str, dict[str, Any]] = {}
    for line in file.read_text().splitlines():
        try:
            event = json.loads(line)
        except ValueError:  # cut short by a kill, and written again
            continue
        if event["kind"] == "invoice":
            assert events.setdefault(event["id"], event) == event, "one id, one event"
    for order, invoice in invoices.items():
        told = [event for event in events.values() if event["subject"] == invoice["id"]]
        assert [event["id"] for event in told] == invoice["events"], f"{order}: every one, in order"
        state, flags = None, set[str]()
        for event in told:  # each leads from where the one before ended: none is told twice
            assert event["previous"] == state and (event["changes"] or event["state"] != state), event
            flags |= {flag[1:] for flag in event["changes"] if flag[0] == "+" and "=" not in flag}
            flags -= {flag[1:] for flag in event["changes"] if flag[0] == "-" and "=" not in flag}
            assert flags == set(event["flags"]), event
            state = event["state"]
        assert (state, sorted(flags)) == (invoice["state"], sorted(invoice["flags"])), f"{order}: the last one"
        print(f"{order:32} {len(told):2} events: " + ", ".join(event["type"].split(".")[1] for event in told))
    return len(events)


def main() -> None:
    begun = time.monotonic()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        folder.chmod(0o711)  # started by root, PostgreSQL runs as another user
        kinds = Litecoind(folder / "litecoind"), Btcd(folder / "btcd", "simnet")
        nodes = [stack.enter_context(node) for node in kinds]
        rails = "".join(RAIL.format(node=node, confirmations=CONFIRMATIONS) for node in nodes)
        (folder / "bursar.toml").write_text(CONFIG.format(folder=folder) + rails)
        with Shop(folder) as at:
            invoices = story(nodes, at)
        count = check(invoices, folder / "events.jsonl")
    print(f"all {count} events are there, in {time.monotonic() - begun:.0f} seconds")


if __name__ == "__main__":
    if sys.argv[1:]:
        logging.getLogger("psycopg").setLevel(logging.ERROR)  # it counts its broken connections
        asyncio.run(shop(Path(sys.argv[1])))
    else:
        main()
