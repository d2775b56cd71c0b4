"""What an invoice, a payout, an alert look like from outside, computed from their records when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from fractions import Fraction
from typing import Any
from urllib.parse import quote as escaped

from msgspec import Struct
from msgspec.structs import replace

from ..core.facts import Cursor, Stands
from ..core.ledger import Sums, available
from ..core.money import Amount, Money, text_of
from ..core.subject import Mover, Subject
from ..invoices import OVER, spec
from ..invoices import payments as paid
from ..invoices.reference import reference_status
from ..payouts import leg as payouts
from .encode import Scales, amount, instant, when

SCHEMES = {"bitcoin": "bitcoin", "litecoin": "litecoin", "cardano": "web+cardano"}


class Summary(Struct, frozen=True, kw_only=True):
    """What is said of every kind of subject."""

    id: str
    version: int
    state: str
    mover: Mover  # who must move next ...
    why: str  # ... as a sentence
    flags: tuple[str, ...]
    created_at: datetime
    changed_at: datetime  # its newest record


class Way(Struct, frozen=True):
    way: str
    address: str
    expected: Amount
    due: Amount  # what is still missing
    price: str  # units of the price's asset for one of the way's
    confirmations: int
    uri: str | None  # for a wallet


class Payment(Struct, frozen=True, kw_only=True):
    id: str
    txid: str
    way: str | None  # None: none of those that were asked for
    amount: Amount
    standing: str  # pending, included, adrift, displaced, gone
    confirmations: int
    block: str | None
    share: str  # what it counts: an exact fraction of the price
    quote: int
    final: bool
    late: bool
    from_before: bool
    accepted: bool
    refunded: bool
    written_off: bool


class Invoice(Summary, frozen=True, kw_only=True):
    external_id: str
    price: Amount
    preset: str
    metadata: dict[str, str]
    expires_at: datetime
    quotes: int
    ways: tuple[Way, ...]
    payments: tuple[Payment, ...]
    share_seen: str
    share_received: str
    reference_status: str


class Payout(Summary, frozen=True, kw_only=True):
    external_id: str
    rail: str
    to: str
    amount: Amount
    fee_limit: Amount
    attempts: int


class Alert(Summary, frozen=True, kw_only=True):
    flag: str
    about: str  # kind/id
    episodes: int
    runbook: str


class Balance(Struct, frozen=True, kw_only=True):
    """Of a wallet that payouts leave from, as the ledger has it."""

    rail: str
    booked: Amount  # what has come and has not left
    reserved: Amount  # of it, for payouts under way, with the most that they may cost
    available: Amount


View = Invoice | Payout | Alert


def view(s: Subject, cursors: Mapping[str, Cursor], scales: Scales) -> View:
    match s.id.kind:
        case "invoice":
            return invoice(s, cursors, scales)
        case "payout":
            return payout(s, scales)
    return alert(s)


def summary(s: Subject, why: str) -> dict[str, Any]:
    assert s.status is not None
    said = {"id": s.id.id, "version": s.version, "state": s.status.state, "mover": s.status.mover, "why": why}
    at = [when(record) for record in s.records if when(record)]
    times = {"created_at": instant(min(at)), "changed_at": instant(max(at))}
    return said | times | {"flags": tuple(sorted(s.status.flags))}


def invoice(s: Subject, cursors: Mapping[str, Cursor], scales: Scales) -> Invoice:
    b, now = paid.book(s), s.status
    assert now is not None
    payments = tuple(payment(p, cursors, scales) for p in b.payments)
    return Invoice(
        **summary(s, invoice_why(now.state, now.mover, b, payments, s)),
        external_id=b.invoice.external_id,
        price=Amount(b.invoice.price_asset, b.invoice.price_value),
        preset=b.invoice.preset,
        metadata=b.invoice.metadata,
        expires_at=instant(b.deadline),
        quotes=len(b.quotes),
        ways=tuple(way(w, b, over=now.state in OVER) for w in b.invoice.ways),
        payments=payments,
        share_seen=str(b.seen),
        share_received=str(b.received),
        reference_status=reference_status(now.state, now.flags),
    )


def way(w: spec.Way, b: paid.Book, *, over: bool) -> Way:
    """Nothing is due of what is over, and nobody is led to pay once more."""
    expected = b.quotes[-1].expected[w.name]
    missing = Fraction(0) if over else max(Fraction(0), 1 - b.seen) * expected
    rest = int(-(-missing // w.step)) * w.step
    scheme = SCHEMES.get(w.rail.split(":")[0])
    return Way(
        w.name,
        w.address,
        Amount(w.asset, text_of(expected, w.scale)),
        Amount(w.asset, text_of(rest, w.scale)),
        b.quotes[-1].prices.get(w.name, "1"),
        w.confirmations,
        f"{scheme}:{escaped(w.address)}?amount={text_of(rest, w.scale)}" if scheme and rest else None,
    )


def payment(p: paid.Payment, cursors: Mapping[str, Cursor], scales: Scales) -> Payment:
    fact, stands = p.standing.fact, p.standing.stands
    cursor, came = cursors.get(fact.rail), fact.money
    assert came is not None
    deep = cursor.position - fact.place.position + 1 if cursor and fact.place and stands is Stands.INCLUDED else 0
    return Payment(
        id=p.movement,
        txid=fact.tx,
        way=p.way.name if p.way else None,
        amount=amount(came, {came.asset: p.way.scale} if p.way else scales),
        standing=stands.value,
        confirmations=max(0, deep),
        block=fact.place.hash if fact.place else None,
        share=str(p.share if p.counts and p.here else 0),
        quote=p.quote,
        final=p.final,
        late=p.late,
        from_before=p.before,
        accepted=p.accepted,
        refunded=p.refunded,
        written_off=p.written_off,
    )


def invoice_why(state: str, mover: Mover, b: paid.Book, payments: tuple[Payment, ...], s: Subject) -> str:
    counting = [p for p in payments if p.share != "0"]
    match state:
        case "awaiting_payer":
            seen = f"{percent(b.seen)} of the price is here" if b.seen else "nothing has come yet"
            return f"waiting for the payer until {instant(b.deadline):%H:%M:%S} UTC: {seen}"
        case "awaiting_finality":
            needed = max(w.confirmations for w in b.invoice.ways)
            least = min((p.confirmations for p in counting), default=0)
            return f"waiting for the chain: {min(least, needed)} of {needed} confirmations"
        case "awaiting_operator" if any(p.standing == "pending" and p.id in s.about("overdue") for p in payments):
            return "a payment has been in no block for too long: wait for it, or write it off"
        case "awaiting_operator":
            return f"{percent(b.seen)} of the price came in time, the rest did not: accept it short, or give it back"
        case "settled" if any(p.lost and p.counts for p in b.payments):
            return "it was settled, and then the chain took a payment back: wait for it, or write it off"
        case "settled" if mover is Mover.OPERATOR:
            return "it was settled, and more money came that does not count: accept it, or give it back"
        case "settled":
            if any(p.refunded for p in b.payments):
                return "it was paid for good, and has been given back"
            if any(p.final and p.written_off for p in b.payments):
                return "it was settled, then the chain took a payment back, and that has been written off"
            owed = any(p.excess for p in b.payments)
            return "paid for good" + ("; what came on top is owed to the payer" if owed else "")
        case _ if mover is Mover.OPERATOR:
            return f"{state}, and then money came: accept it, or give it back"
        case "expired":
            return "nothing came in time, and the chain has been read past the deadline"
    return "; ".join(d.reason for d in s.decisions(state)[-1:]) or state


def percent(f: Fraction) -> str:
    exact = f * 100
    whole, cents = divmod(round(exact * 100), 100)
    return f"{exact} %" if exact.denominator == 1 else f"about {whole}.{cents:02} %"


def payout(s: Subject, scales: Scales) -> Payout:
    leg, why = payouts.shown(s), payouts.why(s)
    if s.status and "unfunded" in s.status.flags:
        need = amount(replace(leg.money, minor=leg.money.minor + leg.fee), scales)
        why = f"{leg.rail} has less than {need.value} {need.asset} available, as far as the ledger knows"
    return Payout(
        **summary(s, why),
        external_id=leg.external_id,
        rail=leg.rail,
        to=leg.to,
        amount=amount(leg.money, scales),
        fee_limit=amount(replace(leg.money, minor=leg.fee), scales),
        attempts=len(s.cases(payouts.SLOT)),
    )


def balance(rail: str, asset: str, account: str, sums: Sums, scales: Scales) -> Balance:
    booked, free = sums.get((account, asset), 0), available(sums, account, asset)
    said = {"booked": booked, "reserved": booked - free, "available": free}
    return Balance(rail=rail, **{name: amount(Money(asset, minor), scales) for name, minor in said.items()})


def alert(s: Subject) -> Alert:
    flag, about = s.id.id.split("/", 1)
    cleared = s.decisions("cleared")
    what = f"{about.replace('/', ' ')}: {flag.replace('_', ' ')}"
    over = s.status is not None and s.status.state == "cleared" and cleared
    return Alert(
        **summary(s, f"{what}, cleared: {cleared[-1].reason}" if over else what),
        flag=flag,
        about=about,
        episodes=len(s.decisions("firing")),
        runbook=f"docs/runbook/{flag}.md",
    )


def bars(s: Subject) -> list[tuple[str, str, Fraction, Fraction]]:
    """The money of an invoice as a picture: (what it is, its share in words, where it begins, how wide it is), in
    hundredths of the price, with what is missing."""
    b, parts = paid.book(s), list[tuple[str, Fraction]]()
    for p in b.payments:
        came = p.standing.fact.money
        if p.here and p.way is not None and came is not None:
            excess = p.share * Fraction(p.excess, p.minor) if p.excess else Fraction(0)
            word = "final" if p.final else p.standing.stands.value
            parts += [(word if p.counts else "not counted", p.share - excess), ("too much", excess)]
    parts.append(("missing", max(Fraction(0), 1 - b.seen)))
    out, at = list[tuple[str, str, Fraction, Fraction]](), Fraction(0)
    for word, share in parts:
        if share:
            out.append((word, percent(share), at * 100, share * 100))
            at += share
    return out
