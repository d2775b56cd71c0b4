"""An exchange that takes, fills and cancels orders under the terms of one kind of venue, and the adapter that acts on
it and reads its record. It matches nothing: fills come when the world says so."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random

from msgspec import Struct, json

from ...core.facts import Fact, Place
from ...core.money import Instant, Money
from ...core.outcomes import (
    Absent,
    Attempt,
    Cancel,
    Done,
    Effect,
    Finding,
    Outcome,
    Prepared,
    Rejected,
    Replace,
    Terms,
    Unknown,
)
from ...core.outcomes import Place as PlaceOrder
from .record import RecordSource
from .world import LAG, SECOND, SKEW, Pause, Trouble

VENUES = {  # venue -> (resend, replace, among which orders a client id is refused): see facts of real venues
    "unique": (True, Replace.SHARED, "all"),
    "reused": (False, Replace.EXPIRY, "open"),  # an id is free again once its order has ended
    "plain": (False, Replace.NEVER, ""),  # nobody can be asked about orders that have ended
}


class Order(Struct):
    key: str
    attempt: str
    wish: PlaceOrder
    at: Instant
    filled: int = 0
    ended: Instant | None = None


class Report(Struct, frozen=True):
    """One line of the venue's own record."""

    at: Instant
    key: str
    market: str
    filled: int  # of the order, so far
    ended: bool


class Exchange:
    """`arrive` is the only door for orders and cancels; `trade` and `end` are what else happens to them."""

    def __init__(self, name: str, dice: Random, now: Callable[[], Instant], trouble: Trouble) -> None:
        self.name, self.dice, self.now = name, dice, now  # its own clock, up to SKEW from ours
        self.trouble = trouble
        self.resend, self.replace, self.dedupes = VENUES[name]
        self.orders: list[Order] = []
        self.reports: list[Report] = []

    def resting(self, key: str = "") -> list[Order]:
        return [order for order in self.orders if order.ended is None and key in ("", order.key)]

    def arrive(self, attempt: Attempt) -> Outcome:
        wish = json.decode(attempt.prepared.payload, type=PlaceOrder | Cancel)
        if isinstance(wish, Cancel):
            orders = self.resting(wish.key)
            for order in orders:
                self.end(order)
            return Done(attempt.key) if orders else Rejected("no such order rests")
        if attempt.prepared.expires_at is not None and self.now() > attempt.prepared.expires_at:
            return Rejected("expired")
        same = [x for x in self.orders if x.key == attempt.key] if self.dedupes == "all" else self.resting(attempt.key)
        if same and self.dedupes:
            return Done(attempt.key) if self.dice.random() < 0.5 else Rejected("duplicate")  # speaks of this send only
        if self.dice.random() < self.trouble.refusal:
            return Rejected("insufficient funds", final=self.dice.random() < 0.05)
        order = Order(attempt.key, attempt.id, wish, self.now())
        self.orders.append(order)
        self.report(order)
        if self.dice.random() < 0.3:  # it crosses the book
            self.trade(order, self.dice.randint(1, wish.quantity))
        return Done(attempt.key)

    def trade(self, order: Order, quantity: int) -> None:
        order.filled += quantity
        if order.filled == order.wish.quantity:
            order.ended = self.now()
        self.report(order)

    def end(self, order: Order) -> None:
        """Cancelled, by us or by the venue."""
        order.ended = self.now()
        self.report(order)

    def report(self, order: Order) -> None:
        ended = order.ended is not None
        self.reports.append(Report(self.now(), order.key, order.wish.market, order.filled, ended))


class ExchangeRail(RecordSource):
    """Executor and source of an exchange. A lookup reads a replica up to LAG behind, a cache older than that (which
    says so), or a listing cut short."""

    def __init__(
        self, venue: Exchange, dice: Random, now: Callable[[], Instant], pause: Pause, trouble: Trouble
    ) -> None:
        super().__init__(dice, now, pause, trouble)
        self.venue = venue

    async def prepare(self, effect: Effect, key: str, resource: str) -> Prepared | Rejected | Unknown:
        await self.pause()
        venue, payload = self.venue, json.encode(effect).decode()
        match effect:
            case Cancel(order):  # of the rest of an order only one cancel can have it, and twice does no harm
                return Prepared(payload, Terms(True, Replace.SHARED, SKEW, LAG), f"rest of {order}")
            case PlaceOrder():
                terms = Terms(venue.resend, venue.replace, SKEW, LAG)
                expires_at = self.now() + 30 * SECOND if venue.replace is Replace.EXPIRY else None
                return Prepared(payload, terms, key if venue.replace is Replace.SHARED else "", expires_at)
        return Rejected("an exchange takes orders", final=True)

    async def submit(self, attempt: Attempt) -> Outcome:
        await self.pause()
        return self.venue.arrive(attempt)

    async def lookup(self, attempt: Attempt) -> Finding:
        await self.pause()
        venue, old = self.venue, self.dice.random() < self.trouble.stale
        hidden = self.dice.randint(0, LAG) if old else 0  # a replica's lag: it does not know it
        cached = self.dice.randint(0, 60 * SECOND) if old and self.dice.random() < 0.5 else 0  # an age: it says so
        as_of = venue.now() - cached
        if self.dice.random() < self.trouble.cut_short:
            return Absent(as_of, complete=False)
        wish = json.decode(attempt.prepared.payload, type=PlaceOrder | Cancel)
        of = wish.key if isinstance(wish, Cancel) else attempt.key
        shown = [x for x in venue.orders if x.key == of and x.at <= as_of - hidden]
        rests = [x for x in shown if x.ended is None or x.ended > as_of - hidden]
        if not rests and not venue.dedupes:
            return Absent(as_of, complete=False, why="rests no more, or never did")
        if isinstance(wish, Cancel):
            return Absent(as_of, why="rests") if rests else Done(of) if shown else Unknown("not found")
        return Done(of) if shown else Absent(as_of)

    def record(self, lag: Instant) -> Sequence[Fact]:
        then = self.venue.now() - lag
        return [fact(self.venue.name, n, report) for n, report in enumerate(self.venue.reports, 1) if report.at <= then]


def fact(venue: str, position: int, report: Report) -> Fact:
    line = f"{venue}#{position}"
    return Fact(
        venue,
        line,
        line,
        0,
        report.at + SKEW,
        keys=(report.key,),
        spends=(report.key,) if report.ended else (),
        place=Place(position, line, report.at),
        money=Money(report.market, report.filled),
        proves=report.key,
    )
