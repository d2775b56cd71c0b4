"""A desk that declares order groups on venues of all terms, fills that race cancels, and what must hold of them."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from msgspec import json
from msgspec.structs import replace

from .. import orders
from ..core.facts import Fact
from ..core.outcomes import Answer, Attempt
from ..core.proofs import Fate, fate
from ..core.subject import Decision, Mover, Spec, Status, Subject, SubjectId
from ..orders import Group, Member
from ..rails.sim.exchange import VENUES, Exchange, ExchangeRail, Order
from ..rails.sim.world import SECOND, SKEW, Pause, Trouble
from ..store.memory import Row
from .audits import SLACK, demand
from .plan import STORIES
from .world import Clock, World

STORY = dict(STORIES["desk"][0])
PATIENCE = 90 * SECOND


class Rail(ExchangeRail):
    @property
    def bank(self) -> Exchange:
        return self.venue


class Desk:
    controllers = (orders.controller,)

    def __init__(self, world: World) -> None:
        d = world.dice
        self.world, self.trouble = world, world.trouble
        self.sources = tuple(d.sample([*VENUES], d.choice((1, 1, 2))))
        self.venues = {name: Exchange(name, d, world.skewed(), world.trouble) for name in self.sources}
        self.groups: dict[str, Group] = {}
        self.generation: Counter[str] = Counter()
        self.closed: set[str] = set()
        self.moved, self.judged = Counter[str](), Counter[str]()  # venue -> reports that were looked at

    # -- what happens -----------------------------------------------------------------------
    def happen(self, kind: str, dice: Random) -> bool:
        resting = [order for venue in self.venues.values() for order in venue.resting()]
        match kind:
            case "group" if len(self.groups) < 10:
                self.group(dice)
            case "trade" if resting:
                self.trade(dice.choice(resting), dice)
            case "race" if resting:
                self.race(dice)
            case "drop" if resting:
                order = dice.choice(resting)
                self.world.tell(f"the venue cancels {order.key}")
                self.venue(order).end(order)
            case "withdraw" if self.groups:
                rests = [owner(order.key).id for order in resting]
                self.turn(dice.choice(rests or [*self.groups]))
            case "close" if self.groups and dice.random() < 0.3:
                name = dice.choice([*self.groups])
                self.closed.add(name)
                self.world.act(SubjectId("t", "order_group", name), "closed", "")
        return kind in ("group", "trade", "race", "drop", "withdraw", "close")

    def group(self, dice: Random) -> None:
        name, rail = f"g{len(self.groups)}", dice.choice(self.sources)
        ids = "abc"[: dice.choice((1, 2, 2, 3))]
        quantity = dice.randint(1, 9)
        members = tuple(Member(id, f"X{id}", "buy", quantity, dice.randint(1, 99)) for id in ids)
        self.groups[name] = Group(rail, members, "oco_first_fill", PATIENCE)
        self.world.tell(f"group {name} on {rail}: {quantity} of {' or '.join(ids)}")
        self.world.declare("order_group", name, self.groups[name])
        self.generation[name] = 1

    def turn(self, name: str) -> None:
        """Withdrawn, or wanted again."""
        self.generation[name] += 1
        present = self.generation[name] % 2 == 1
        self.world.tell(f"group {name} is {'wanted again' if present else 'withdrawn'}")
        spec = Spec(self.generation[name], json.encode(replace(self.groups[name], present=present)), "client")
        self.world.wishes.append((SubjectId("t", "order_group", name), spec, ()))

    def trade(self, order: Order, dice: Random) -> None:
        left = order.wish.quantity - order.filled
        quantity = left if dice.random() < 0.2 else dice.randint(1, left)
        self.world.tell(f"{quantity} of {left} of {order.key} are filled")
        self.venue(order).trade(order, quantity)

    def race(self, dice: Random) -> None:
        """Aimed: what is about to be cancelled is filled, now or in a moment."""
        for venue in self.venues.values():
            met = {owner(order.key) for order in venue.orders if order.filled}
            met |= {SubjectId("t", "order_group", name) for name, n in self.generation.items() if n % 2 == 0}
            for order in venue.resting():
                if owner(order.key) in met and dice.random() < 0.5:
                    self.world.later(self.world.now + dice.randint(0, 12) * SECOND, self.filler(order, dice))

    def filler(self, order: Order, dice: Random) -> Any:
        return lambda: self.trade(order, dice) if order.ended is None else None

    def venue(self, order: Order) -> Exchange:
        return next(venue for venue in self.venues.values() if order in venue.orders)

    # -- the scene --------------------------------------------------------------------------
    def rails(self, now: Clock, pause: Pause) -> dict[str, Any]:
        return {name: Rail(venue, self.world.dice, now, pause, self.trouble) for name, venue in self.venues.items()}

    def passed(self) -> None:
        """Fills come together: the market that takes one order often takes its rival in the same moment."""
        for name, venue in self.venues.items():
            new, self.moved[name] = venue.reports[self.moved[name] :], len(venue.reports)
            for key in [report.key for report in new if report.filled]:
                rivals = [order for order in venue.resting() if owner(order.key) == owner(key) and order.key != key]
                if rivals and self.world.dice.random() < 0.3:
                    self.trade(rivals[0], self.world.dice)

    def calmed(self, trouble: Trouble) -> None:
        self.trouble = trouble
        for venue in self.venues.values():
            venue.trouble = trouble

    # -- audits -----------------------------------------------------------------------------
    def stepped(self) -> None:
        for name, venue in self.venues.items():
            for report in venue.reports[self.judged[name] :]:
                self.judged[name] += 1
                self.reported(venue, next(order for order in reversed(venue.orders) if order.key == report.key))

    def reported(self, venue: Exchange, order: Order) -> None:
        """What rests was wanted, recorded before it left, and is not more than was wanted, whatever becomes of it."""
        subject, member = owner(order.key), wanted(order.key)
        row = self.world.store.rows.get(subject)
        demand(row and f"attempt/{order.attempt}" in row.keys, order.key, "was placed before it was recorded")
        assert row is not None
        mine = [x for x in venue.orders if owner(x.key) == subject and wanted(x.key) == member]
        most = sum(x.wish.quantity if x.ended is None else x.filled for x in mine)
        wish = next(m for m in self.groups[subject.id].members if m.id == member)
        demand(most <= wish.quantity, order.key, ":", most, "of", wish.quantity, "may be filled")
        if not order.filled and order.ended is None:
            self.landed(venue, subject, order, row)

    def landed(self, venue: Exchange, subject: SubjectId, order: Order, row: Row) -> None:
        """Nothing is placed for a member that is not the survivor; and nothing again while a fill of another has long
        been there to read."""
        n = next(n for n, r in enumerate(row.records) if isinstance(r, Attempt) and r.id == order.attempt)
        before, member = row.records[:n], wanted(order.key)
        others = [r for r in before if isinstance(r, Decision) and r.name == "survivor" and r.about != member]
        demand(not others, order.key, "was placed although", [r.about for r in others], "was to be left")
        again = any(isinstance(r, Attempt) and wanted(r.key) == member and r.key != order.key for r in before)
        heard = [r.asked if isinstance(r, Answer) else r.at for r in before if isinstance(r, Answer | Attempt)]
        long = max(heard, default=0) - 2 * SKEW
        read = {r.place.position for r in before if isinstance(r, Fact) and r.place}
        missed = [
            n
            for n, report in enumerate(venue.reports, 1)
            if again and report.filled and report.at < long and owner(report.key) == subject and n not in read
        ]
        demand(not missed, order.key, "was placed again, and fills", missed, "had not been read")

    def glanced(self, subject: SubjectId) -> None:
        """Whoever has something open past its horizon has told somebody."""
        if subject.kind == "order_group":
            self.horizon(subject, SLACK)

    def horizon(self, subject: SubjectId, slack: int) -> None:
        row = self.world.store.rows[subject]
        if not any(isinstance(r, Attempt) and self.world.now >= r.horizon + slack for r in row.records):
            return
        b = orders.book(Subject(subject, 0, row.records))
        held = {r.about for r in row.records if isinstance(r, Decision) and r.name == "held"}
        for case in [case for order in b.orders if order.doubt for case in order.cases]:
            told = self.world.now < case.attempt.horizon + slack or case.attempt.id in held
            demand(told or fate(case) is not Fate.OPEN, subject.id, case.attempt.id, "is open, nobody told")

    def decided(self, subject: SubjectId, decision: Decision) -> None:
        """The survivor is whoever was filled first in the venue's own order."""
        if subject.kind == "order_group" and decision.name == "survivor":
            venue = self.venues[self.groups[subject.id].rail]
            first = next(r.key for r in venue.reports if r.filled and owner(r.key) == subject)
            demand(wanted(first) == decision.about, subject.id, "is left with", decision.about, "the first was", first)

    def stated(self, subject: SubjectId, status: Status) -> None:
        """Nothing is called over that may be filled yet."""
        if subject.kind == "order_group" and status.state in ("filled", "cancelled"):
            rests = [x.key for x in self.venues[self.groups[subject.id].rail].resting() if owner(x.key) == subject]
            demand(not rests, subject.id, "is called", status.state, "and", rests, "rest")

    def ended(self, subject: SubjectId, status: Status) -> None:
        """What rests is what is wanted; what was filled is said; or a person has been told."""
        if subject.kind != "order_group":
            return
        self.horizon(subject, 0)
        group, name, state = self.groups[subject.id], subject.id, status.state
        venue, row = self.venues[group.rail], self.world.store.rows[subject]
        mine = [order for order in venue.orders if owner(order.key) == subject]
        fills, rests = Counter[str](), Counter[str]()
        for order in mine:
            fills[wanted(order.key)] += order.filled
            rests[wanted(order.key)] += order.ended is None
        filled = {m for m, n in fills.items() if n}
        first = [wanted(r.key) for r in venue.reports if r.filled and owner(r.key) == subject][:1]
        spec = max((r for r in row.records if isinstance(r, Spec)), key=lambda spec: spec.generation)
        closed = any(isinstance(r, Decision) and r.name == "closed" for r in row.records)
        present = orders.group_of(spec.body).present and not closed
        may = set(first or [m.id for m in group.members]) if present else set()
        asked = status.mover is Mover.OPERATOR and "stuck" in status.flags
        doubt = group.rail == "reused" and not closed and any("in doubt" in said for _, said in status.parts)
        demand(not doubt, name, "ends in doubt, and its orders expire")
        demand(rests.total() == 0 or {m for m in rests if rests[m]} <= may or asked, name, "ends", state, "with", rests)
        demand(max(rests.values(), default=0) <= 1, name, "rests twice:", rests)
        demand(("overfilled" in status.flags) == (len(filled) > 1), name, "ends", status.flags, ", filled:", fills)
        told = sum(int(part.split()[-1].split("/")[0]) for _, part in status.parts)
        demand(told == fills.total(), name, "says", status.parts, ", filled:", fills)
        short = [m.id for m in group.members if m.id in may and fills[m.id] < m.quantity and not rests[m.id]]
        demand(not short or asked, name, "ends", state, ":", short, "should rest")
        full = any(fills[m.id] == m.quantity for m in group.members)
        end = "closed" if closed else "filled" if full else "cancelled"
        fine = asked or state == ("awaiting_rail" if rests.total() else end)
        demand(fine, name, "ends", state, status.flags, ", rests:", rests, ", filled:", fills)

    def finished(self) -> None: ...


def owner(key: str) -> SubjectId:
    return SubjectId(*key.split("/")[:3])


def wanted(key: str) -> str:
    """The member of the order that has this key."""
    return key.split("/")[3].split(".")[0]
