"""Six ways to pay an invoice, and another one after it, explored to the end: five pay twice, the one that we use never.

Two invoices, three requests that may be late or lost or answered or not, HTLCs that settle, fail or hang, an expiry,
and a crash wherever there is a choice. The node is the fake's; what may follow what is `core.proofs`, whole or broken.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from unittest.mock import patch

import pytest

from bursar.core import proofs
from bursar.core.outcomes import (
    Absent,
    Answer,
    Attempt,
    Case,
    Done,
    Finding,
    Outcome,
    Prepared,
    Rejected,
    Replace,
    Terms,
    Unknown,
    Verb,
)
from bursar.core.proofs import Fate
from bursar.testing.fakes.lightning import BEGINS, SECOND, AlreadyExists, Node, Payment, Refused, State
from bursar.testing.fakes.lightning import Fate as End

BEFORE, AFTER = BEGINS + 10 * SECOND, BEGINS + 1_000 * SECOND  # the first invoice's expiry, which lies between them
BOOK = Node()
INVOICES = (BOOK.issue(1_000, expiry_seconds=100), BOOK.issue(1_000, expiry_seconds=9_999))
HASHES = tuple(BOOK.preimages)
REQUESTS = 3
CLOCK = [0]  # what a controller reads that trusts a clock more than a proof
ENDS: tuple[End, ...] = ("settle", "fail", "hang")


@dataclass(frozen=True)
class World:
    time: int = BEFORE
    attempts: int = 0
    answers: frozenset[tuple[int, Verb, int, Outcome | Finding]] = frozenset()
    requests: int = 0
    on_the_way: tuple[int, ...] = ()
    records: tuple[tuple[str, State], ...] = ()
    landed: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Rules:
    terms: Terms
    refuses_expired: bool = True

    def case(self, w: World, n: int) -> Case:
        expires = BEGINS + (100, 9_999)[n] * SECOND
        attempt = Attempt(f"pay/{n}", "pay", "ln", HASHES[n], Prepared(INVOICES[n], self.terms, "", expires), 0, 0)
        mine = sorted((a for a in w.answers if a[0] == n), key=repr)
        return Case(attempt, tuple(Answer(attempt.id, k, a[1], a[2], a[3]) for k, a in enumerate(mine)))

    def node(self, w: World) -> Node:
        landed = [Payment(hash, 1_000, State.SUCCEEDED) for hash in w.landed]
        payments = {hash: Payment(hash, 1_000, state) for hash, state in w.records}
        node = Node(w.time, refuses_expired=self.refuses_expired, payments=payments, landed=landed)
        node.preimages = BOOK.preimages
        return node

    def moves(self, w: World) -> Iterator[World]:
        CLOCK[0] = w.time
        for n in range(w.attempts):
            case = self.case(w, n)
            yield hear(w, n, Verb.LOOKUP, self.look(w, n))
            if proofs.may_resend(case):
                yield from self.send(w, n)
        if w.attempts < 2:
            new = self.case(w, w.attempts).attempt
            if all(proofs.may_follow(self.case(w, n), new) for n in range(w.attempts)):
                yield from self.send(replace(w, attempts=w.attempts + 1), w.attempts)
        for n in set(w.on_the_way):
            rest = list(w.on_the_way)
            rest.remove(n)
            for after, _ in self.arrive(replace(w, on_the_way=tuple(rest)), n):
                yield after
        for hash, state in w.records:
            if state is State.IN_FLIGHT:
                for end in ENDS[:2]:
                    node = self.node(w)
                    node.end(hash, end)
                    yield seen(w, node)
        yield replace(w, time=AFTER)

    def send(self, w: World, n: int) -> Iterator[World]:
        if w.requests == REQUESTS:
            return
        w = replace(w, requests=w.requests + 1)
        yield w  # lost, and we crash before we know
        yield hear(w, n, Verb.SUBMIT, Unknown("no answer"))
        late = replace(w, on_the_way=tuple(sorted((*w.on_the_way, n))))
        yield late
        yield hear(late, n, Verb.SUBMIT, Unknown("no answer"))
        for after, said in self.arrive(w, n):
            yield after
            yield hear(after, n, Verb.SUBMIT, Unknown("no answer"))
            yield hear(after, n, Verb.SUBMIT, said)

    def arrive(self, w: World, n: int) -> Iterator[tuple[World, Outcome]]:
        for end in ENDS:
            node = self.node(w)
            node.fates[HASHES[n]] = end
            said: Outcome = Unknown("in flight")
            try:
                if node.send(INVOICES[n], 0).state is State.SUCCEEDED:
                    said = Done(HASHES[n])
            except AlreadyExists:
                pass
            except Refused as err:
                said = Rejected(str(err))
            yield seen(w, node), said

    def look(self, w: World, n: int) -> Finding:
        record = self.node(w).track(HASHES[n])
        match record.state if record else None:
            case None:
                return Absent(w.time)
            case State.SUCCEEDED:
                return Done(HASHES[n])
            case State.FAILED:
                return Absent(w.time, why="failed")
        return Unknown("in flight")


def hear(w: World, n: int, verb: Verb, said: Outcome | Finding) -> World:
    """What no proof looks at is left out: a question that came to nothing; when anything but an absence was said."""
    if isinstance(said, Unknown) and verb is Verb.LOOKUP:
        return w
    if not isinstance(said, Absent):
        return replace(w, answers=w.answers | {(n, verb, BEFORE, said)})
    return replace(w, answers=w.answers | {(n, verb, w.time, said)})


def seen(w: World, node: Node) -> World:
    records = tuple(sorted(((p.hash, p.state) for p in node.payments.values()), key=lambda record: record[0]))
    return replace(w, records=records, landed=frozenset(p.hash for p in node.landed))


def explore(rules: Rules) -> tuple[bool, int]:
    """Can money land twice? And how many states were looked at."""
    to_see, known = [World()], {World()}
    while to_see:
        for after in rules.moves(to_see.pop()):
            if len(after.landed) > 1:
                return True, len(known)
            if after not in known:
                known.add(after)
                to_see.append(after)
    return False, len(known)


LND = Terms(resend=True, replace=Replace.EXPIRY)
TRUE_FATE = proofs.fate


def broken(wrong: Callable[[Case], bool]) -> Callable[[Case], Fate]:
    def fate(case: Case) -> Fate:
        true = TRUE_FATE(case)
        return Fate.DEAD if true is Fate.OPEN and wrong(case) else true

    return fate


def timeout_is_failure(case: Case) -> bool:
    return any(a.verb is Verb.SUBMIT and isinstance(a.said, Unknown) for a in case.answers)


def not_found_is_failure(case: Case) -> bool:
    return any(isinstance(a.said, Absent) and a.said.why == "not found" for a in case.answers)


def failed_is_final(case: Case) -> bool:
    return any(isinstance(a.said, Absent) and a.said.why == "failed" for a in case.answers)


def read_before_expiry(case: Case) -> bool:
    return CLOCK[0] == AFTER and any(isinstance(a.said, Absent) for a in case.answers)


@pytest.mark.parametrize("wrong", [timeout_is_failure, not_found_is_failure, failed_is_final, read_before_expiry])
def test_it_pays_twice(wrong: Callable[[Case], bool]) -> None:
    with patch.object(proofs, "fate", broken(wrong)):
        twice, _ = explore(Rules(LND))
    assert twice


def test_it_pays_twice_where_nobody_refuses_expired_invoices() -> None:
    assert explore(Rules(LND, refuses_expired=False))[0]


@pytest.mark.parametrize("terms", [LND, Terms(replace=Replace.EXPIRY), Terms(resend=True), Terms()])
def test_it_never_pays_twice(terms: Terms) -> None:
    twice, states = explore(Rules(terms))
    assert not twice and states > 100


def test_without_a_promise_expired_invoices_are_no_danger() -> None:
    assert not explore(Rules(Terms(), refuses_expired=False))[0]
