"""Deposits: what is sent to an address of ours on a chain, and what a custodian credits for it, tied together.

Seen is not spendable: only a credit that is explained, by a transfer or by a person, stands in the custodian's wallet.
A credit is paired by the hash that it names (`tx`), else by its amount, and that only when the chain has been read past
it: "no other transfer fits" is a claim of absence. A pair is a decision, so no later fact can pair it anew. The subject
is one address with one handle at the custodian; it sends nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache

from msgspec import Struct, json

from .core.facts import LIVE, Standing, Stands, Watch, contradicted
from .core.ledger import Line, Posting
from .core.money import Instant, Money
from .core.ports import Controller, Refused, Seen
from .core.steps import Decide, Due, Step, Wait, at_position, at_watermark
from .core.subject import FINAL, Decision, Mover, Name, Spec, Status, Subject

PAIRED, ACCEPTED, UNEXPLAINED, OVERDUE = "paired", "accepted", "unexplained", "overdue"
AMBIGUOUS, UNSEEN, REORGED = "ambiguous", "credited_unseen", "reorg_after_credit"


class Handle(Struct, frozen=True):
    chain: str
    address: str
    asset: str  # on the chain
    custodian: str
    handle: str
    credited_as: str  # the custodian's form of it is another asset
    confirmations: int
    patience: Instant  # a transfer without its credit for so long is shown to the operator
    skew: Instant  # how far the clocks of the two rails may be apart
    since: int = 0  # blocks are scanned from here


@lru_cache(4096)
def handle_of(body: bytes) -> Handle:
    return json.decode(body, type=Handle)


class Movement(Struct, frozen=True):
    """A transfer or a credit."""

    id: str
    standing: Standing
    tx: str
    money: Money
    after: Instant  # it was not there by then
    placed_at: Instant | None  # the earliest that a block or the custodian's record had it
    final: bool
    explained: str  # by what: the other side's movement, or a person; "" if nothing does

    @property
    def open(self) -> bool:
        return self.standing.stands in (Stands.PENDING, Stands.INCLUDED) and not self.explained

    @property
    def included(self) -> bool:
        return self.standing.stands is Stands.INCLUDED


def said(s: Subject, name: str) -> dict[str, str]:
    return {decision.about: decision.body.decode() for decision in s.decisions(name)}


def sides(s: Subject) -> tuple[Handle, list[Movement], list[Movement]]:
    """The transfers and the credits, each in their rail's order."""
    handle, final, pairs = handle_of(s.spec.body), s.about(FINAL), said(s, PAIRED)
    explained = dict.fromkeys(s.about(ACCEPTED), "a person") | {t: c for c, t in pairs.items()} | pairs
    out: dict[str, list[Movement]] = {handle.chain: [], handle.custodian: []}
    for movement, standing in s.standing.items():
        fact, by = standing.fact, explained.get(movement, "")
        after = min((fact.after for fact in standing.seen), default=0)
        at = min((fact.place.at for fact in standing.seen if fact.place), default=None)
        if fact.money:
            out[fact.rail].append(Movement(movement, standing, fact.tx, fact.money, after, at, movement in final, by))
    for side in out.values():
        side.sort(key=lambda x: (x.placed_at or 0, x.id))
    return handle, out[handle.chain], [credit for credit in out[handle.custodian] if credit.included]


def status(s: Subject) -> Status:
    h, transfers, credits = sides(s)
    why = said(s, UNEXPLAINED) | dict.fromkeys(s.about(OVERDUE), OVERDUE)
    up = {why[x.id] for x in transfers + credits if x.open and x.id in why}
    up |= {REORGED for t in transfers if t.explained and not t.included and t.id not in s.about(ACCEPTED)}
    up |= {"contradicted"} if contradicted(s.facts) else set()
    unsure = [t.standing.fact for t in transfers if not (t.final and t.included)]
    watches = {Watch(h.chain, spent, LIVE) for fact in unsure for spent in fact.spends}
    return Status(
        *reached(transfers, credits, up),
        frozenset(up),
        tuple(sorted((x.id, word(x)) for x in transfers + credits)),
        tuple(posting for x in transfers + credits for posting in postings(s, h, x)),
        tuple(sorted(watches | {Watch(h.chain, h.address, h.since), Watch(h.custodian, h.handle)})),
        (Name("address", h.address, unique=False),),
    )


def reached(transfers: list[Movement], credits: list[Movement], flags: set[str]) -> tuple[str, Mover]:
    if flags & {AMBIGUOUS, UNSEEN, OVERDUE}:
        return "awaiting_operator", Mover.OPERATOR
    if any(x.open for x in transfers + credits):
        return "awaiting_rail" if all(t.final for t in transfers if t.open) else "awaiting_finality", Mover.RAIL
    if any(x.explained for x in transfers + credits):
        return "settled", Mover.OPERATOR if REORGED in flags else Mover.NOBODY
    return "awaiting_payer", Mover.PAYER


