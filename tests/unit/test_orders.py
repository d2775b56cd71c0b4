"""What an order group asks for next, from its records alone."""

from __future__ import annotations

from typing import Any

import pytest
from msgspec import json
from msgspec.structs import replace

from bursar import orders
from bursar.core.facts import Cursor, Fact, Place
from bursar.core.money import Money
from bursar.core.outcomes import (
    Absent,
    Answer,
    Attempt,
    Cancel,
    Done,
    Prepared,
    Rejected,
    Replace,
    Terms,
    Unknown,
    Verb,
)
from bursar.core.outcomes import Place as PlaceOrder
from bursar.core.ports import Refused, Seen
from bursar.core.steps import Decide, Lookup, Resend, Step, Submit, Wait, at, at_watermark
from bursar.core.subject import Decision, Mover, Record, Spec, Subject, SubjectId
from bursar.orders import PAUSE, Group, Member

RAIL, PATIENCE = "venue", 1_000_000_000
GROUP = Group(RAIL, (Member("a", "X", "buy", 9, 5), Member("b", "Y", "buy", 9, 6)), "oco_first_fill", PATIENCE)
UNIQUE, REUSED, PLAIN = Terms(True, Replace.SHARED), Terms(False, Replace.EXPIRY), Terms()


def subject(*records: Record, group: Group = GROUP, generation: int = 1) -> Subject:
    spec = Spec(generation, json.encode(group), "client")
    return Subject(SubjectId("t", "order_group", "g"), 1, (spec, *records))


def withdrawn(*records: Record) -> Subject:
    return subject(Spec(1, json.encode(GROUP), "client"), *records, group=replace(GROUP, present=False), generation=2)


def attempt(id: str, then: int = 10, terms: Terms = REUSED, key: str = "") -> Attempt:
    resource, expires_at = ("r" if terms is UNIQUE else ""), (then + 30 if terms is REUSED else None)
    prepared = Prepared("", terms, resource, expires_at)
    return Attempt(id, id.rsplit("/", 1)[0], RAIL, key or id, prepared, then + PATIENCE, then)


def answer(id: str, said: Any, asked: int = 20, verb: Verb = Verb.SUBMIT) -> Answer:
    return Answer(id, asked, verb, asked, said)


def report(n: int, key: str, filled: int = 0, *, ended: bool = False) -> Fact:
    line, spends = f"{RAIL}#{n}", (key,) if ended else ()
    place, money = Place(n, line, n), Money("X", filled)
    return Fact(RAIL, line, line, 0, n, keys=(key,), spends=spends, place=place, money=money, proves=key)


def proven(n: int) -> Decision:
    return Decision("final", f"{RAIL}#{n}", "bursar", "", 0)


def step(s: Subject, now: int = 100, watermark: int | None = None) -> Step:
    cursors = {} if watermark is None else {RAIL: Cursor(9, watermark=watermark)}
    return orders.next_step(s, orders.status(s), Seen(now, cursors))


def state(s: Subject) -> tuple[str, Mover]:
    status = orders.status(s)
    return status.state, status.mover


PLACED_A = (attempt("a.place.0/1"), answer("a.place.0/1", Done("1")))
PLACED_B = (attempt("b.place.0/1"), answer("b.place.0/1", Done("2")))


def test_each_is_placed_once_and_the_next_only_when_the_last_is_known() -> None:
    first = step(subject())
    assert first == Submit("a.place.0", RAIL, PlaceOrder("X", "buy", 9, 5), 100 + PATIENCE)
    doubtful = subject(PLACED_A[0], answer("a.place.0/1", Unknown("no reply")))
    assert step(doubtful) == Lookup("a.place.0/1") and state(doubtful) == ("awaiting_rail", Mover.RAIL)
    second = step(subject(*PLACED_A))
    assert second == Submit("b.place.0", RAIL, PlaceOrder("Y", "buy", 9, 6), 100 + PATIENCE, after=("a.place.0",))
    assert step(subject(*PLACED_A, *PLACED_B)) == Wait()


@pytest.mark.parametrize("said", [Unknown("no reply"), Rejected("duplicate")])
def test_the_record_outranks_an_answer(said: Rejected | Unknown) -> None:
    s = subject(PLACED_A[0], answer("a.place.0/1", said), report(1, "a.place.0/1", 4))
    assert orders.status(s).parts == (("a.place.0", "rests 4/9"),)
    assert step(s) == Decide("final", f"{RAIL}#1", "the venue's record")


def test_what_is_proven_absent_is_another_attempt_at_the_same_effect() -> None:
    absent = answer("a.place.0/1", Absent(60), 60, Verb.LOOKUP)
    lost = (PLACED_A[0], answer("a.place.0/1", Unknown("no reply")))
    assert step(subject(*lost, answer("a.place.0/1", Absent(30), 30, Verb.LOOKUP)), 50).__class__ is Lookup
    one = replace(GROUP, members=GROUP.members[:1])
    assert step(subject(*lost, absent, group=one), watermark=60) == Wait((at_watermark(RAIL, 61),))
    again = step(subject(*lost, absent, group=one), watermark=61)
    assert isinstance(again, Submit) and again.slot == "a.place.0"


