"""Properties of the pure parts: whatever comes in whatever order."""

from __future__ import annotations

from random import Random

from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.core.facts import Fact, Place, Rollback, contradicted, merge
from bursar.core.ledger import Line, Posting, transfers
from bursar.core.money import Money, split


def fact(n: int, branch: int, as_of: int, place: Place | None, money: int = 1, *, gone: bool = False) -> Fact:
    spends, pays = (f"coin{n % 2}",), Money("BTC", money)
    return Fact("c", f"t{n}:0", f"t{n}", branch, as_of, 0, ("k",), spends, place, gone and place is None, pays)


places = st.one_of(st.none(), st.builds(Place, st.integers(1, 5), st.sampled_from("AB"), st.integers(0, 50)))
facts = st.lists(
    st.builds(
        fact, st.integers(0, 3), st.integers(0, 3), st.integers(0, 50), places, st.integers(1, 2), gone=st.booleans()
    ),
    max_size=7,
)
rollbacks = st.lists(st.builds(Rollback, st.just("c"), st.integers(0, 5), st.integers(1, 4)), max_size=3)


@given(facts, rollbacks, st.integers())
@settings(max_examples=1000, deadline=None)
def test_merge_is_a_join(fs: list[Fact], rs: list[Rollback], seed: int) -> None:
    again, undone = fs + fs[:2], rs + rs[:1]
    Random(seed).shuffle(again)
    Random(seed).shuffle(undone)
    assert merge(again, undone) == merge(fs, rs)
    assert contradicted(again) == contradicted(fs)


@given(st.integers(0, 10**9), st.dictionaries(st.text(max_size=3), st.integers(1, 10**6), min_size=1))
def test_split_sums(minor: int, weights: dict[str, int]) -> None:
    parts, whole = split(Money("BTC", minor), weights), sum(weights.values())
    assert sum(p.minor for p in parts.values()) == minor
    assert all(abs(p.minor * whole - minor * weights[k]) < whole for k, p in parts.items())


def posting(id: str, source: str, target: str, minor: int) -> Posting:
    return Posting(id, (Line(source, "BTC", -minor), Line(target, "BTC", minor)))


level = st.lists(
    st.builds(posting, st.sampled_from("abc"), st.sampled_from("xy"), st.sampled_from("pq"), st.integers(1, 9)),
    unique_by=lambda p: p.id,
    max_size=3,
)


@given(st.lists(level, min_size=1, max_size=6))
def test_the_ledger_is_level(levels: list[list[Posting]]) -> None:
    """Whatever the road, the accounts show the last level and nothing else."""

    def walk(road: list[list[Posting]]) -> dict[tuple[str, str], int]:
        sums: dict[tuple[str, str], int] = {}
        for before, after in zip([[], *road], road, strict=False):
            for line in transfers(before, after):
                sums[line.account, line.asset] = sums.get((line.account, line.asset), 0) + line.minor
        return {k: v for k, v in sums.items() if v}

    assert walk(levels) == walk(levels[-1:])
