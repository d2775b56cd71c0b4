"""Order groups: the orders that are declared rest at a venue, each once, and the first fill leaves one member alive.

The group is the subject, so that its members never race. The venue's own record outranks every answer: each report is
a fact that proves an order's key, says in `money` how much of it has been filled so far, and spends the key when it has
ended. It amends nothing (another price is another group, after this one was withdrawn) and keeps no books."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from typing import Literal

from msgspec import Struct, json
from msgspec.structs import replace

from .core.facts import Fact, Stands, Watch
from .core.money import Instant
from .core.outcomes import Attempt, Cancel, Case, Place, Rejected
from .core.ports import Controller, Refused, Seen
from .core.proofs import Fate, NewAttempt, fate, known, next_look, pursue
from .core.steps import Decide, Due, Lookup, Resend, Step, Submit, Wait, at, at_watermark
from .core.subject import FINAL, Decision, Mover, Name, Spec, Status, Subject

HELD, SURVIVOR, CLOSED = "held", "survivor", "closed"
ATTEMPTS = 6  # at placing one member, and at one cancel
PAUSE = 4_000_000


class Member(Struct, frozen=True):
    id: str
    market: str
    side: str
    quantity: int  # in steps of the market
    price: int  # in its ticks


class Group(Struct, frozen=True):
    rail: str
    members: tuple[Member, ...]
    mode: Literal["oco_first_fill"]  # the first fill of a member, full or partial, cancels the others
    patience: Instant  # what is open for longer is shown to the operator
    present: bool = True  # False: withdrawn; the only thing that a later generation may change


@lru_cache(4096)
def group_of(body: bytes) -> Group:
    return json.decode(body, type=Group)


class Order(Struct, frozen=True):
    """One placement: the attempts at it and at its cancel, and what the venue's record says of it."""

    member: Member
    slot: str
    cases: list[Case]
    cancels: list[Case]
    reports: list[Fact]

    @property
    def filled(self) -> int:
        return sum(max(amount(f) for f in self.reports if f.proves == key) for key in self.reported)

    @property
    def reported(self) -> set[str]:
        return {report.proves for report in self.reports}

    @property
    def resting(self) -> list[str]:
        """Keys that were taken and have not ended, be it that no report shows them yet."""
        taken = {case.attempt.key for case in self.cases if fate(case) is Fate.DONE} | self.reported
        return sorted(taken - {report.proves for report in self.reports if report.spends})

    @property
    def doubt(self) -> bool:
        return not self.reports and not known(self.cases)

    @property
    def word(self) -> str:
        return "in doubt" if self.doubt else "rests" if self.resting else "over" if self.reports else "absent"


def amount(report: Fact) -> int:
    return report.money.minor if report.money else 0


class Book(Struct, frozen=True):
    group: Group
    orders: list[Order]  # in the order in which they were wanted
    alive: frozenset[str]  # the members whose orders may rest

    def of(self, member: Member) -> list[Order]:
        return [order for order in self.orders if order.member is member]

    def filled(self, member: Member) -> int:
        return sum(order.filled for order in self.of(member))

    def missing(self, member: Member) -> int:
        """How much of it should rest, and does not, as far as anybody knows."""
        there = any(order.resting or order.doubt for order in self.of(member))
        return 0 if there or member.id not in self.alive else member.quantity - self.filled(member)

    def surplus(self) -> list[Order]:
        return [order for order in self.orders if order.resting and order.member.id not in self.alive]


def book(s: Subject) -> Book:
    return s.once(booked)


def booked(s: Subject) -> Book:
    group, reports = group_of(s.spec.body), dict[str, list[Fact]]()
    for standing in s.standing.values():
        if standing.stands is Stands.INCLUDED:
            reports.setdefault(standing.fact.proves, []).append(standing.fact)
    members, orders = {member.id: member for member in group.members}, list[Order]()
    for slot in dict.fromkeys(r.slot for r in s.records if isinstance(r, Attempt)):
        member, verb, n = slot.rsplit(".", 2)
        if verb == "place":
            cases = s.cases(slot)
            said = [report for key in {case.attempt.key for case in cases} for report in reports.get(key, ())]
            orders.append(Order(members[member], slot, cases, s.cases(f"{member}.cancel.{n}"), said))
    chosen = [decision.about for decision in s.decisions(SURVIVOR)] or [*members]
    return Book(group, orders, frozenset(chosen if group.present and not s.decisions(CLOSED) else ()))


