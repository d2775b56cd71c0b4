"""What an invoice and a payout look like from outside, computed from their records when they are read."""

from __future__ import annotations

from collections.abc import Mapping
from fractions import Fraction
from typing import Any
from urllib.parse import quote as escaped

from ..core.facts import Cursor
from ..core.money import text_of
from ..core.subject import Subject
from ..invoices.payments import Book, Payment, book
from ..invoices.spec import Way
from ..payouts.leg import leg_of
from . import encode
from .encode import Scales

SCHEMES = {"bitcoin": "bitcoin", "litecoin": "litecoin", "cardano": "web+cardano"}


def invoice(s: Subject, cursors: Mapping[str, Cursor]) -> dict[str, Any]:
    assert s.status is not None
    b = book(s)
    return encode.status(s.id, s.version, s.status) | {
        "external_id": b.invoice.external_id,
        "price": {"asset": b.invoice.price_asset, "value": b.invoice.price_value},
        "preset": b.invoice.preset,
        "metadata": b.invoice.metadata,
        "created_at": encode.instant(s.spec.at),
        "expires_at": encode.instant(b.deadline),
        "quotes": len(b.quotes),
        "ways": [way(w, b) for w in b.invoice.ways],
        "payments": [payment(p, cursors) for p in b.payments],
        "share_seen": share(b.seen()),
        "share_received": share(b.received()),
    }


def way(w: Way, b: Book) -> dict[str, Any]:
    expected = b.quotes[-1].expected[w.name]
    missing = max(Fraction(0), 1 - b.seen()) * expected
    rest = -(-missing // w.step) * w.step
    scheme = SCHEMES.get(w.rail.split(":")[0])
    amount = text_of(int(rest) or expected, w.scale)
    return {
        "way": w.name,
        "address": w.address,
        "expected": {"asset": w.asset, "value": text_of(expected, w.scale)},
        "due": {"asset": w.asset, "value": text_of(int(rest), w.scale)},
        "price": b.quotes[-1].prices.get(w.name, "1"),
        "confirmations": w.confirmations,
        "uri": f"{scheme}:{escaped(w.address)}?amount={amount}" if scheme else None,
    }


def payment(p: Payment, cursors: Mapping[str, Cursor]) -> dict[str, Any]:
    fact = p.standing.fact
    cursor = cursors.get(fact.rail)
    deep = cursor.position - fact.place.position + 1 if cursor and fact.place else 0
    money = fact.money
    assert money is not None
    return {
        "id": p.movement,
        "txid": fact.tx,
        "way": p.way.name if p.way else None,
        "amount": {"asset": money.asset, "value": text_of(money.minor, p.way.scale if p.way else 0)},
        "standing": p.standing.stands.value,
        "confirmations": max(0, deep) if p.standing.stands.value == "included" else 0,
        "block": fact.place.hash if fact.place else None,
        "share": share(p.share if p.counts and p.here else Fraction(0)),
        "quote": p.quote,
        "final": p.final,
        "late": p.late,
        "from_before": p.before,
        "accepted": p.accepted,
        "refunded": p.refunded,
    }


def share(f: Fraction) -> str:
    """Exact: "1", "33/100"."""
    return str(f)


def payout(s: Subject, scales: Scales) -> dict[str, Any]:
    assert s.status is not None
    leg = leg_of(s.spec.body)
    return encode.status(s.id, s.version, s.status) | {
        "rail": leg.rail,
        "to": leg.to,
        "amount": encode.money(leg.money, scales),
        "created_at": encode.instant(s.spec.at),
        "attempts": len(s.cases("pay")),
    }


WORDS = {
    "awaiting_payer": "waiting for the payer",
    "awaiting_finality": "paid, waiting for confirmations",
    "awaiting_rail": "on its way",
    "awaiting_bursar": "about to be sent",
    "awaiting_operator": "needs a person",
}


def why(s: Subject, cursors: Mapping[str, Cursor]) -> str:
    """A sentence: who must move next, and what for."""
    assert s.status is not None
    word = WORDS.get(s.status.state, s.status.state.replace("_", " "))
    if s.id.kind != "invoice":
        return word
    b = book(s)
    if s.status.state == "awaiting_finality":
        slowest = min((payment(p, cursors)["confirmations"] for p in b.payments if p.counts and p.here), default=0)
        needed = max(w.confirmations for w in b.invoice.ways)
        return f"waiting for the chain: {min(slowest, needed)} of {needed} confirmations"
    if s.status.state == "awaiting_payer" and b.seen():
        return f"waiting for the payer: {b.seen()} of the price is here"
    last = [d.reason for d in s.decisions(s.status.state)]
    return f"{word}: {last[-1]}" if last else word


def amount(s: Subject, scales: Scales) -> str:
    """For a list: the price of an invoice, the sum of a payout."""
    match s.id.kind:
        case "invoice":
            b = book(s)
            return f"{b.invoice.price_value} {b.invoice.price_asset}"
        case "payout":
            leg = leg_of(s.spec.body)
            return f"{encode.money_text(leg.money.asset, leg.money.minor, scales)} {leg.money.asset}"
    return ""
