"""What a known-wrong variant of the code is, and how it is put in the place of the right one."""

from __future__ import annotations

import sys
from typing import Any, NamedTuple

from ..plan import Aim
from ..simulator import Parts

Swaps = tuple[tuple[Any, Any], ...]  # (right function, wrong one): wherever the product holds it
Patches = tuple[tuple[Any, str, Any], ...]  # (class, attribute, wrong one)


class Mutant(NamedTuple):
    says: str
    aim: Aim = Aim()  # the worlds that are most likely to show it
    parts: Parts = Parts()
    swaps: Swaps = ()
    patches: Patches = ()
    costs: str = ""  # of an equivalent one: what an audit may say of it, for it only works in vain


def install(mutant: Mutant) -> None:
    """For the rest of this process, and before anything of it runs: never under a coroutine that has begun."""
    for right, wrong in mutant.swaps:
        for name, module in list(sys.modules.items()):
            if name.startswith("bursar.") and not name.startswith("bursar.testing.mutants"):
                for attribute, value in list(vars(module).items()):
                    if value is right:
                        setattr(module, attribute, wrong)
    for owner, attribute, wrong in mutant.patches:
        setattr(owner, attribute, wrong)
