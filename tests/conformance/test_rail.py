"""The rail conformance suite against the simulated chain."""

from __future__ import annotations

import asyncio

import pytest
from tests.harness.sim import SimHarness

from bursar.testing.conformance import rail


@pytest.mark.parametrize("case", rail.cases(SimHarness.traits), ids=lambda case: case.__name__)
def test_the_simulated_chain(case: rail.Case) -> None:
    with SimHarness() as harness:
        asyncio.run(case(harness))
