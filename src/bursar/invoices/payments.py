"""What was paid to an invoice, payment by payment: which way, at which quote, in time or not, and what it counts."""

from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from functools import cached_property

from msgspec import Struct, json
from msgspec.structs import replace

from ..core.facts import Standing, Stands, contradicted
from ..core.ledger import Line, Posting
from ..core.money import Instant
from ..core.subject import FINAL, Decision, Subject
from .spec import MILLION, Invoice, Quote, Way, invoice_of, quote_of

PAID_TO = "invoice.paid_to"  # the name of a key
ACCEPTED_SHORT = "accepted_short"  # an act: so much of the price is enough
ACCEPTED, REFUNDED, REFUNDED_EXCESS = "accepted", "refunded", "refunded_excess"  # acts about one payment ...
WRITTEN_OFF = "written_off"  # ... that stands in no block: nobody waits for it any more; in a block it counts again


class GivenBack(Struct, frozen=True):
    """The body of `refunded_excess`."""

    txid: str
    minor: int  # comes off the payment for good, whatever is too much later


class Payment(Struct, frozen=True):
    movement: str
    standing: Standing
    way: Way | None  # None: the asset is none of those that were asked for
    minor: int  # what it brought, less what was given back of it
    share: Fraction  # of what is due, at its quote
    quote: int  # the index of that quote
    before: bool  # it stood in a block when the invoice was declared
    late: bool
    final: bool
    accepted: bool  # by an operator, although it is late or from before
    refunded: bool
    written_off: bool
    trimmed: int  # minor units of it that were given back as too much
    excess: int = 0  # minor units of it beyond what the invoice still asked for

    @property
    def here(self) -> bool:
        """The money is on its way or with us, and has not been given back."""
        pending = self.standing.stands is Stands.PENDING and not self.written_off
        return (pending or self.standing.stands is Stands.INCLUDED) and not self.refunded

    @property
    def lost(self) -> bool:
        """It was final, and then the chain took it back."""
        return self.final and self.standing.stands is not Stands.INCLUDED and not self.written_off

    @property
    def beside(self) -> bool:
        """Its rail lets no token travel without it: it counts where it is asked for, and is never too much."""
        return self.movement.endswith("/accompanying")

    @property
    def counts(self) -> bool:
        return self.way is not None and not self.refunded and (self.accepted or not self.late and not self.before)

    def word(self) -> str:
        """Where it stands and what it counts, for people and for whoever compares."""
        why = [
            name
            for name, so in (
                ("final", self.final),
                ("wrong asset", self.way is None),
                ("from before", self.before),
                ("late", self.late),
                ("accepted", self.accepted),
                ("refunded", self.refunded),
                ("written off", self.written_off),
                ("excess refunded", bool(self.trimmed)),
            )
            if so
        ]
        return (
            f"{self.standing.stands.value} {self.share if self.counts and self.here else 0} {', '.join(why)}".rstrip()
        )


class Book(Struct, frozen=True, dict=True):
    """Everything that status and step ask about an invoice, computed once."""

    invoice: Invoice
    quotes: tuple[Quote, ...]
    payments: tuple[Payment, ...]  # final ones first, then as they were first seen; last what only travels beside
    contradicted: bool
    over: str  # the last word, where it is not "settled": cancelled or expired; else ""

    @property
    def deadline(self) -> Instant:
        return self.quotes[-1].expires_at

    @cached_property
    def enough(self) -> Fraction:
        return 1 - Fraction(self.invoice.tolerance_ppm, MILLION)

    @cached_property
    def plenty(self) -> Fraction:
        return 1 + Fraction(self.invoice.over_ppm, MILLION)

    @cached_property
    def seen(self) -> Fraction:
        return sum((p.share for p in self.payments if p.here and p.counts), Fraction(0))

    @cached_property
    def received(self) -> Fraction:
        """What is final of it, at least once: a reorg after that is shown, and takes no word back."""
        return sum((p.share for p in self.payments if p.final and p.here and p.counts), Fraction(0))


def book(s: Subject) -> Book:
    return s.once(booked)