def status(s: Subject) -> Status:
    b = book(s)
    fills = [(b.filled(member), member.quantity) for member in b.group.members if b.filled(member)]
    over = len(fills) > 1 or any(filled > wanted for filled, wanted in fills)
    flags = {"stuck": held(s, b), "overfilled": over, "placed_twice": any(len(o.reported) > 1 for o in b.orders)}
    up = frozenset(flag for flag, on in flags.items() if on)
    parts = tuple((order.slot, f"{order.word} {order.filled}/{order.member.quantity}") for order in b.orders)
    keys = sorted({case.attempt.key for order in b.orders for case in order.cases})
    names = tuple(Name("order", key, unique=False) for key in keys)
    return Status(*reached(s, b, up), up, parts, (), tuple(Watch(b.group.rail, key) for key in keys), names)


def held(s: Subject, b: Book) -> bool:
    still = {case.attempt.id for order in b.orders if order.doubt for case in order.cases}
    still |= {order.slot for order in b.surplus()} | {member.id for member in b.group.members if b.missing(member) > 0}
    return not s.about(HELD).isdisjoint(still)


def reached(s: Subject, b: Book, flags: frozenset[str]) -> tuple[str, Mover]:
    rests, doubt = any(order.resting for order in b.orders), any(order.doubt for order in b.orders)
    if s.decisions(CLOSED) and not rests:
        return "closed", Mover.NOBODY
    if "stuck" in flags:
        return "awaiting_operator", Mover.OPERATOR
    if rests or doubt:
        return "awaiting_rail", Mover.RAIL
    if any(b.missing(member) > 0 for member in b.group.members):
        return "awaiting_bursar", Mover.BURSAR
    full = any(b.filled(member) >= member.quantity for member in b.group.members)
    return "filled" if full else "cancelled", Mover.OPERATOR if flags else Mover.NOBODY


def next_step(s: Subject, status: Status, seen: Seen) -> Step:
    dues: tuple[Due, ...] = ()
    for step in moves(s, book(s), seen):
        if not isinstance(step, Wait):
            return step
        dues += step.until
    return Wait(dues)


def moves(s: Subject, b: Book, seen: Seen) -> Iterator[Step]:
    """By urgency: what the record proves, what a person must see, cancel, find out, place."""
    proven = {case.attempt.key for order in b.orders for case in order.cases if case.final}
    reports = [(f.place.position, order.member.id, f) for order in b.orders for f in order.reports if f.place]
    yield from (Decide(FINAL, f.movement, "the venue's record") for _, _, f in reports if f.proves not in proven)
    fills = sorted((position, member) for position, member, report in reports if amount(report))
    chosen = not fills or bool(s.decisions(SURVIVOR))
    if not chosen and b.group.rail in seen.cursors:  # else an earlier fill may not have been read yet
        yield Decide(SURVIVOR, fills[0][1], f"the first fill, at {fills[0][0]} of the venue's record")
    surplus, doubts = b.surplus(), [order for order in b.orders if order.doubt]
    open_ = [(c.attempt.id, c.attempt.horizon) for o in doubts for c in o.cases if fate(c) is Fate.OPEN]
    open_ += [(order.slot, order.cancels[0].attempt.horizon) for order in surplus if order.cancels]
    for about, end in [x for x in open_ if x[0] not in s.about(HELD)]:
        yield Decide(HELD, about, "open past its horizon") if seen.now > end else Wait((at(end + 1),))
    yield from (cancel(b, order, seen.now) for order in surplus)
    for order in doubts if not s.decisions(CLOSED) else ():
        yield find_out(s, b, order, seen.now, ATTEMPTS if chosen and order.member.id in b.alive else 0)
    for member in b.group.members if chosen and not doubts else ():
        if b.missing(member) > 0:
            yield place(s, b, member, seen)


