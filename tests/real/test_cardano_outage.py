"""Cardano through trouble, on the story's clock: the example, and an hour of backends that disagree."""

from __future__ import annotations

import asyncio
import importlib
from collections.abc import Iterator

import pytest
from tests.harness.cardano import CardanoHarness, a_ledger

from bursar.core.facts import Batch
from bursar.testing.conformance.rail import Follower
from bursar.testing.fakes.koios import Backend, Fault
from bursar.testing.fakes.koios_ledger import Ledger

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with a_ledger() as ledger:
        yield ledger


def test_ada_through_an_outage() -> None:
    report = importlib.import_module("examples.03_ada_through_an_outage").main()
    assert report.then == dict.fromkeys(("ada", "coin", "unpaid"), "awaiting_payer")
    assert report.alert_then == "firing"
    assert report.in_the_end == {"ada": "settled", "coin": "settled", "unpaid": "expired"}
    fired, cleared = report.episodes
    assert fired.startswith("firing: event") and cleared.startswith("cleared: event") and "reading" in cleared
    for name in ("ada", "coin"):
        states = [line for line in report.told if line.startswith(f"{name} ")]
        assert list(dict.fromkeys(states)) == [
            f"{name} {s}" for s in ("awaiting_payer", "awaiting_finality", "settled")
        ]
    assert report.told.index("unpaid expired") > report.told.index("cardano:preview reading", 1)


@pytest.mark.parametrize("seed", range(2))
def test_an_hour_of_backends_that_disagree(ledger: Ledger, seed: int) -> None:
    """One endpoint has a database that is behind and one on a fork that grows, and a fault in each fifth call. Zero
    false absences, zero double credits."""

    async def hour(h: CardanoHarness) -> None:
        follower, key = Follower(h), h.key()
        await follower.catch_up()
        subject = await follower.watch(key)
        for _ in range(2):
            h.mine()
            await follower.catch_up()
        h.chain.fork("minority", 1)
        h.nets[0].backends += [Backend("behind", lag_blocks=5), Backend("fork", "minority")]
        h.nets[0].faults = [Fault("html", one_in=5), Fault("empty", one_in=5)]
        payments, silent = [], 0
        for minute in range(60):
            payments.append(h.pay(key))
            for block in range(3):
                h.mine()
                if block != 1:
                    h.chain.mine(branch="minority", take=[])
                silent += not isinstance(await follower.observer.turn(), Batch)
                mark, standing = (await follower.cursor()).watermark, (await follower.store.load(subject))[0].standing
                for payment in payments:
                    place = next(b for b in h.chain.tip.path() if payment.movement[:64] in {tx.id for tx in b.txs})
                    assert payment.movement in standing or mark < place.time * 1_000_000, f"minute {minute}"
        assert silent < 180
        h.mislead("")
        h.mine()
        await follower.catch_up()
        standing = (await follower.store.load(subject))[0].standing
        assert set(standing) == {payment.movement for payment in payments}
        for payment in payments:
            await follower.included(subject, payment)

    with CardanoHarness(ledger, [Backend("one")], [Backend("two")], seed=seed) as harness:
        asyncio.run(hour(harness))