def booked(s: Subject) -> Book:
    invoice = invoice_of(s.spec.body)
    quotes = tuple(quote_of(d.body) for d in sorted(s.decisions("quote"), key=lambda d: d.k))
    finals = {d.about: int(d.body or b"0") for d in s.decisions(FINAL)}
    accepted, refunded, written_off = s.about(ACCEPTED), s.about(REFUNDED), set[str]()
    for d in s.records:  # what has become final after it was written off is lost anew, if it is
        if isinstance(d, Decision) and d.name in (WRITTEN_OFF, FINAL):
            (written_off.add if d.name == WRITTEN_OFF else written_off.discard)(d.about)
    trimmed = dict[str, int]()
    for d in s.decisions(REFUNDED_EXCESS):
        trimmed[d.about] = trimmed.get(d.about, 0) + json.decode(d.body, type=GivenBack).minor
    payments = []
    for movement, standing in s.standing.items():
        fact = standing.fact
        if fact.money is None or not (ways := invoice.way(fact.rail, fact.keys)):
            continue
        way = next((way for way in ways if way.asset == fact.money.asset), None)
        chosen = finals.get(movement, cheapest(quotes, standing, way))
        expected = quotes[chosen].expected[way.name] if way else 1
        payments.append(
            Payment(
                movement,
                standing,
                way,
                (minor := fact.money.minor - trimmed.get(movement, 0)),
                Fraction(minor, expected) if way else Fraction(0),
                chosen,
                before=from_before(standing, ways[0]),
                late=not standing.reached(quotes[-1].expires_at, ways[0].grace),
                final=movement in finals,
                accepted=movement in accepted,
                refunded=movement in refunded,
                written_off=movement in written_off and standing.stands is not Stands.INCLUDED,
                trimmed=trimmed.get(movement, 0),
            )
        )
    payments.sort(key=lambda p: (p.beside, not p.final, first_seen(p.standing), p.movement))
    words = [word for word in ("settled", "cancelled", "expired") if s.decisions(word)]  # an act may settle it yet
    over = words[0] if words and words[0] != "settled" else ""
    return cover(Book(invoice, quotes, tuple(payments), bool(contradicted(s.facts)), over))


def cover(b: Book) -> Book:
    """Where more came than may be kept: of each payment the part that the invoice did not ask for any more."""
    if b.seen <= b.plenty:
        return b
    covered, out = Fraction(0), []
    for p in b.payments:
        if p.here and p.counts and p.way is not None:
            missing = max(Fraction(0), 1 - covered) * b.quotes[p.quote].expected[p.way.name]
            beyond = max(0, p.minor - int(-(-missing // 1)))  # what is due, rounded up
            p = replace(p, excess=0 if p.beside else beyond)
            covered += p.share
        out.append(p)
    return replace(b, payments=tuple(out))


def first_seen(standing: Standing) -> tuple[Instant, Instant]:
    """(not by then, but by then): the interval in which it reached the rail."""
    first = min(standing.seen, key=lambda fact: fact.as_of, default=standing.fact)
    by = min([first.as_of, *(fact.place.at for fact in standing.seen if fact.place)])
    return min(first.after, by), by


def cheapest(quotes: tuple[Quote, ...], standing: Standing, way: Way | None) -> int:
    """The quote that was valid when it was first seen; where that is in doubt, the one that favours the payer."""
    if way is None:
        return 0
    after, by = first_seen(standing)
    ends = [*(quote.at for quote in quotes[1:]), by + 1]
    valid = [n for n, quote in enumerate(quotes) if quote.at <= by and after < ends[n]]
    return min(valid, key=lambda n: quotes[n].expected[way.name], default=0)


def from_before(standing: Standing, way: Way) -> bool:
    """It stood in a block that had been read when the invoice was declared. Only a later re-mining of something first
    seen later counts."""
    firm, first = way.position - len(way.trail), min(standing.seen, key=lambda fact: fact.as_of, default=None)
    if first and first.place and first.place.position <= firm:
        return True
    return any(fact.place is not None and fact.place.hash in way.trail for fact in standing.seen)


def postings(s: Subject, b: Book) -> tuple[Posting, ...]:
    """Seen is not spendable: until it is final it lies in accounts of its own. What is beyond the price is owed."""
    return tuple(Posting(p.movement, tuple(lines(s, b, p))) for p in b.payments if p.here)


def lines(s: Subject, b: Book, p: Payment) -> Iterator[Line]:
    fact, money = p.standing.fact, p.standing.fact.money
    if money is None:
        return
    if not (p.final and p.standing.stands is Stands.INCLUDED):
        amounts = {f"inbound:{fact.rail}": p.minor, f"invoice:{s.id.id}.inbound": -p.minor}
    elif not p.counts or b.over and not p.accepted:
        amounts = {f"received:{fact.rail}": p.minor, f"unassigned:{s.id.id}": -p.minor}
    else:
        kept = p.minor - p.excess
        amounts = {f"received:{fact.rail}": p.minor, f"invoice:{s.id.id}": -kept, f"excess:{s.id.id}": -p.excess}
    for account, minor in amounts.items():
        if minor:
            yield Line(account, money.asset, minor)