def cancel(b: Book, order: Order, now: Instant) -> Step:
    """Until the record shows that the order has ended: no answer ends it."""
    match pursue(order.cancels, now, PAUSE, ATTEMPTS):
        case NewAttempt() if len(order.cancels) >= ATTEMPTS or Fate.DONE in map(fate, order.cancels):
            return Wait()
        case NewAttempt():
            slot = ".cancel.".join(order.slot.rsplit(".place.", 1))
            return Submit(slot, b.group.rail, Cancel(order.resting[0]), now + b.group.patience)
        case step:
            return step


def find_out(s: Subject, b: Book, order: Order, now: Instant, limit: int) -> Step:
    """`limit` 0: it is not wanted any more, and nothing of it may leave again."""
    pause = PAUSE if s.about(HELD).isdisjoint(case.attempt.id for case in order.cases) else 15 * PAUSE
    match pursue(order.cases, now, pause, limit):
        case NewAttempt():
            return submit(b, order.member, order.slot, now)
        case Resend(attempt) if not limit:
            again = next_look(next(case for case in order.cases if case.attempt.id == attempt), pause)
            return Lookup(attempt) if now >= again else Wait((at(again),))
        case step:
            return step


def place(s: Subject, b: Book, member: Member, seen: Seen) -> Step:
    """The first time at once; again only when the venue's record was read past all that we did and heard, so that
    no fill of another member is overlooked."""
    orders = b.of(member)
    cases = [case for order in orders for case in order.cases]
    final = any(isinstance(a.said, Rejected) and a.said.final for case in cases for a in case.answers)
    if final or len(cases) >= ATTEMPTS:
        why = "refused for good" if final else f"{len(cases)} attempts"
        return Wait() if member.id in s.about(HELD) else Decide(HELD, member.id, why)
    if not orders:
        return submit(b, member, f"{member.id}.place.0", seen.now)
    every = [case for order in b.orders for case in (*order.cases, *order.cancels)]
    last = max(then for case in every for then in (case.attempt.at, *(a.asked for a in case.answers)))
    cursor = seen.cursors.get(b.group.rail)
    if cursor is None or cursor.watermark <= last:  # without one, becoming covered wakes us
        return Wait((at_watermark(b.group.rail, last + 1),) if cursor else ())
    again = orders[-1].word == "absent"  # it has not happened, and never will: the same effect, another attempt
    return submit(b, member, orders[-1].slot if again else f"{member.id}.place.{len(orders)}", seen.now)


def submit(b: Book, member: Member, slot: str, now: Instant) -> Submit:
    others = tuple(order.slot for order in b.orders if order.slot != slot)
    rest = Place(member.market, member.side, member.quantity - b.filled(member), member.price)
    return Submit(slot, b.group.rail, rest, now + b.group.patience, others)


def admit(s: Subject, record: Spec | Decision) -> Refused | None:
    """Generations of one group, and an operator's word that nothing more is placed or asked."""
    if isinstance(record, Decision):
        closes = record.name == CLOSED and s.records
        return None if closes else Refused(f"no act {record.name}: there is {CLOSED}, of a group that was declared")
    group = group_of(record.body)
    ids = {member.id for member in group.members if member.quantity > 0 and member.price > 0}
    if len(ids) != max(1, len(group.members)):
        return Refused("a group has members, each with an id of its own, a quantity and a price above zero")
    if record.generation != (s.spec.generation if s.records else 0) + 1 or s.decisions(CLOSED):
        return Refused("it is closed, or somebody else has changed it")
    if s.records and replace(group, present=True) != replace(group_of(s.spec.body), present=True):
        return Refused("of a group only `present` changes: withdraw it and declare another")
    return None


controller = Controller("order_group", status, next_step, admit)