def test_the_first_fill_by_the_venue_leaves_one_alive_once_all_is_read() -> None:
    fills = (report(4, "b.place.0/1", 1), report(3, "a.place.0/1", 2))
    s = subject(*PLACED_A, *PLACED_B, *fills, proven(3), proven(4))
    assert isinstance(step(s), Wait)  # an earlier fill may not have been read
    chosen = step(s, watermark=0)
    assert chosen == Decide("survivor", "a", "the first fill, at 3 of the venue's record")
    s = s.plus(Decision("survivor", "a", "bursar", "", 0))
    assert step(s) == Submit("b.cancel.0", RAIL, Cancel("b.place.0/1"), 100 + PATIENCE)
    assert orders.status(s).flags == {"overfilled"}
    cancelled = s.plus(attempt("b.cancel.0/1", terms=UNIQUE), answer("b.cancel.0/1", Done("")))
    assert isinstance(step(cancelled), Wait) and state(cancelled) == ("awaiting_rail", Mover.RAIL)
    over = cancelled.plus(report(5, "b.place.0/1", 1, ended=True), report(6, "a.place.0/1", 9, ended=True))
    assert state(over) == ("filled", Mover.OPERATOR)


def test_the_rest_of_an_order_that_the_venue_ended_is_another_effect() -> None:
    ended = report(3, "a.place.0/1", 2, ended=True)
    s = subject(*PLACED_A, *PLACED_B, ended, proven(3), Decision("survivor", "a", "bursar", "", 0))
    s = s.plus(report(4, "b.place.0/1", ended=True), proven(4))
    assert step(s, watermark=20) == Wait((at_watermark(RAIL, 21),))
    rest = step(s, watermark=21)
    assert rest == Submit(
        "a.place.1", RAIL, PlaceOrder("X", "buy", 7, 5), 100 + PATIENCE, after=("a.place.0", "b.place.0")
    )


def test_what_is_not_wanted_is_only_asked_about() -> None:
    absent = answer("a.place.0/1", Absent(60), 60, Verb.LOOKUP)
    lost = (attempt("a.place.0/1", terms=UNIQUE), answer("a.place.0/1", Unknown("no reply")), absent)
    assert step(subject(*lost)) == Resend("a.place.0/1")
    assert step(withdrawn(*lost), 60 + PAUSE) == Lookup("a.place.0/1")
    assert at(60 + PAUSE) in wait(step(withdrawn(*lost), 100)).until


def wait(step: Step) -> Wait:
    assert isinstance(step, Wait)
    return step


def test_what_no_proof_decides_goes_to_a_person_and_is_still_asked_about() -> None:
    s = subject(attempt("a.place.0/1", terms=PLAIN), answer("a.place.0/1", Unknown("no reply")))
    s = s.plus(answer("a.place.0/1", Absent(30, complete=False), 30, Verb.LOOKUP))
    late = 11 + PATIENCE
    assert step(s, late) == Decide("held", "a.place.0/1", "open past its horizon")
    s = s.plus(Decision("held", "a.place.0/1", "bursar", "", late))
    assert state(s) == ("awaiting_operator", Mover.OPERATOR) and step(s, late) == Lookup("a.place.0/1")
    closed = s.plus(Decision("closed", "", "operator", "the venue says no", late, command="c1"))
    assert state(closed) == ("closed", Mover.NOBODY) and step(closed, late) == Wait()
    found = closed.plus(report(7, "a.place.0/1"), proven(7))
    assert isinstance(step(found, late), Submit) and state(found)[0] == "awaiting_rail"


def test_withdrawn() -> None:
    assert state(withdrawn()) == ("cancelled", Mover.NOBODY) and step(withdrawn()) == Wait()
    assert step(withdrawn(*PLACED_A)) == Submit("a.cancel.0", RAIL, Cancel("a.place.0/1"), 100 + PATIENCE)
    over = withdrawn(*PLACED_A, report(3, "a.place.0/1", 9, ended=True), proven(3))
    assert state(over) == ("filled", Mover.NOBODY)


def test_a_refusal_for_good_is_shown_and_not_tried_again() -> None:
    refused = (attempt("a.place.0/1", terms=PLAIN), answer("a.place.0/1", Rejected("no such market", final=True)))
    asked = step(subject(*refused))
    assert asked == Decide("held", "a", "refused for good")
    s = subject(*refused, Decision("held", "a", "bursar", "", 0))
    assert state(s) == ("awaiting_operator", Mover.OPERATOR)
    assert isinstance(step(s), Submit)  # of the other member


@pytest.mark.parametrize(
    ("group", "generation"),
    [
        (replace(GROUP, present=False), 3),
        (replace(GROUP, patience=1), 2),
        (replace(GROUP, members=GROUP.members[:1]), 2),
        (replace(GROUP, members=GROUP.members[:1] * 2), 1),
        (replace(GROUP, members=()), 1),
        (replace(GROUP, members=(Member("a", "X", "buy", 0, 5),)), 1),
    ],
)
def test_what_is_refused(group: Group, generation: int) -> None:
    s = subject() if generation > 1 else Subject(SubjectId("t", "order_group", "g"))
    assert isinstance(orders.admit(s, Spec(generation, json.encode(group), "client")), Refused)


def test_what_is_admitted() -> None:
    new = Subject(SubjectId("t", "order_group", "g"))
    assert orders.admit(new, Spec(1, json.encode(GROUP), "client")) is None
    assert orders.admit(subject(), Spec(2, json.encode(replace(GROUP, present=False)), "client")) is None
    assert orders.admit(subject(), Decision("closed", "", "operator", "why", 0, command="c")) is None
    assert isinstance(orders.admit(new, Decision("closed", "", "operator", "why", 0, command="c")), Refused)
    assert isinstance(orders.admit(subject(), Decision("survivor", "a", "operator", "why", 0, command="c")), Refused)
