"""Deposits in a hostile world, and the known-wrong variants that its audits must catch."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from unittest.mock import patch

import pytest
from msgspec.structs import replace
from tests.simulation.variants import Variant, caught, run

from bursar import deposits
from bursar.core.facts import Cursor
from bursar.core.ledger import Line, Posting
from bursar.core.steps import Decide, Step
from bursar.core.subject import Mover
from bursar.deposits import Handle, Movement
from bursar.testing import plan, simulator
from bursar.testing.plan import Aim
from bursar.testing.world_deposits import STORY, Vault

HOSTILE = Aim(story=STORY | {"blind": 1, "third": 1}, steps=2000, trouble={"lost_answer": 0.2})
FORKS = Aim(story={"seal": 8, "handle": 2, "send": 6, "fork": 4, "bump": 2}, steps=2000)
SLOW = Aim(story={"seal": 8, "handle": 2, "send": 6, "blind": 3}, steps=2000, trouble={"stale": 0.5, "cut_short": 0.5})
READ_ALL = Cursor(watermark=1 << 60)

true = {name: getattr(deposits, name) for name in ("pair", "clocks", "postings", "sides", "status", "said")}


@pytest.fixture(autouse=True)
def vault() -> Iterator[None]:
    with patch.dict(simulator.SCENES, vault=lambda world, _: Vault(world)), patch.dict(plan.STORIES, vault=(STORY, ())):
        yield


def pairs_unread(s: Any, h: Handle, transfers: Any, credits: Any, seen: Any) -> Iterator[Step]:
    yield from true["pair"](s, h, transfers, credits, replace(seen, cursors={h.chain: READ_ALL}))


def pairs_unplaced(s: Any, h: Handle, transfers: list[Movement], credits: Any, seen: Any) -> Iterator[Step]:
    yield from true["pair"](s, h, [replace(t, placed_at=t.placed_at or 1) for t in transfers], credits, seen)


def pairs_any(s: Any, h: Handle, transfers: list[Movement], credits: Any, seen: Any) -> Iterator[Step]:
    """More fit than there are credits: it takes the last."""
    for step in true["pair"](s, h, transfers, credits, seen):
        if isinstance(step, Decide) and step.body == b"ambiguous":
            money = next(c.money for c in credits if c.id == step.about)
            fits = [t for t in transfers if not t.explained and t.money.minor == money.minor]
            step = replace(step, name="paired", body=fits[-1].id.encode())
        yield step


def pairs_again(s: Any) -> Any:
    """What is explained may explain another."""
    h, transfers, credits = true["sides"](s)
    return h, [replace(t, explained="") if t.included else t for t in transfers], credits


def pair_again(s: Any, h: Handle, transfers: Any, credits: Any, seen: Any) -> Iterator[Step]:
    yield from true["pair"](s, *pairs_again(s), seen)


def pairs_anew(s: Any, name: str) -> dict[str, str]:
    """Computed from the facts of the moment: what a later fact makes of it, silently."""
    pairs: dict[str, str] = true["said"](s, name)
    if name != "paired":
        return pairs
    with patch.object(deposits, "said", true["said"]):
        h, transfers, credits = true["sides"](s)
    left = sorted((t for t in transfers if t.placed_at), key=lambda t: (t.placed_at or 0, t.id))
    out: dict[str, str] = {}
    for credit in [credit for credit in credits if credit.id in pairs]:
        fit = next((t for t in left if t.money.minor == credit.money.minor), None)
        if fit is not None:
            left.remove(fit)
        out[credit.id] = fit.id if fit is not None else pairs[credit.id]
    return out


def overdue_by_clock(s: Any, h: Handle, transfers: Any, seen: Any) -> Iterator[Step]:
    late = {name: replace(cursor, watermark=seen.now) for name, cursor in seen.cursors.items()}
    yield from true["clocks"](s, h, transfers, replace(seen, cursors=late))


def spendable_at_final(s: Any, h: Handle, x: Movement) -> Iterator[Posting]:
    final = {f"inbound:{h.chain}": f"wallet:{h.custodian}"}
    for posting in true["postings"](s, h, x):
        lines = (replace(line, account=final.get(line.account, line.account)) for line in posting.lines)
        yield Posting(posting.id, tuple(lines))


def counted_twice(s: Any, h: Handle, x: Movement) -> Iterator[Posting]:
    yield from true["postings"](s, h, x)
    if x.standing.fact.rail == h.chain and x.explained and x.included:
        lines = (f"inbound:{h.chain}", x.money.minor), (f"deposit:{s.id.id}.inbound", -x.money.minor)
        yield Posting(x.id, tuple(Line(account, x.money.asset, minor) for account, minor in lines))


def forgets_reorg(s: Any) -> Any:
    status = true["status"](s)
    flags = status.flags - {"reorg_after_credit"}
    return replace(status, flags=flags, mover=status.mover if flags else Mover.NOBODY)


VARIANTS = {
    "pairs_unread": Variant("a credit is paired before the chain was read past it", {"pair": pairs_unread}, SLOW, 0),
    "pairs_unplaced": Variant("a credit is paired with what no block ever had", {"pair": pairs_unplaced}, FORKS, 2),
    "pairs_any": Variant("more fit than were credited: one of them is taken", {"pair": pairs_any}, HOSTILE, 4),
    "pairs_again": Variant("a transfer explains two credits", {"pair": pair_again}, HOSTILE, 2),
    "pairs_anew": Variant("a pair is computed, not decided: a later fact changes it", {"said": pairs_anew}, FORKS, 5),
    "overdue_by_clock": Variant("a silence is believed by our clock", {"clocks": overdue_by_clock}, SLOW, 5),
    "spendable_at_final": Variant("final on the chain is spendable", {"postings": spendable_at_final}, HOSTILE, 0),
    "counted_twice": Variant("a credited transfer is still inbound", {"postings": counted_twice}, HOSTILE, 0),
    "forgets_reorg": Variant("a credit of what the chain no longer has is fine", {"status": forgets_reorg}, FORKS, 1),
}


@pytest.mark.parametrize("seed", range(8))
def test_a_hostile_world(seed: int) -> None:
    run(seed, HOSTILE, deposits)


@pytest.mark.parametrize("name", VARIANTS)
def test_is_caught(name: str) -> None:
    assert caught(VARIANTS[name], deposits)
