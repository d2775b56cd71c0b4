"""The rail conformance suite against the simulated chain."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest
from tests.harness.cardano import CardanoHarness, a_ledger
from tests.harness.sim import SimHarness

from bursar.testing.conformance import rail
from bursar.testing.fakes.koios_ledger import Ledger


@pytest.mark.parametrize("case", rail.cases(SimHarness.traits), ids=lambda case: case.__name__)
def test_the_simulated_chain(case: rail.Case) -> None:
    with SimHarness() as harness:
        asyncio.run(case(harness))


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with a_ledger() as ledger:
        yield ledger


@pytest.mark.parametrize("case", rail.cases(CardanoHarness.traits), ids=lambda case: case.__name__)
def test_cardano_before_one_koios(ledger: Ledger, case: rail.Case) -> None:
    with CardanoHarness(ledger) as harness:
        asyncio.run(case(harness))
