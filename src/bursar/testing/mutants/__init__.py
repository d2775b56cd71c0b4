"""Known-wrong variants. Each must be caught by the simulator, or it does not test the law that it breaks; and those
that are equivalent by design must not be, or we do not understand the design."""

from __future__ import annotations

from . import equivalent, judging, keeping, reading, sending
from .mutant import Mutant

MUTANTS: dict[str, Mutant] = sending.MUTANTS | reading.MUTANTS | judging.MUTANTS | keeping.MUTANTS
EQUIVALENT: dict[str, Mutant] = equivalent.MUTANTS
