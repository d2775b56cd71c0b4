"""Known-wrong variants of one controller's module, each put in place for the length of one simulated world."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import ExitStack
from types import ModuleType
from typing import Any, NamedTuple
from unittest.mock import patch

from msgspec.structs import replace

from bursar.core.errors import Unproven
from bursar.testing import simulator
from bursar.testing.audits import Violation
from bursar.testing.plan import Aim, draw


class Variant(NamedTuple):
    says: str
    swaps: dict[str, Callable[..., Any]]  # name in the module, or Class.attribute -> the wrong one
    aim: Aim
    seed: int  # of the first world that shows it
    everywhere: tuple[ModuleType, ...] = ()  # where else the same names are held


def run(seed: int, aim: Aim, module: ModuleType, variant: Variant | None = None) -> None:
    """Raises Violation, Unproven."""
    with ExitStack() as stack:
        for name, wrong in variant.swaps.items() if variant else ():
            owner, _, attribute = name.rpartition(".")
            stack.enter_context(patch.object(getattr(module, owner) if owner else module, attribute, wrong))
            for other in variant.everywhere if variant else ():
                stack.enter_context(patch.object(other, name, wrong))
        controller = replace(module.controller, status=module.status, next_step=module.next_step)
        simulator.simulate(draw(seed, aim), simulator.Parts(controllers=(controller,)))


def caught(variant: Variant, module: ModuleType, seeds: int = 100) -> str:
    """What is said of it in the first world that shows it, from its seed on: other dice may have moved that world."""
    for seed in range(variant.seed, variant.seed + seeds):
        try:
            run(seed, variant.aim, module, variant)
        except (Violation, Unproven) as err:
            return f"{seed}: {err}"
    return ""
