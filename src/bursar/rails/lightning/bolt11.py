"""Lightning invoices (BOLT 11), read: what they ask for, and whether that is what is wanted. Makes none, pays none.

Bech32, the tagged fields and the signature are the library's (extra [lightning]). The amount is read here, to the
millisatoshi: the library rounds what is finer."""

from __future__ import annotations

import re
from typing import Any

from msgspec import Struct

from ...core.errors import Explained
from ...core.money import Instant
from ...core.outcomes import Pay

SECOND = 1_000_000
SATOSHI = 1_000
LONGEST = 4_096  # characters; what fits a QR code is about as long
NETWORKS = {"mainnet": "bc", "testnet": "tb", "signet": "tbs", "regtest": "bcrt"}
HEAD = re.compile(r"ln(bcrt|bc|tbs|tb)(?:([1-9][0-9]{0,17})([munp]?))?")
PICO = {"": 10**12, "m": 10**9, "u": 10**6, "n": 10**3, "p": 1}  # of a bitcoin; ten of them are a millisatoshi


class Bolt11(Struct, frozen=True):
    """An invoice whose signature is right."""

    text: str  # lower case, as it is sent
    network: str  # the prefix: bc, tb, tbs, bcrt
    msat: int | None  # None: the payer may choose
    hash: str  # of the payment: what it is known by everywhere, 64 hexadecimal digits
    payee: str  # the node's public key
    at: Instant
    expires_at: Instant
    secret: bool  # has a payment secret, without which no node of today pays


def decode(text: str) -> Bolt11:
    """Raises ValueError with a sentence: no invoice, or one that is damaged. Raises Explained without the library."""
    if len(text) > LONGEST or not text.isascii() or text not in (text.lower(), text.upper()):
        raise ValueError("this is not a Lightning invoice: it is too long, or in mixed case")
    text = text.lower()
    head = HEAD.fullmatch(text.rpartition("1")[0])
    if head is None:
        raise ValueError("this is not a Lightning invoice: it begins with lnbc, lntb, lntbs or lnbcrt and an amount")
    network, digits, unit = head.groups()
    pico = int(digits) * PICO[unit] if digits else None
    if pico is not None and pico % 10:
        raise ValueError("the invoice's amount is finer than a millisatoshi")
    fields = _fields(text)
    if fields.payment_hash is None:
        raise ValueError("the invoice has no payment hash")
    return Bolt11(
        text,
        network,
        None if pico is None else pico // 10,
        fields.payment_hash,
        fields.payee,
        fields.date * SECOND,
        (fields.date + fields.expiry) * SECOND,
        fields.secret,
    )


class _Fields(Struct):
    payment_hash: str | None
    payee: str
    date: int
    expiry: int
    secret: bool


def library() -> tuple[Any, Any]:
    """Raises Explained where it is not installed."""
    try:
        import bitstring
        import bolt11
    except ImportError as err:
        raise Explained("Lightning invoices need the extra [lightning]", "pip install 'bursar[lightning]'") from err
    return bolt11, bitstring


def _fields(text: str) -> _Fields:
    bolt11, bitstring = library()
    try:
        found = bolt11.decode(text, ignore_exceptions=True)  # what it must hold is checked here
        return _Fields(
            found.payment_hash if found.has_payment_hash else None,
            found.payee or "",
            found.date,
            found.expiry,
            found.payment_secret is not None,
        )
    except (bolt11.Bolt11Exception, bitstring.Error, ValueError, LookupError, OverflowError) as err:
        raise ValueError("the invoice is damaged: some of it is missing or was changed") from err


def verify(effect: Pay, network: str, now: Instant, spare: Instant) -> Bolt11:
    """The invoice that `effect` is to pay, if it asks for exactly that and can still be paid for at least `spare`.

    Raises ValueError with a sentence."""
    invoice = decode(effect.to)
    if network not in NETWORKS:
        raise ValueError(f"there is no network {network!r}; known: {', '.join(NETWORKS)}")
    if invoice.network != NETWORKS[network]:
        raise ValueError(f"the invoice is of another network: it begins with ln{invoice.network}, this is {network}")
    if effect.money.asset != "BTC":
        raise ValueError(f"Lightning pays BTC, not {effect.money.asset}")
    if invoice.msat is None:
        raise ValueError("the invoice names no amount: ask the payee for one that does")
    if invoice.msat != effect.money.minor:
        raise ValueError(f"the invoice asks for {invoice.msat} msat, {effect.money.minor} msat are to be paid")
    if not invoice.secret:
        raise ValueError("the invoice has no payment secret: no node of today pays it")
    if invoice.expires_at <= now:
        raise ValueError("the invoice has expired: ask the payee for another one")
    if invoice.expires_at <= now + spare:
        raise ValueError(f"the invoice expires in less than {spare // SECOND} s: ask the payee for another one")
    return invoice


def usual_fee(msat: int) -> int:
    """The fee limit where nobody names one, in millisatoshi: 2 satoshi or 1 %, rounded up, whichever is more."""
    return max(2 * SATOSHI, -(-msat // 100))
