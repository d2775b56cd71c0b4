"""Order groups in a hostile world, and the known-wrong variants that its audits must catch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace
from tests.simulation.variants import Variant, caught, run

from bursar import orders
from bursar.core import proofs
from bursar.core.facts import Cursor
from bursar.core.outcomes import Absent, Case, Done, Rejected, Unknown, Verb
from bursar.core.proofs import Fate
from bursar.core.steps import Decide, Step, Submit, Wait
from bursar.engine import reconcile
from bursar.orders import Book, Member, Order
from bursar.rails.sim.world import Trouble
from bursar.testing import plan, simulator
from bursar.testing.plan import Aim
from bursar.testing.world_orders import STORY, Desk

HOSTILE = Aim(story=STORY | {"blind": 1, "third": 1}, steps=2000, trouble={"lost_answer": 0.2})
REFUSING = Aim(
    story={"group": 4, "trade": 2, "drop": 2, "withdraw": 1}, steps=2000, trouble={"late": 0.5, "refusal": 0.5}
)
DROPPING = Aim(story={"group": 2, "drop": 5, "trade": 4, "race": 2, "blind": 1}, steps=2000, trouble={"stale": 0.5})
QUIET = Aim(story={"group": 5, "trade": 4, "race": 1}, trouble=dict.fromkeys(Trouble.__struct_fields__, 0.0))
LOSSY = Aim(story={"group": 2, "trade": 3, "race": 3, "withdraw": 3}, steps=2000, trouble={"lost_question": 0.5})
LATE = Aim(story=STORY, steps=2000, trouble={"late": 0.5, "lost_question": 0.5})
RACING = Aim(story={"group": 2, "trade": 6, "race": 6, "withdraw": 5}, steps=2000, trouble={"stale": 0.5})

true_fate, true_book, true_moves = proofs.fate, orders.book, orders.moves
true_submit, true_place, true_resting = orders.submit, orders.place, Order.resting


@pytest.fixture(autouse=True)
def desk() -> Iterator[None]:
    with patch.dict(simulator.SCENES, desk=lambda world, _: Desk(world)), patch.dict(plan.STORIES, desk=(STORY, ())):
        yield


def dead_if(case: Case, wrong: bool) -> Fate:
    said = true_fate(case)
    return Fate.DEAD if said is Fate.OPEN and wrong else said


def unknown_is_dead(case: Case) -> Fate:
    return dead_if(case, any(isinstance(a.said, Unknown) and a.verb is Verb.SUBMIT for a in case.answers))


def absent_is_dead(case: Case) -> Fate:
    return dead_if(case, any(isinstance(a.said, Absent) for a in case.answers))


def refused_is_dead(case: Case) -> Fate:
    return dead_if(case, any(isinstance(a.said, Rejected) for a in case.answers))


def in_a_new_slot(b: Book, member: Member, slot: str, now: int) -> Submit:
    """Past the gate: every try is called an effect of its own."""
    return replace(true_submit(b, member, f"{member.id}.place.{len(b.of(member))}", now), after=())


def whole_again(b: Book, member: Member, slot: str, now: int) -> Submit:
    step = true_submit(b, member, slot, now)
    return replace(step, effect=replace(step.effect, quantity=member.quantity))


def over_if(order: Order, *said: type) -> list[str]:
    over = any(isinstance(a.said, said) for case in order.cancels for a in case.answers)
    resting: list[str] = true_resting.fget(order)  # type: ignore[attr-defined]
    return [] if over else resting


def unread(s: Any, b: Book, member: Member, seen: Any) -> Step:
    return true_place(s, b, member, replace(seen, cursors={b.group.rail: Cursor(watermark=1 << 60)}))


class Always(dict[str, Cursor]):
    def __contains__(self, rail: object) -> bool:
        return True


def uncovered(s: Any, b: Book, seen: Any) -> Iterator[Step]:
    yield from true_moves(s, b, replace(seen, cursors=Always(seen.cursors)))


def last_fill(s: Any, b: Book, seen: Any) -> Iterator[Step]:
    fills = [(f.place.position, o.member.id) for o in b.orders for f in o.reports if f.place and orders.amount(f)]
    for step in true_moves(s, b, seen):
        chosen = isinstance(step, Decide) and step.name == orders.SURVIVOR
        yield replace(step, about=max(fills)[1]) if chosen else step


def all_survive(s: Any, b: Book, seen: Any) -> Iterator[Step]:
    yield from (x for x in true_moves(s, b, seen) if not (isinstance(x, Decide) and x.name == orders.SURVIVOR))


def answers_only(s: Any) -> Book:
    b = true_book(s)
    return replace(b, orders=[replace(order, reports=[]) for order in b.orders])


def says_nothing(s: Any, b: Book) -> bool:
    return False


SENDING = (proofs, reconcile)
VARIANTS = {
    "unknown_is_dead": Variant(
        "no answer is taken for a refusal: placed again", {"fate": unknown_is_dead}, HOSTILE, 7, SENDING
    ),
    "absent_is_dead": Variant(
        "absence is believed without proof: placed again", {"fate": absent_is_dead}, HOSTILE, 7, SENDING
    ),
    "refused_is_dead": Variant(
        "one refusal speaks for all sends: placed again", {"fate": refused_is_dead}, REFUSING, 8, SENDING
    ),
    "in_a_new_slot": Variant(
        "placed again in another slot, so that no gate asks for a proof",
        {"Order.doubt": property(lambda order: False), "submit": in_a_new_slot},  # type: ignore[dict-item]
        HOSTILE,
        5,
    ),
    "whole_again": Variant("what has been filled is bought again", {"submit": whole_again}, HOSTILE, 0),
    "unknown_is_cancelled": Variant(
        "a cancel without an answer is taken for done",
        {"Order.resting": property(lambda order: over_if(order, Unknown))},  # type: ignore[dict-item]
        LOSSY,
        37,
    ),
    "unread": Variant("placed again while fills of another member are not read", {"place": unread}, DROPPING, 16),
    "uncovered": Variant("the first fill is chosen before all were read", {"moves": uncovered}, QUIET, 69),
    "last_fill": Variant("the last fill leaves its member alive, not the first", {"moves": last_fill}, HOSTILE, 1),
    "all_survive": Variant("after a fill the others stay", {"moves": all_survive}, HOSTILE, 0),
    "never_cancels": Variant("what is not wanted stays", {"cancel": lambda b, order, now: Wait()}, HOSTILE, 1),
    "gives_up": Variant("what is in doubt is not asked about", {"find_out": lambda *_: Wait()}, LATE, 0),
    "answers_only": Variant("the venue's record is not believed", {"book": answers_only}, HOSTILE, 0),
    "says_nothing": Variant("what no proof decides is shown to nobody", {"held": says_nothing}, HOSTILE, 1),
}
EQUIVALENT = {
    "done_is_cancelled": Variant(
        "a cancel that was answered is over before the record says so: nothing is placed again until the record was"
        " read past the answer, and so past the fill that overtook it",
        {"Order.resting": property(lambda order: over_if(order, Done))},  # type: ignore[dict-item]
        RACING,
        0,
    ),
}


@pytest.mark.parametrize("seed", range(8))
def test_a_hostile_world(seed: int) -> None:
    run(seed, HOSTILE, orders)


@pytest.mark.parametrize("name", VARIANTS)
def test_is_caught(name: str) -> None:
    assert caught(VARIANTS[name], orders)


@pytest.mark.parametrize("name", EQUIVALENT)
@pytest.mark.parametrize("seed", range(5))
def test_is_no_worse(name: str, seed: int) -> None:
    run(seed, EQUIVALENT[name].aim, orders, EQUIVALENT[name])
