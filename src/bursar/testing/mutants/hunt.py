"""Runs known-wrong variants through worlds until they are caught, each in a process of its own."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterable, Iterator
from functools import partial
from multiprocessing import get_context
from typing import NamedTuple

from ...core.errors import Unproven
from ..audits import Violation
from ..plan import draw
from ..simulator import simulate
from . import EQUIVALENT, MUTANTS
from .mutant import Mutant, install
from .seeds import SEEDS

ENOUGH = 3  # times caught, and the next one


class Hunt(NamedTuple):
    name: str
    caught: int
    tried: int
    first: int  # seed
    said: str


def caught(mutant: Mutant, seed: int) -> str:
    """What an audit, or the gate, says of it in this world; "" for nothing. Only after `install`."""
    try:
        simulate(draw(seed, mutant.aim), mutant.parts)
    except (Violation, Unproven) as err:
        said = str(err) or type(err).__name__
        return "" if mutant.costs and mutant.costs in said else said
    return ""


def hunt(seeds: int, name: str) -> Hunt:
    """In a process of its own, which is spoilt for everything else."""
    mutant = (MUTANTS | EQUIVALENT)[name]
    install(mutant)
    warnings.simplefilter("ignore", RuntimeWarning)  # a wrong one may leave what it began
    times, first, said, tried = 0, -1, "", 0
    for seed in range(seeds):
        if times == ENOUGH:
            break
        tried += 1
        if what := caught(mutant, seed):
            times += 1
            first, said = (first, said) if times > 1 else (seed, what)
    return Hunt(name, times, tried, first, said)


def hunt_all(names: Iterable[str], seeds: int) -> Iterator[Hunt]:
    with get_context("spawn").Pool(os.cpu_count(), maxtasksperchild=1) as pool:
        yield from pool.imap(partial(hunt, seeds), names, chunksize=1)


def shows(name: str) -> str:
    """The quick test of one: what its own seed shows."""
    install(MUTANTS[name])
    return caught(MUTANTS[name], SEEDS[name])
