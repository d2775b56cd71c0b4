"""`bursar simulate`: runs worlds, says how many audited steps a second that were, and of a world that fails the
shortest story and how to see it again."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import NamedTuple

from .mutants import EQUIVALENT, MUTANTS
from .mutants.hunt import Hunt, hunt_all
from .plan import draw
from .shrink import attempt, shrink, told
from .simulator import FAILURES, Simulation

CHUNK = 25  # worlds of one piece of work
MANY = 100  # from here on all cores help
WORLDS, HUNTED = 100, 300  # where nobody says how many: to run, and of each known-wrong variant
SHOWN = 3  # failures of which the story is told


class Chunk(NamedTuple):
    seeds: int
    steps: int
    seconds: float  # of one processor
    failed: tuple[int, ...]


def run(first: int, seeds: int) -> Chunk:
    began, steps, failed = time.process_time(), 0, list[int]()
    for seed in range(first, first + seeds):
        simulation = Simulation(draw(seed))
        try:
            simulation.run()
        except FAILURES:
            failed.append(seed)
        steps += simulation.world.steps
    return Chunk(seeds, steps, time.process_time() - began, tuple(failed))


def chunks(first: int, seeds: int) -> Iterator[Chunk]:
    pieces = [(n, min(CHUNK, first + seeds - n)) for n in range(first, first + seeds, CHUNK)]
    if seeds < MANY:
        yield from (run(*piece) for piece in pieces)
        return
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        yield from pool.map(run, *zip(*pieces, strict=True))


def main(seeds: int | None, seed: int | None, *, show: bool, mutants: bool) -> int:
    """Runs `seeds` worlds from `seed` (or 0) on; with `show` tells the story of each that fails, and of a single
    one in any case. With `mutants`: hunts each known-wrong variant through at most so many worlds. Returns the
    process's exit code: 0 if all is as it must be."""
    if mutants:
        return hunted(seeds or HUNTED)
    seeds = seeds or WORLDS
    began, done, steps, spent, failed = time.perf_counter(), 0, 0, 0.0, list[int]()
    for chunk in chunks(seed or 0, seeds):
        done, steps, spent = done + chunk.seeds, steps + chunk.steps, spent + chunk.seconds
        for bad in chunk.failed:
            failed.append(bad)
            if len(failed) <= SHOWN:
                print("\n".join(story(bad)), flush=True)
        if sys.stderr.isatty():
            print(f"\r{done} of {seeds} worlds, {len(failed)} failed ", end="", file=sys.stderr, flush=True)
    if show and seeds == 1 and not failed:
        print("\n".join(course(seed or 0)))
    took = time.perf_counter() - began
    print(
        f"{done} worlds, {len(failed)} failed; {steps:,} audited steps in {took:.0f} s: "
        f"{steps / took:,.0f} a second, {steps / spent:,.0f} on one core"
    )
    return 1 if failed else 0


def story(seed: int) -> Iterator[str]:
    plan = draw(seed)
    failure = attempt(plan)
    if failure is None:
        yield f"seed {seed} failed, and does not when it is told: something depends on more than the seed"
        return
    yield from told(*shrink(plan, failure))
    yield f"again: bursar simulate --seeds 1 --seed {seed} --show"


def course(seed: int) -> list[str]:
    simulation = Simulation(draw(seed))
    simulation.world.story = lines = list[str]()
    simulation.run()
    return lines


def hunted(seeds: int) -> int:
    bad = 0
    for got in hunt_all([*MUTANTS, *EQUIVALENT], seeds):
        wanted = got.name in MUTANTS
        bad += bool(got.caught) != wanted
        print(line(got, wanted=wanted), flush=True)
    print(f"{len(MUTANTS)} known-wrong variants and {len(EQUIVALENT)} equivalent ones, {bad} not as they must be")
    return 1 if bad else 0


def line(got: Hunt, *, wanted: bool) -> str:
    says = (MUTANTS | EQUIVALENT)[got.name].says
    verdict = "caught" if got.caught else "not caught"
    mark = "  " if bool(got.caught) == wanted else "! "
    return f"{mark}{got.name:22}{verdict} {got.caught} of {got.tried}, first by {got.first}: {says}"
