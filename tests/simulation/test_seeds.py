"""The engine in hostile worlds, audited after every step; and a crash after every call of a port."""

from __future__ import annotations

from multiprocessing import get_context

import pytest

from bursar.testing.mutants import MUTANTS
from bursar.testing.mutants.mutant import install
from bursar.testing.plan import draw
from bursar.testing.report import main, run
from bursar.testing.shrink import attempt, shrink, told
from bursar.testing.simulator import crash_everywhere

PIECE = 125


@pytest.mark.parametrize("first", range(0, 1000, PIECE))
def test_a_thousand_worlds(first: int) -> None:
    assert run(first, PIECE).failed == ()


@pytest.mark.parametrize("seed", [3, 4, 8])
def test_a_crash_after_every_call(seed: int) -> None:
    assert crash_everywhere(seed, 120) > 60


def shortest(name: str, seed: int) -> tuple[int, int, tuple[str, ...]]:
    install(MUTANTS[name])
    plan = draw(seed, MUTANTS[name].aim)
    failure = attempt(plan)
    assert failure is not None
    smaller, again = shrink(plan, failure, tries=60)
    assert again.where == failure.where
    return len(plan.happenings), len(smaller.happenings), tuple(told(smaller, again))


def test_the_shortest_story_of_a_failure() -> None:
    with get_context("spawn").Pool(1) as pool:
        was, now, story = pool.apply(shortest, ("covers_too_little", 0))
    assert now < was / 4
    assert "is in the blocks" in story[0] and story[1] == "faults: none"


def test_the_report_tells_the_course_of_one_world(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(1, 3, show=True, mutants=False) == 0
    said = capsys.readouterr().out
    assert "the world becomes kind" in said and "1 worlds, 0 failed" in said
    assert main(1, 3, show=True, mutants=False) == 0
    assert capsys.readouterr().out.splitlines()[:-1] == said.splitlines()[:-1]  # the last line tells the time it took
