"""How many audited steps a second the simulator does, beside the same worlds with audits at their end only."""

from __future__ import annotations

import time

from bursar.testing.audits import Audit
from bursar.testing.plan import draw
from bursar.testing.simulator import RULES, Simulation

from .rows import Row, beside, least

SEEDS = 40


class Unseeing(Audit):
    def step(self) -> None:
        self.world.store.fresh.clear()


def simulated() -> list[Row]:
    ours, theirs = list[float](), list[float]()
    for seed in range(SEEDS):
        ours.append(rate(Simulation(draw(seed))))
        unseen = Simulation(draw(seed))
        unseen.audit = Unseeing(unseen.world, unseen.scenes, unseen.controllers, RULES)
        theirs.append(rate(unseen))
    name = "simulator steps a second, each audited, against worlds audited at their end"
    return [least(name, "/s", *beside(ours, theirs), 0.4)]


def rate(simulation: Simulation) -> float:
    began = time.perf_counter()
    simulation.run()
    return simulation.world.steps / (time.perf_counter() - began)
