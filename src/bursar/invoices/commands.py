"""What may be asked of invoices, as records. Pure: whoever runs it reads what it needs, and commits the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal

from msgspec import Struct, json

from ..core.errors import Invalid
from ..core.facts import Cursor
from ..core.money import Amount, Instant, minor_of
from ..core.subject import Decision, Subject
from .payments import ACCEPTED, ACCEPTED_SHORT, REFUNDED, REFUNDED_EXCESS, WRITTEN_OFF, GivenBack, book
from .spec import PRESETS, Invoice, Way, check, quote


class Offer(Struct, frozen=True):
    """A way to pay that is configured, before it has an address."""

    way: str  # asset@rail
    rail: str
    asset: str
    scale: int
    step: int
    confirmations: int
    grace: Instant
    depth: int  # reorganisations up to this many blocks are ordinary: scans begin so far below
    key_of: Callable[[str], str]  # what is watched for an address; raises ValueError with a sentence
    derive: Callable[[int], str] | None = None  # the address of an index; None: no extended public key


class AskedWay(Struct, frozen=True, forbid_unknown_fields=True):
    way: str
    address: str | None = None


class CreateInvoice(Struct, frozen=True, forbid_unknown_fields=True):
    """The request, as it comes over HTTP, from the command line and from the library."""

    price: Amount
    ways: list[AskedWay | str] | str = "all"
    external_id: str = ""
    window_seconds: int | None = None
    tolerance_ppm: int | None = None
    over_ppm: int | None = None
    metadata: dict[str, str] = {}
    preset: str = ""


Act = Literal["accept", "accept_short", "refund", "refund_excess", "write_off", "cancel"]


class ActOnInvoice(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person decides about an invoice."""

    action: Act
    reason: str
    payment: str = ""  # accept, refund, refund_excess, write_off: the id of the payment
    txid: str = ""  # refund, refund_excess: with which it was given back


ACTS: dict[Act, str] = {
    "accept": ACCEPTED,
    "accept_short": ACCEPTED_SHORT,
    "refund": REFUNDED,
    "refund_excess": REFUNDED_EXCESS,
    "write_off": WRITTEN_OFF,
    "cancel": "cancelled",
}


def act(s: Subject, request: ActOnInvoice, actor: str, command: str, now: Instant) -> Decision:
    """With what it rests on: how much of the price was seen, how much is given back. Raises Invalid; whether it may be
    is the controller's `admit` to say."""
    if not request.reason.strip():
        raise Invalid("an act needs a reason", "it is kept with the invoice")
    asked = ACTS[request.action], request.payment, actor, request.reason
    for d in s.decisions(ACTS[request.action]):  # the same again rests on what it rested on
        if d.command == command and (d.name, d.about, d.actor, d.reason) == asked:
            return d
    b, body = book(s), request.txid.encode()
    if request.action == "accept_short":
        body = str(b.seen).encode()
    if request.action == "refund_excess":
        excess = next((p.excess for p in b.payments if p.movement == request.payment), 0)
        body = json.encode(GivenBack(request.txid, excess))
    return Decision(*asked, now, body=body, command=command)


def asked(request: CreateInvoice, offers: Mapping[str, Offer]) -> list[tuple[Offer, str | None]]:
    """The ways that it asks for, each with the caller's address or None. Raises Invalid."""
    if isinstance(request.ways, str):
        if request.ways != "all":
            raise Invalid('ways is "all" or a list', 'for example ["BTC@bitcoin:regtest"]')
        able = [(offer, None) for offer in offers.values() if offer.derive]
        if not able:
            raise Invalid("no configured way can derive an address", "configure a rail with an xpub, or name a way")
        return list(able)
    out = []
    for want in request.ways:
        way, address = (want, None) if isinstance(want, str) else (want.way, want.address)
        if way not in offers:
            raise Invalid(f"there is no way to pay {way!r}", "known ways: " + (", ".join(sorted(offers)) or "none"))
        if address is None and offers[way].derive is None:
            raise Invalid(f"{way} has no address", "give one, or configure an extended public key for its rail")
        out.append((offers[way], address))
    return out


def declare(
    request: CreateInvoice,
    ways: Sequence[tuple[Offer, str]],
    cursors: Mapping[str, Cursor],
    prices: Mapping[str, str],
    now: Instant,
) -> tuple[Invoice, Decision]:
    """The invoice and its first quote. Raises Invalid: a bound, an address, a price that is missing, a rail that has
    not been read yet, so that nobody knows what was there before."""
    if request.preset not in PRESETS:
        raise Invalid(f"there is no preset {request.preset!r}", "known: " + ", ".join(filter(None, PRESETS)))
    preset = PRESETS[request.preset]
    try:
        invoice = Invoice(
            request.price.asset,
            request.price.value,
            tuple(way_of(offer, address, cursors.get(offer.rail, Cursor())) for offer, address in ways),
            preset.window_seconds if request.window_seconds is None else request.window_seconds,
            preset.tolerance_ppm if request.tolerance_ppm is None else request.tolerance_ppm,
            preset.over_ppm if request.over_ppm is None else request.over_ppm,
            preset.repricings,
            external_id=request.external_id,
            metadata=request.metadata,
            preset=request.preset,
        )
        check(invoice)
    except ValueError as err:
        raise Invalid(str(err)) from err
    for offer, _ in ways:
        if offer.asset == invoice.price_asset:
            try:
                minor_of(invoice.price_value, offer.scale, offer.step)
            except ValueError as err:
                raise Invalid(str(err)) from err
        if cursors.get(offer.rail, Cursor()) == Cursor():
            raise Invalid(f"{offer.rail} has not been read yet", "ask again once bursar sources shows a block of it")
    first = quote(invoice, prices, now)
    if first is None:
        raise Invalid(
            f"there is no price in {invoice.price_asset} for one of the ways",
            "price it in an asset that it can be paid in, or configure prices",
        )
    return invoice, Decision("quote", "", "bursar", "as asked", now, body=json.encode(first))


def way_of(offer: Offer, address: str, cursor: Cursor) -> Way:
    return Way(
        offer.way,
        offer.rail,
        offer.asset,
        offer.key_of(address),
        address,
        offer.scale,
        offer.step,
        offer.confirmations,
        offer.grace,
        max(0, cursor.position - offer.depth),
        cursor.position,
        cursor.trail[-offer.depth :] if offer.depth else (),
    )
