"""The engine in hostile worlds, audited after every step; and a crash after every call of a port."""

from __future__ import annotations

import os
import subprocess
import sys
from multiprocessing import get_context

import pytest

from bursar.testing.mutants import MUTANTS
from bursar.testing.mutants.mutant import install
from bursar.testing.plan import Aim, draw
from bursar.testing.report import main, run
from bursar.testing.shrink import attempt, shrink, told
from bursar.testing.simulator import crash_everywhere

PIECE = 125


@pytest.mark.parametrize("first", range(0, 1000, PIECE))
def test_a_thousand_worlds(first: int) -> None:
    assert run(first, PIECE).failed == ()


STORIES = {
    "invoices": {"mine": 3, "invoice": 2, "undo": 1, "rbf": 1},
    "payouts": {"leg": 3, "split": 1, "cancel": 1},
    "orders": {"group": 2, "trade": 2, "withdraw": 1},
    "deposits": {"seal": 4, "handle": 2, "send": 3},
}


@pytest.mark.parametrize("name", STORIES)
def test_a_crash_after_every_call(name: str) -> None:
    assert crash_everywhere(draw(1, Aim(story=STORIES[name], steps=140))) > 80


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


def test_a_world_is_the_same_whatever_the_hash_seed() -> None:
    code = "from bursar.testing.report import run; print([run(seed, 1).steps for seed in range(12)])"
    said = {
        subprocess.run(
            [sys.executable, "-c", code], env=os.environ | {"PYTHONHASHSEED": n}, stdout=-1, check=True
        ).stdout
        for n in "12"
    }
    assert len(said) == 1
