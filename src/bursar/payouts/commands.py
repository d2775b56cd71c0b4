"""What may be asked of payouts, as records. Pure: whoever runs it reads what it needs, and commits the answer."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal

from msgspec import Struct, json
from msgspec.structs import replace

from ..core.errors import Invalid
from ..core.money import Amount, Instant, Money, minor_of
from ..core.outcomes import Pay
from ..core.subject import Decision, Spec, Subject
from .leg import ACKNOWLEDGED, CANCELLED, CLOSED, SLOT, Closing, Leg, leg_of, paid

SECOND = 1_000_000
MOST = 2**62  # minor units
REPLACED = "replaced"  # an act about a generation: why there is another


class Purse(Struct, frozen=True):
    """An account that is configured, out of which payouts are made."""

    rail: str
    asset: str
    scale: int
    step: int
    check: Callable[[Pay, Instant], str]  # what the rail will know it by, "" if nothing; ValueError: it can't be paid
    usual_fee: Callable[[int], int]  # the fee limit where none is asked for, in minor units
    patience_seconds: int = 600
    confirmations: int = 0


class CreatePayout(Struct, frozen=True, forbid_unknown_fields=True):
    """The request, as it comes over HTTP, from the command line and from the library."""

    rail: str
    to: str  # on Lightning an invoice (bolt11) of exactly this amount
    amount: Amount
    fee_limit: str | None = None  # in the same asset; None: the rail's usual
    external_id: str = ""
    patience_seconds: int | None = None


class ActOnPayout(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person decides about a payout."""

    action: Literal["cancel", "close", "acknowledge", "replace"]
    reason: str
    outcome: Literal["paid", "not_paid"] | None = None  # close: what was found outside
    reference: str = ""  # close: by which somebody else can check it
    to: str = ""  # replace: another invoice for the same amount


def declare(request: CreatePayout, purses: Mapping[str, Purse], now: Instant) -> Leg:
    """Raises Invalid: a rail, an amount, an invoice that can't be paid."""
    purse, minor = purse_of(request.rail, purses), amount_of(request.rail, request.amount, purses)
    patience = purse.patience_seconds if request.patience_seconds is None else request.patience_seconds
    if not 60 <= patience <= 30 * 86_400:
        raise Invalid("patience_seconds must be from 60 to 2,592,000")
    try:
        fee = purse.usual_fee(minor) if request.fee_limit is None else fee_of(request.fee_limit, purse.scale)
        reference = purse.check(Pay(request.to, Money(purse.asset, minor), fee), now)
    except ValueError as err:
        raise Invalid(str(err)) from err
    return Leg(
        request.rail,
        request.to,
        Money(purse.asset, minor),
        patience * SECOND,
        purse.confirmations,
        fee,
        request.external_id,
        reference,
    )


def amount_of(rail: str, amount: Amount, purses: Mapping[str, Purse]) -> int:
    """In minor units of the rail's asset. Raises Invalid."""
    purse = purse_of(rail, purses)
    if amount.asset != purse.asset:
        raise Invalid(f"{rail} pays {purse.asset}, not {amount.asset}")
    try:
        minor = minor_of(amount.value, purse.scale, purse.step)
    except ValueError as err:
        raise Invalid(str(err)) from err
    return bounded(minor, amount.value)


def fee_of(text: str, scale: int) -> int:
    """Of money, only a fee limit may be nothing."""
    return 0 if text == "0" else bounded(minor_of(text, scale), text)


def bounded(minor: int, text: str) -> int:
    """Raises Invalid: nobody has so much, and no clock of the store counts so far."""
    if minor >= MOST:
        raise Invalid(f"{text} is more than there can be")
    return minor


def act(
    s: Subject, request: ActOnPayout, purses: Mapping[str, Purse], actor: str, command: str, now: Instant
) -> tuple[Spec | Decision, tuple[Decision, ...]]:
    """What `engine.intake.command` takes: the record, and what belongs into its commit. `command` is the id of this
    request: the same again is no news. Raises Invalid; whether it may be is the controller's `admit` to say."""
    if not request.reason.strip():
        raise Invalid("an act needs a reason", "it is kept with the payout")

    def decision(name: str, about: str = "", body: bytes = b"") -> Decision:
        return Decision(name, about, actor, request.reason, now, body=body, command=command)

    match request.action:
        case "cancel":
            return decision(CANCELLED), ()
        case "acknowledge":
            return decision(ACKNOWLEDGED, str(len(paid(s.cases(SLOT))))), ()
        case "close":
            if request.outcome is None or not request.reference.strip():
                raise Invalid(
                    "closing says what was found outside, and where",
                    'outcome "paid" or "not_paid", and a reference by which somebody else can check it',
                )
            return decision(CLOSED, body=json.encode(Closing(request.outcome, request.reference))), ()
        case "replace":
            said = next((r for r in s.decisions(REPLACED) if r.command == command), None)
            if said is not None:
                return next(r for r in s.records if isinstance(r, Spec) and r.generation == int(said.about)), (said,)
            spec = replacement(s, request.to, purses, actor, now)
            return spec, (decision(REPLACED, str(spec.generation)),)


def replacement(s: Subject, to: str, purses: Mapping[str, Purse], actor: str, now: Instant) -> Spec:
    """The next generation of a payout: it goes elsewhere, all else stays. The same invoice once more is another try.
    Raises Invalid."""
    leg = leg_of(s.spec.body)
    try:
        reference = purse_of(leg.rail, purses).check(Pay(to, leg.money, leg.fee), now)
    except ValueError as err:
        raise Invalid(str(err), "ask the payee for an invoice of exactly the same amount") from err
    body = json.encode(replace(leg, to=to, payment_hash=reference))
    return Spec(s.spec.generation + 1, body, actor, now)


def purse_of(rail: str, purses: Mapping[str, Purse]) -> Purse:
    if rail not in purses:
        raise Invalid(f"nothing can be paid on {rail!r}", "rails that pay: " + (", ".join(sorted(purses)) or "none"))
    return purses[rail]
