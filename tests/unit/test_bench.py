"""The benchmarks' own parts: a budget that is missed is said to be missed, and the stub nodes are read by the rails."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from bench.blocks import ADA, BTC, PRICE, pay, reader
from bench.nodes import REGTEST, Ledger
from bench.rows import Row, below, beside, flat, least, line, most, write
from msgspec import json

from bursar.core.facts import Batch, Cursor
from bursar.invoices.commands import Offer

ROWS = [
    (most("a", "ms", 15, 10, 1.5), True),
    (most("a", "ms", 16, 10, 1.5), False),
    (least("a", "/s", 4, 10, 0.4), True),
    (least("a", "/s", 3, 10, 0.4), False),
    (flat("a", "requests", 11, 10), True),
    (flat("a", "requests", 12, 10), False),
    (flat("a", "requests", 8, 10), False),
    (below("a", "MB", 120, 60, 120), True),
    (below("a", "MB", 121, 60, 120), False),
]


@pytest.mark.parametrize(("row", "holds"), ROWS, ids=lambda x: line(x) if isinstance(x, Row) else "")
def test_a_budget_that_is_missed_is_said_to_be_missed(row: Row, holds: bool) -> None:
    assert row.holds is holds
    assert ("DOES NOT HOLD" in line(row)) is not holds


def test_programs_read_the_same_rows(tmp_path: Path) -> None:
    write([row for row, _ in ROWS], tmp_path / "out" / "latest.json")
    rows = json.decode((tmp_path / "out" / "latest.json").read_bytes())
    assert list(rows[0]) == ["name", "figure", "unit", "baseline", "ratio", "budget", "holds"]
    assert [row["holds"] for row in rows] == [holds for _, holds in ROWS]


def test_one_disturbed_round_moves_no_figure() -> None:
    assert beside([2, 2, 90], [1, 1, 1]) == (2, 1)


@pytest.mark.parametrize("offer", [BTC, ADA], ids=lambda offer: offer.rail)
def test_a_stub_node_is_read_as_a_node(offer: Offer) -> None:
    async def read() -> tuple[Batch, int]:
        ledger = Ledger(REGTEST.genesis)
        stub, source = reader(offer.rail, ledger)
        begun = await source.follow(Cursor(), ())
        assert isinstance(begun, Batch)
        pay(ledger, offer, range(3))
        ledger.mine()
        requests = stub.requests
        batch = await source.follow(begun.cursor, [offer.derive(n) for n in range(3)] if offer.derive else [])
        assert isinstance(batch, Batch)
        return batch, stub.requests - requests

    batch, requests = asyncio.run(read())
    paid = [fact.money.minor for fact in batch.found if fact.money and fact.place]
    assert paid == [PRICE[offer.rail]] * 3 and requests > 0
