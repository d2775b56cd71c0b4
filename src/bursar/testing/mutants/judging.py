"""Wrong ways to judge what was paid: in time or late, final, over, spendable."""

from __future__ import annotations

from typing import Any

from msgspec.structs import replace

from ... import invoices
from ...core.facts import Standing, Stands
from ...core.ports import Seen
from ...core.steps import Decide, Step, Wait, at_watermark
from ...core.subject import FINAL, Status, Subject
from ...invoices import payments
from ..simulator import Parts
from .mutant import Mutant
from .reading import BLINDED, EARLY, ENDS, FORKED, LOOKING, POOL


def late_by_read(self: Standing, deadline: int, grace: int) -> bool:
    return min(f.as_of for f in self.seen) <= deadline + grace if self.seen else False


def late_by_latest(self: Standing, deadline: int, grace: int) -> bool:
    """In time by where it stands now: mined again later, it becomes late."""
    at = self.fact.place.at if self.fact.place else self.fact.as_of
    return at <= deadline + grace


def first_sight_is_enough(self: Standing, deadline: int, grace: int) -> bool:
    """`after` alone: a blind spell is a free option."""
    return any(f.after <= deadline for f in self.seen)


true_step = invoices.next_step


def invoice(**more: Any) -> Parts:
    return Parts(controllers=(replace(invoices.controller, **more),))


def expire_by_clock(s: Subject, status: Status, seen: Seen) -> Step:
    step, b = true_step(s, status, seen), payments.book(s)
    over = status.state == "awaiting_payer" and seen.now > b.deadline + b.invoice.ways[0].grace
    return Decide("expired") if isinstance(step, Wait) and over and not any(p.here for p in b.payments) else step


def no_grace(s: Subject, status: Status, seen: Seen) -> Step:
    """Over as soon as the rails have been read up to the deadline, before a block may have come."""
    cursors = {rail: replace(c, watermark=c.watermark + 12_000_000) for rail, c in seen.cursors.items()}
    return true_step(s, status, replace(seen, cursors=cursors))


def one_conf(s: Subject, status: Status, seen: Seen) -> Step:
    for p in payments.book(s).payments:
        if p.standing.stands is Stands.INCLUDED and not p.final:
            return Decide(FINAL, p.movement, "", b"0")
    return true_step(s, status, seen)


def settled_by_facts(s: Subject, b: payments.Book) -> Any:
    """A word that was given comes undone."""
    state, mover = true_reached(s, b)
    return ("awaiting_finality", mover) if state == "settled" and b.received < b.enough else (state, mover)


def watches_end(s: Subject) -> Status:
    """Who is settled is watched no more."""
    status = invoices.status(s)
    return replace(status, watches=()) if status.state in ("settled", "expired") else status


def adrift_is_here(self: payments.Payment) -> bool:
    return self.standing.stands not in (Stands.DISPLACED, Stands.GONE) and not self.refunded


def displaced_is_here(self: payments.Payment) -> bool:
    return self.standing.stands is not Stands.GONE and not self.refunded


def from_now(standing: Standing, way: Any) -> bool:
    return False


def never_asks(s: Subject, b: payments.Book) -> list[payments.Payment]:
    return []


def spendable_when_seen(s: Subject, b: payments.Book) -> Any:
    return true_postings(s, replace(b, payments=tuple(replace(p, final=p.here) for p in b.payments)))


def waits_for_all(s: Subject, b: payments.Book, seen: Seen, reads: Any, dues: Any) -> Step:
    """Also for the rails that have been read far enough: it wakes at once, for as long as another one is silent."""
    step = true_silence(s, b, seen, reads, dues)
    past = tuple(at_watermark(read.rail, read.end + 1) for read in reads if read.past())
    return Wait(step.until + past) if isinstance(step, Wait) and len(past) < len(reads) else step


true_reached, true_postings, true_silence = invoices.reached, payments.postings, invoices.silence

MUTANTS = {
    "late_by_read": Mutant("late by when it was read", ENDS, patches=((Standing, "reached", late_by_read),)),
    "late_by_latest": Mutant(
        "late by the block that it stands in now", EARLY, patches=((Standing, "reached", late_by_latest),)
    ),
    "first_sight_is_enough": Mutant(
        "in time if it was not known to be late", ENDS, patches=((Standing, "reached", first_sight_is_enough),)
    ),
    "expire_by_clock": Mutant("expires by our clock", ENDS, invoice(next_step=expire_by_clock)),
    "no_grace": Mutant("the rail's own delay is the payer's fault", ENDS, invoice(next_step=no_grace)),
    "one_conf": Mutant("final at the first confirmation", LOOKING, invoice(next_step=one_conf)),
    "settled_by_facts": Mutant(
        "a word that was given comes undone", FORKED, swaps=((invoices.reached, settled_by_facts),)
    ),
    "watches_end": Mutant("who is settled is watched no more", LOOKING, invoice(status=watches_end)),
    "displaced_is_here": Mutant(
        "what a rival took still counts", LOOKING, patches=((payments.Payment, "here", property(displaced_is_here)),)
    ),
    "from_now": Mutant("money from before counts", EARLY, swaps=((payments.from_before, from_now),)),
    "never_asks": Mutant(
        "a payment that no block takes is shown to nobody", POOL, swaps=((invoices.overdue, never_asks),)
    ),
    "waits_for_all": Mutant(
        "it waits for what has come already, and spins", BLINDED, swaps=((invoices.silence, waits_for_all),)
    ),
    "spendable_when_seen": Mutant("seen is spendable", LOOKING, swaps=((payments.postings, spendable_when_seen),)),
}
