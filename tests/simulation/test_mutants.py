"""Every known-wrong variant is caught: by the world that is kept for it, and within 300 that are aimed at it. Each runs
in a process of its own, for it spoils everything else."""

from __future__ import annotations

from collections.abc import Iterator
from multiprocessing import get_context
from multiprocessing.pool import Pool

import pytest

from bursar.testing.mutants import EQUIVALENT, MUTANTS
from bursar.testing.mutants.hunt import ENOUGH, hunt, shows


@pytest.fixture(scope="module")
def alone() -> Iterator[Pool]:
    server = get_context("forkserver")
    server.set_forkserver_preload(["bursar.testing.mutants.hunt"])
    with server.Pool(1, maxtasksperchild=1) as pool:
        yield pool


@pytest.mark.parametrize("name", MUTANTS)
def test_its_own_world_shows(name: str, alone: Pool) -> None:
    assert alone.apply(shows, (name,)), MUTANTS[name].says


@pytest.mark.parametrize("name", EQUIVALENT)
def test_no_world_shows(name: str, alone: Pool) -> None:
    got = alone.apply(hunt, (12, name))
    assert got.caught == 0, f"seed {got.first}: {got.said}"


@pytest.mark.soak
@pytest.mark.parametrize("name", MUTANTS)
def test_the_hunt_finds(name: str, alone: Pool) -> None:
    assert alone.apply(hunt, (300, name)).caught >= ENOUGH, MUTANTS[name].says


@pytest.mark.soak
@pytest.mark.parametrize("name", EQUIVALENT)
def test_the_hunt_does_not_find(name: str, alone: Pool) -> None:
    got = alone.apply(hunt, (300, name))
    assert got.caught == 0, f"seed {got.first}: {got.said}"
