"""An allocation is a word about all its legs: given when the last one is over, and never taken back."""

from __future__ import annotations

import pytest
from msgspec import json

from bursar.core.money import Money
from bursar.core.ports import Seen
from bursar.core.steps import Decide, Declare, Wait
from bursar.core.subject import DECLARED, Decision, Mover, Report, Spec, Subject, SubjectId
from bursar.payouts import allocation

ID = SubjectId("t", "allocation", "a")
SPLIT = allocation.Split(Money("BTC", 10), {"x": 2, "y": 1, "z": 0}, "wallet")
LEGS = ["t/payout/a.x", "t/payout/a.y"]  # what gets nothing has no leg
ASKED = Subject(ID, 1, (Spec(1, json.encode(SPLIT), "me"),))
WANTED = ASKED.plus(*(Decision(DECLARED, leg, "bursar", "", 0) for leg in LEGS))


def report(leg: str, n: int, state: str, mover: Mover = Mover.NOBODY) -> Report:
    return Report(leg, n, state, mover, frozenset(), 0)


def step(s: Subject) -> object:
    return allocation.controller.next_step(s, allocation.controller.status(s), Seen())


def test_each_share_becomes_a_leg() -> None:
    assert step(ASKED) == Declare("payout", "a.x", allocation.legs_of(ID, ASKED.spec.body)["a.x"])
    assert step(WANTED) == Wait() and allocation.status(WANTED).state == "awaiting_rail"


@pytest.mark.parametrize(("last", "word"), [("settled", "settled"), ("cancelled", "closed"), ("closed", "closed")])
def test_the_word_is_given_when_all_are_over_and_stays(last: str, word: str) -> None:
    half = WANTED.plus(report(LEGS[0], 2, "settled"))
    assert step(half) == Wait()
    over = half.plus(report(LEGS[1], 2, last))
    decided = step(over)
    assert isinstance(decided, Decide) and decided.name == word
    told = over.plus(Decision(decided.name, "", "bursar", decided.reason, 0))
    assert (allocation.status(told).state, allocation.status(told).mover) == (word, Mover.NOBODY)
    again = told.plus(report(LEGS[0], 3, "settled", Mover.OPERATOR))  # it was paid once more
    assert (allocation.status(again).state, allocation.status(again).mover) == (word, Mover.OPERATOR)
    assert step(again) == Wait()


def test_a_leg_that_waits_for_an_operator_makes_it_wait() -> None:
    asks = WANTED.plus(report(LEGS[0], 2, "settled"), report(LEGS[1], 2, "awaiting_operator", Mover.OPERATOR))
    assert allocation.status(asks).state == "awaiting_operator" and step(asks) == Wait()