def word(x: Movement) -> str:
    return f"{x.standing.stands.value}{' final' if x.final else ''}{' by ' + x.explained if x.explained else ''}"


def postings(s: Subject, h: Handle, x: Movement) -> Iterator[Posting]:
    """A transfer until its credit, in accounts of its own; then the credit alone, by the custodian's word."""
    if x.standing.fact.rail == h.custodian:
        account, of = f"{'wallet' if x.explained else 'unexplained'}:{h.custodian}", f"deposit:{s.id.id}"
    elif x.open:
        account = f"{'inbound' if x.final and x.included else 'inbound.pending'}:{h.chain}"
        of = f"deposit:{s.id.id}.inbound"
    else:
        return
    yield Posting(x.id, (Line(account, x.money.asset, x.money.minor), Line(of, x.money.asset, -x.money.minor)))


def next_step(s: Subject, status: Status, seen: Seen) -> Step:
    (h, transfers, credits), dues = sides(s), tuple[Due, ...]()
    for step in (*pair(s, h, transfers, credits, seen), *clocks(s, h, transfers, seen)):
        if not isinstance(step, Wait):
            return step
        dues += step.until
    return Wait(dues)


def pair(s: Subject, h: Handle, transfers: list[Movement], credits: list[Movement], seen: Seen) -> Iterator[Step]:
    """As many transfers as credits: of those that carry the hash; without one, of those of the amount that may have
    been sent by then and that a block ever had, be it a later one (the first may be gone before anybody read it)."""
    asking, why, cursor = [credit for credit in credits if credit.open], said(s, UNEXPLAINED), seen.cursors.get(h.chain)
    named = {credit.tx for credit in asking} - {""}
    for tx, money in dict.fromkeys((credit.tx, credit.money) for credit in asking):
        left = [credit for credit in asking if (credit.tx, credit.money) == (tx, money)]
        by, latest = max(c.standing.fact.as_of for c in left), max(c.placed_at or 0 for c in left) + h.skew
        wanted = Money(h.asset, money.minor) if money.asset == h.credited_as else None
        same = [t for t in transfers if not t.explained and t.money == wanted]
        early = [t for t in same if t.placed_at and t.after <= latest and t.tx not in named]
        fits = [t for t in same if t.tx == tx] if tx else early
        read = cursor is not None and cursor.watermark > by
        if len(fits) == len(left) and (tx or read):
            yield Decide(PAIRED, left[0].id, f"by its {'hash' if tx else 'amount'}", fits[0].id.encode())
        elif read:
            because = AMBIGUOUS if fits else UNSEEN
            yield from (Decide(UNEXPLAINED, c.id, because, because.encode()) for c in left if why.get(c.id) != because)
        elif cursor is not None:  # without one, becoming covered wakes us
            yield Wait((at_watermark(h.chain, by + 1),))


def clocks(s: Subject, h: Handle, transfers: list[Movement], seen: Seen) -> Iterator[Step]:
    """What depth makes final; and what has no credit for too long, once the custodian has been read past that."""
    chain, custodian, told = seen.cursors.get(h.chain), seen.cursors.get(h.custodian), s.about(OVERDUE)
    for t in transfers:
        if chain and t.included and not t.final and t.standing.fact.place:
            deep = max(t.standing.fact.place.position + h.confirmations - 1, t.standing.fact.matures)
            yield Decide(FINAL, t.id, "deep") if chain.position >= deep else Wait((at_position(h.chain, deep),))
        if custodian and t.open and t.id not in told:
            end = min(fact.as_of for fact in t.standing.seen) + h.patience
            late = custodian.watermark > end
            yield Decide(OVERDUE, t.id, "no credit") if late else Wait((at_watermark(h.custodian, end + 1),))


def admit(s: Subject, record: Spec | Decision) -> Refused | None:
    """A person pairs a credit with a transfer, or takes one of them as it is; with a reason, and once."""
    if isinstance(record, Spec):
        return Refused("a handle never changes: declare another") if s.records else None
    if not s.records or not record.reason.strip():
        return Refused("an act needs a handle that was declared, and a reason")
    _, transfers, credits = sides(s)
    asking, free = {credit.id for credit in credits if credit.open}, {t.id for t in transfers if not t.explained}
    gone, about = {t.id for t in transfers if not t.included}, record.about
    fits = record.name == PAIRED and about in asking and record.body.decode() in free
    fits |= record.name == ACCEPTED and about in asking | free | gone
    return None if fits else Refused(f"{record.name} {record.about}: there is nothing of that name to explain")


controller = Controller("deposit", status, next_step, admit)
