"""Invoices: what was paid to a key of ours, in time, for good. It only looks; nothing is sent."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from typing import NamedTuple

from msgspec import json

from ..core.facts import LIVE, Stands, Watch
from ..core.money import Instant
from ..core.ports import Controller, Refused, Seen
from ..core.steps import Decide, Due, Step, Wait, at, at_position, at_watermark
from ..core.subject import FINAL, Decision, Mover, Name, Spec, Status, Subject
from .payments import ACCEPTED, ACCEPTED_SHORT, PAID_TO, Book, GivenBack, Payment, book, postings
from .spec import SECOND, quote

SETTLED, EXPIRED, CANCELLED, OVERDUE, SHORT = "settled", "expired", "cancelled", "overdue", "short"
UNPRICED = "unpriced"  # about so many quotes: for the next one there was no price
OVER = (SETTLED, CANCELLED, EXPIRED)  # words that were given; after the other two it may be settled yet, by an act
PRICE_PAUSE = 60 * SECOND  # before a missing price is looked for again


def status(s: Subject) -> Status:
    b = book(s)
    state, mover = reached(s, b)
    return Status(
        state,
        mover,
        flags(s, b),
        tuple((p.movement, p.word()) for p in sorted(b.payments, key=lambda p: p.movement)),
        postings(s, b),
        watches(b),
        names(b),
    )


def flags(s: Subject, b: Book) -> frozenset[str]:
    seen = b.seen
    up = {
        "partial": 0 < seen < b.enough,
        "over": any(p.excess for p in b.payments),
        "late": any(p.late and p.here and not p.accepted for p in b.payments),
        "replaced": any(p.standing.stands is Stands.DISPLACED for p in b.payments),
        "reorged": any(p.final and p.standing.stands is not Stands.INCLUDED for p in b.payments),
        "short": short(s, b) and not s.decisions(SETTLED),
        "overdue": bool(overdue(s, b)),
        "paid_after_cancel": b.over == CANCELLED and any(p.here for p in b.payments),
        "paid_after_expiry": b.over == EXPIRED and any(p.here and p.counts and not p.accepted for p in b.payments),
        "unpriced": not seen and not any(s.decisions(word) for word in OVER) and unpriced(s, b),
        "wrong_asset": any(p.way is None and p.here and not p.beside for p in b.payments),
        "unassigned": any(p.before and p.here and not p.accepted for p in b.payments),
        "refunded": any(p.refunded or p.trimmed for p in b.payments),
        "marked": bool(s.decisions(ACCEPTED_SHORT) or s.decisions(ACCEPTED)),
        "contradicted": b.contradicted,
    }
    return frozenset(flag for flag, so in up.items() if so)


def short(s: Subject, b: Book) -> bool:
    """It was said, and still is so."""
    return bool(s.decisions(SHORT)) and 0 < b.seen < b.enough


def unpriced(s: Subject, b: Book) -> bool:
    """For the quote after this one there was no price."""
    return str(len(b.quotes)) in s.about(UNPRICED)


def reached(s: Subject, b: Book) -> tuple[str, Mover]:
    """Words that were given stand; before them it is what is seen that counts."""
    for word in OVER:
        if s.decisions(word):
            return word, Mover.OPERATOR if question(word, b) else Mover.NOBODY
    if overdue(s, b) or short(s, b):
        return "awaiting_operator", Mover.OPERATOR
    return ("awaiting_finality", Mover.RAIL) if b.seen >= b.enough else ("awaiting_payer", Mover.PAYER)


def question(word: str, b: Book) -> bool:
    """After the last word: is there something that only a person can decide?"""
    if word == SETTLED:
        return any(p.lost if p.counts else p.here and not p.beside for p in b.payments)
    return any(p.here for p in b.payments)


def overdue(s: Subject, b: Book) -> list[Payment]:
    """Payments that were said to wait for a block too long, and still do."""
    said = s.about(OVERDUE)
    return [p for p in b.payments if p.movement in said and p.standing.stands is Stands.PENDING and p.here]


def watches(b: Book) -> tuple[Watch, ...]:
    """Our keys for ever; what unsettled payments spend, because whoever else spends it is a rival."""
    ours = {Watch(way.rail, way.key, way.since) for way in b.invoice.ways}
    open_ = [p.standing.fact for p in b.payments if not (p.final and p.standing.stands is Stands.INCLUDED)]
    return tuple(sorted(ours | {Watch(fact.rail, spent, LIVE) for fact in open_ for spent in fact.spends}))


def names(b: Book) -> tuple[Name, ...]:
    """It is watched for ever, so no other invoice is ever paid to its keys: one payment would count twice."""
    out = {Name("address", way.address, unique=False) for way in b.invoice.ways}
    out |= {Name(PAID_TO, f"{way.rail}/{way.key}", unique=True) for way in b.invoice.ways}
    out |= {Name("txid", p.standing.fact.tx, unique=False) for p in b.payments}
    if b.invoice.external_id:
        out.add(Name("invoice.external_id", b.invoice.external_id, unique=True))
    return tuple(sorted(out))


def next_step(s: Subject, status: Status, seen: Seen) -> Step:
    b = book(s)
    final = finalise(b, seen)
    if isinstance(final, Decide):
        return final
    if status.state == SETTLED:
        return Wait(final)
    acted = bool(s.decisions(ACCEPTED) or s.decisions(ACCEPTED_SHORT))
    if enough(s, b, status.state):
        return Decide(SETTLED, reason=f"{b.received} of the price is final" + (", by an act" if acted else ""))
    if status.state in OVER:
        return Wait(final)
    reads = []
    for way in b.invoice.ways:
        cursor = seen.cursors.get(way.rail)
        if cursor is None:
            return Wait(final)  # not all is scanned yet: silence means nothing, and becoming covered wakes us
        reads.append(Read(way.rail, b.deadline + way.grace, cursor.watermark))
    return silence(s, b, seen, reads, final)


def enough(s: Subject, b: Book, state: str) -> bool:
    """Is what is final enough? After a last word only what a person has accepted, or has called enough since."""
    said = [r for r in s.records if isinstance(r, Decision)]
    since = next((n for n, d in enumerate(said) if d.name == state), 0) if state in OVER else 0
    least = [Fraction(d.body.decode()) for d in said[since:] if d.name == ACCEPTED_SHORT]
    if state in OVER and not least:
        final = (p.share for p in b.payments if p.final and p.here and p.accepted and p.counts)
        return sum(final, Fraction(0)) >= b.enough
    return b.received >= min([b.enough, *least])


class Read(NamedTuple):
    """How far the rail of a way has been read, and how far it must be."""

    rail: str
    end: Instant
    watermark: Instant

    def past(self, more: Instant = 0) -> bool:
        return self.watermark > self.end + more


def finalise(b: Book, seen: Seen) -> Decide | tuple[Due, ...]:
    """A payment becomes final at its depth: the decision, which freezes its quote, or the clocks that bring it."""
    dues: list[Due] = []
    for p in b.payments:
        fact = p.standing.fact
        cursor = seen.cursors.get(fact.rail)
        if p.final or p.standing.stands is not Stands.INCLUDED or fact.place is None or cursor is None:
            continue
        needed = max(way.confirmations for way in b.invoice.way(fact.rail, fact.keys))
        deep = max(fact.place.position + needed - 1, fact.matures)
        if cursor.position >= deep:
            return Decide(FINAL, p.movement, f"{needed} confirmations", b"%d" % p.quote)
        dues.append(at_position(fact.rail, deep))
    return tuple(dues)


def silence(s: Subject, b: Book, seen: Seen, reads: Sequence[Read], dues: tuple[Due, ...]) -> Step:
    """What the passing of time makes due, and only where all rails have been read past it."""
    patience = b.invoice.patience_seconds * SECOND
    open_ = (Stands.PENDING, Stands.ADRIFT)
    waiting = [p for p in b.payments if p.counts and p.standing.stands in open_ and not p.written_off]
    if waiting and not all(read.past(patience) for read in reads):
        behind = tuple(at_watermark(read.rail, read.end + patience + 1) for read in reads if not read.past(patience))
        return Wait((*dues, *behind))
    for p in waiting:
        if p.movement not in s.about(OVERDUE):
            return Decide(OVERDUE, p.movement, "in no block")
    if b.seen >= b.enough:
        return Wait(dues)
    behind = tuple(at_watermark(read.rail, read.end + 1) for read in reads if not read.past())
    return Wait((*dues, *behind)) if behind else over(s, b, seen, dues)


def over(s: Subject, b: Book, seen: Seen, dues: tuple[Due, ...]) -> Step:
    """The window is over and the price is not covered: a new quote, a question, or the end."""
    if b.seen > 0:
        return Wait(dues) if s.decisions(SHORT) else Decide(SHORT, reason=f"{b.seen} of the price came in time")
    if len(b.quotes) <= b.invoice.repricings and not any(p.here for p in b.payments):
        fresh = quote(b.invoice, seen.prices, seen.now)
        if fresh is None and not unpriced(s, b):
            return Decide(UNPRICED, str(len(b.quotes)), "there is no price for the next quote")
        if fresh is None:
            return Wait((*dues, at(seen.now + PRICE_PAUSE)))
        return Decide("quote", reason="the last quote is over, nothing was paid", body=json.encode(fresh))
    return Decide(EXPIRED, reason="the rails were read past the deadline, and nothing had come in time")


def admit(s: Subject, record: Spec | Decision) -> Refused | None:
    """One spec; and the acts of an operator, each with a reason."""
    if isinstance(record, Spec):
        return Refused("an invoice never changes: cancel it and declare another") if s.records else None
    if not s.records:
        return Refused("there is no such invoice")
    if not record.reason.strip():
        return Refused("an act needs a reason")
    b = book(s)
    payment = next((p for p in b.payments if p.movement == record.about), None)
    match record.name:
        case "cancelled" if any(s.decisions(word) for word in OVER):
            return Refused("it is over already")
        case "cancelled" if any(p.here or p.standing.stands is Stands.ADRIFT for p in b.payments):
            return Refused("money has been seen: it can not be cancelled, only accepted or given back")
        case "cancelled":
            return None
        case "accepted" | "refunded" | "refunded_excess" | "written_off" if payment is None:
            return Refused(f"no payment {record.about}")
        case "accepted":
            return accept(payment, over=any(s.decisions(word) for word in (EXPIRED, CANCELLED)))
        case "written_off":
            gone = payment is not None and payment.standing.stands is not Stands.INCLUDED and not payment.written_off
            return None if gone else Refused("it stands in a block, or has been written off")
        case "refunded" if not record.body:
            return Refused("say the transaction with which it was given back")
        case "refunded":
            return Refused("it has been given back already") if payment and payment.refunded else None
        case "refunded_excess":
            given = json.decode(record.body, type=GivenBack)
            if not given.txid:
                return Refused("say the transaction with which it was given back")
            excess = payment.excess if payment and payment.final and payment.here else 0
            return None if 0 < given.minor == excess else Refused("of this payment nothing that is final is too much")
        case "accepted_short":
            fits = not s.decisions(SETTLED) and 0 < b.seen < b.enough and record.body.decode() == str(b.seen)
            return None if fits else Refused("nothing that counts is here, or it is not short")
    known = "accepted, accepted_short, refunded, refunded_excess, written_off, cancelled"
    return Refused(f"no act {record.name}: there are {known}")


def accept(payment: Payment | None, *, over: bool) -> Refused | None:
    """`over`: after such a word what is in time (its block came back) needs a person's word too."""
    if payment is None or payment.way is None:
        return Refused("it is in an asset that the invoice has no price for: give it back")
    if payment.accepted or payment.refunded:
        return Refused("it has been accepted or given back already")
    return None if payment.late or payment.before or over else Refused("it counts already")


controller = Controller("invoice", status, next_step, admit)
