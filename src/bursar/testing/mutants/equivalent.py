"""Variants that are no worse, by design: that no audit catches them is the finding. Each says why."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from ...core import proofs
from ...core.outcomes import Case
from ...core.ports import Claim, Delivered, Event, Seen
from ...core.proofs import Fate
from ...engine import observe
from ...engine.reconcile import Pass
from ..simulator import Parts
from ..world import Store
from .mutant import Mutant


class NoLease(Store):
    async def claim(self, limit: int) -> Sequence[Claim]:
        claims = await super().claim(limit)
        for claim in claims:
            self.rows[claim.subject].lease = 0
        return claims


class AnyOrder(Store):
    """Events of different subjects in any order."""

    luck = Random(0)

    async def undelivered(self, sink: str, limit: int) -> Sequence[Event]:
        events = list(await super().undelivered(sink, limit))
        self.luck.shuffle(events)
        return events


class ConfirmsLess(Store):
    def confirm(self, d: Delivered) -> None:
        self.delivered[d.sink, d.subject] = d.version


class Spurious(Store):
    """Every claim wakes somebody without a cause."""

    luck = Random(0)

    async def claim(self, limit: int) -> Sequence[Claim]:
        if self.rows and self.luck.random() < 0.5:
            self.wake(self.luck.choice(list(self.rows)))
        return await super().claim(limit)


class NoSkip(Store):
    """A conflict leaves the lease to run out."""

    def refuse(self, commit: Any) -> Any:
        leases = {w.subject: self.rows[w.subject].lease for w in commit.writes if w.subject in self.rows}
        refused = super().refuse(commit)
        for subject, lease in leases.items():
            self.rows[subject].lease = lease
        return refused


def seen_again(case: Case) -> bool:
    return proofs.fate(case) is Fate.OPEN and case.attempt.prepared.terms.resend


def rivals_of_themselves(watched: Any, found: Any, cursor: Any) -> Any:
    return true_route(watched, [*found, *reversed(found)], cursor)


def own_clock(self: Pass) -> Seen:
    """The claim's clock is not believed: who is ahead of ours is claimed again and again."""
    return Seen(self.engine.now(), self.cursors, self.engine.prices())


true_route = observe.route

MUTANTS = {
    "no_lease": Mutant(
        "no lease: the version guards every write, a lease only spares double work",
        parts=Parts(store=NoLease),
        costs="is asked about again",
    ),
    "lease_stays": Mutant(
        "who has lost a race keeps others waiting for the lease: latency only", parts=Parts(store=NoSkip)
    ),
    "any_order": Mutant(
        "events of different subjects come in any order: each subject's versions order its own",
        parts=Parts(store=AnyOrder),
    ),
    "confirms_less": Mutant(
        "a late confirmation goes back: told again, and the receiver knows the id", parts=Parts(store=ConfirmsLess)
    ),
    "spurious": Mutant(
        "every wake-up comes twice: a pass that finds nothing writes nothing new", parts=Parts(store=Spurious)
    ),
    "own_clock": Mutant(
        "the claim's clock is not believed: who is ahead of ours is claimed again until ours has come, a skew long",
        patches=((Pass, "seen", own_clock),),
        costs="is at work again and again",
    ),
    "seen_again": Mutant(
        "what only the feed knows is sent again: where the terms allow it the rail refuses the second",
        swaps=((proofs.may_resend, seen_again),),
    ),
    "found_twice": Mutant(
        "a batch holds everything twice: the key of a record is its identity",
        swaps=((true_route, rivals_of_themselves),),
    ),
}
