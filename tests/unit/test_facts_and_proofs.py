"""Stories of facts and proofs, told in every order."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import permutations

import pytest

from bursar.core.errors import Unproven
from bursar.core.facts import Fact, Place, Rollback, Stands, merge
from bursar.core.money import Money
from bursar.core.outcomes import Answer, Attempt, Case, Done, Prepared, Replace, Terms, Unknown, Verb
from bursar.core.proofs import demand_follow


def fact(n: int, branch: int, as_of: int, place: Place | None = None, *, gone: bool = False) -> Fact:
    spends, pays = (f"coin{n % 2}",), Money("BTC", 1)
    return Fact("c", f"t{n}:0", f"t{n}", branch, as_of, 0, ("k",), spends, place, gone, pays)


A = Place(5, "A", 1)
STORIES: dict[str, tuple[Sequence[Fact | Rollback], Stands]] = {
    "mined": ([fact(0, 0, 1), fact(0, 0, 1, A)], Stands.INCLUDED),
    "rolled back": ([fact(0, 0, 1, A), Rollback("c", 4, 1)], Stands.ADRIFT),
    "sighted again": ([fact(0, 0, 1, A), Rollback("c", 4, 1), fact(0, 1, 2)], Stands.PENDING),
    "the same block back": ([fact(0, 0, 1, A), Rollback("c", 4, 1), fact(0, 1, 1, A)], Stands.INCLUDED),
    "stale mempool read": ([fact(0, 0, 1, A), Rollback("c", 6, 1), fact(0, 1, 1)], Stands.INCLUDED),
    "a rival is mined": ([fact(0, 0, 1), fact(2, 0, 2, A)], Stands.DISPLACED),
    "evicted": ([fact(0, 0, 1), fact(0, 0, 9, gone=True)], Stands.GONE),
    "evicted and broadcast again": ([fact(0, 0, 1), fact(0, 0, 9, gone=True), fact(0, 0, 11)], Stands.PENDING),
    "replaced, and the replacement evicted": (
        [fact(0, 0, 1), fact(2, 0, 5), fact(2, 0, 20, gone=True), fact(0, 0, 22)],
        Stands.PENDING,
    ),
    "evicted and mined": ([fact(0, 0, 1), fact(0, 0, 1, A), fact(0, 0, 9, gone=True)], Stands.INCLUDED),
}


@pytest.mark.parametrize("name", STORIES)
def test_every_order_of_arrival(name: str) -> None:
    records, stands = STORIES[name]
    for order in permutations(records):
        got = merge((r for r in order if isinstance(r, Fact)), (r for r in order if isinstance(r, Rollback)))
        assert got["t0:0"].stands is stands


def attempt(slot: str, terms: Terms) -> Attempt:
    return Attempt(f"{slot}/1", slot, "x", "k", Prepared("", terms, expires_at=9), 0, 0)


def test_what_must_be_known_first() -> None:
    new, old = attempt("a.place.2", Terms()), attempt("a.place.1", Terms(replace=Replace.EXPIRY))
    done = Answer(old.id, 0, Verb.LOOKUP, 1, Done("x"))
    demand_follow(new, [], {"a.place.1": [Case(old, (done,))]})
    with pytest.raises(Unproven):
        demand_follow(new, [], {"a.place.1": [Case(old, (Answer(old.id, 0, Verb.SUBMIT, 1, Unknown("lost")),))]})


def test_terms_that_lack_what_they_rest_on() -> None:
    with pytest.raises(ValueError, match="SHARED"):
        Prepared("", Terms(replace=Replace.SHARED))
    with pytest.raises(ValueError, match="EXPIRY"):
        Prepared("", Terms(replace=Replace.EXPIRY))
