"""The shortest story that still fails: fewer faults, fewer happenings, fewer steps, and the same complaint."""

from __future__ import annotations

import traceback
from collections.abc import Callable, Iterator
from typing import NamedTuple

from msgspec.structs import asdict, replace

from ..rails.sim.world import Trouble
from .plan import Plan
from .simulator import FAILURES, RIGHT, Parts, Simulation

TRIES = 250


class Failure(NamedTuple):
    what: str
    where: str  # the same place is the same fault
    step: int
    story: tuple[str, ...]


def attempt(plan: Plan, parts: Parts = RIGHT) -> Failure | None:
    """Runs it and tells the story. A Violation, or whatever else the code under test raises, is a failure."""
    simulation = Simulation(plan, parts)
    simulation.world.story = story = list[str]()
    try:
        simulation.run()
    except FAILURES as err:
        frames = [frame for frame in traceback.extract_tb(err.__traceback__) if frame.name != "demand"]
        where = f"{type(err).__name__} in {frames[-1].name}"
        return Failure(f"{type(err).__name__}: {err}", where, simulation.world.steps, tuple(story))
    return None


def shrink(plan: Plan, failure: Failure, parts: Parts = RIGHT, tries: int = TRIES) -> tuple[Plan, Failure]:
    """The plan that is left, and how it fails. The same plan shrinks to the same."""
    left = tries

    def kept(smaller: Plan) -> bool:
        nonlocal plan, failure, left
        if left <= 0 or smaller == plan:
            return False
        left -= 1
        again = attempt(smaller, parts)
        if again is None or again.where != failure.where:
            return False
        plan, failure = smaller, again
        return True

    kept(replace(plan, steps=min(plan.steps, failure.step + 1)))
    for name in asdict(plan.trouble):
        kept(replace(plan, trouble=Trouble(**asdict(plan.trouble) | {name: 0.0})))
    fewer(lambda: plan, kept)
    for share in (0.3, 0.6, 0.8):
        kept(replace(plan, steps=int(plan.steps * share)))
    return plan, failure


def fewer(now: Callable[[], Plan], kept: Callable[[Plan], bool]) -> None:
    """Takes away ever smaller runs of happenings, as long as it still fails."""
    size = len(now().happenings) // 2
    while size:
        at = 0
        while at < len(now().happenings):
            rest = now().happenings[:at] + now().happenings[at + size :]
            at += 0 if kept(replace(now(), happenings=rest)) else size
        size //= 2


def told(plan: Plan, failure: Failure) -> Iterator[str]:
    faults = {name: share for name, share in asdict(plan.trouble).items() if share}
    yield f"seed {plan.seed}: {failure.what}"
    yield f"faults: {', '.join(f'{name} {share}' for name, share in faults.items()) or 'none'}"
    yield from failure.story
