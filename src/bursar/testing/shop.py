"""A shop on a chain that reorganises: invoices, payers of all kinds, and what must hold of what we say of them."""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from random import Random
from typing import Any

from msgspec import Struct, json

from .. import invoices
from ..core.facts import LIVE, Cursor, Fact, Standing, Stands
from ..core.money import Instant, Money
from ..core.subject import Decision, Mover, Status, Subject, SubjectId
from ..invoices.spec import Invoice, Quote, Way, quote, quote_of
from ..rails.sim import LAG, SECOND, SKEW, Block, Chain, ChainSource, Pause, Trouble, Tx
from ..store.memory import Row
from .audits import demand
from .world import Clock, World

RAIL, ASSET, GRACE, CONFIRMATIONS, DEPTH = "chain", "BTC", 5 * SECOND, 3, 6
FULL = 100
PRICES = {"BTC/EUR": "1"}
PAID: tuple[list[int], ...] = ([100], [100], [100], [33, 67], [60, 40], [50], [98], [150], [100, 100], [])
OVER = ("settled", "expired", "cancelled")


class Asked(Struct):
    """What a client asked for, and was given."""

    spec: Invoice
    first: Quote

    @property
    def way(self) -> Way:
        return self.spec.ways[0]


class Shop:
    controllers = (invoices.controller,)
    sources = (RAIL,)
    back = DEPTH  # an invoice is scanned for from so far below the cursor at its declaration

    def __init__(self, world: World, source: type[ChainSource]) -> None:
        self.world, self.source, self.chain = world, source, Chain(world.dice)
        self.invoices: dict[str, Asked] = {}
        world.prices |= PRICES
        self.kind = False
        self.cursor, self.pool_branch = Cursor(), 0  # the branch on which the mempool was last read for certain

    # -- what happens -----------------------------------------------------------------------
    def happen(self, kind: str, dice: Random) -> bool:
        chain, pool = self.chain, self.chain.head.mempool
        match kind:
            case "mine":
                chain.mine()
                self.world.tell(f"block {len(chain.head.blocks) - 1} {said(chain.head.blocks[-1])}")
            case "reorg":
                self.reorg(dice.randint(1, 4))
            case "undo":
                self.undo(dice)
            case "back":
                chain.back()
                self.world.tell(f"an orphaned branch is the chain again, up to block {len(chain.head.blocks) - 1}")
            case "old":
                chain.mine_old()
                self.world.tell(f"block {len(chain.head.blocks) - 1} {said(chain.head.blocks[-1])}: an old one")
            case "rbf" if pool:
                tx = dice.choice(pool)
                self.replace(tx, tx.outs[0][0] if dice.random() < 0.3 else "elsewhere")
            case "evict" if pool:
                self.evict(dice.choice(pool), dice)
            case "snipe" if self.invoices:
                self.snipe(dice)
            case "invoice" if len(self.invoices) < 5:
                self.invoice(dice)
            case "act" if self.invoices:
                self.act(dice)
            case "price":
                self.price(dice)
        return kind in ("mine", "reorg", "undo", "back", "old", "rbf", "evict", "snipe", "invoice", "act", "price")

    def invoice(self, dice: Random) -> None:
        """Asked for now. Some were known to their payers before we hear of them."""
        name, early, window = f"i{len(self.invoices)}", dice.random() < self.world.plan.early, dice.randint(20, 90)
        spec = Invoice(
            dice.choice((ASSET, ASSET, "EUR")),
            str(FULL),
            (self.way(name, early),),
            window,
            tolerance_ppm=dice.choice((0, 0, 30_000)),
            repricings=dice.choice((0, 0, 1)),
            patience_seconds=dice.choice((30, 200)),
        )
        first = quote(spec, PRICES, self.world.now)
        assert first is not None
        asked = self.invoices[name] = Asked(spec, first)
        self.world.later(self.world.now + early * dice.randint(5, 60) * SECOND, lambda: self.declare(name, asked))
        for part in dice.choice(PAID):
            cheap, at = dice.random() < 0.1, self.world.now + dice.randint(0, 3) * SECOND
            if dice.random() > 0.7:  # aimed: around the deadline
                at = asked.first.expires_at + dice.randint(-30, 40) * SECOND
            self.world.later(
                max(at, self.world.now), self.payer(name, part, cheap, dice.choice((ASSET,) * 9 + ("DOGE",)))
            )

    def way(self, name: str, early: bool) -> Way:
        cursor = self.world.store.rail(RAIL).cursor
        position, since = cursor.position, max(0, cursor.position - self.back)
        if early:
            position, since = -1, 0
        return Way(
            f"{ASSET}@{RAIL}", RAIL, ASSET, name, name, 0, 1, CONFIRMATIONS, GRACE, since, position, cursor.branch
        )

    def declare(self, name: str, asked: Asked) -> None:
        self.world.tell(f"invoice {name}: {FULL} {asked.spec.price_asset} within {asked.spec.window_seconds} s")
        first = Decision("quote", "", "client", "as asked", asked.first.at, body=json.encode(asked.first))
        self.world.declare("invoice", name, asked.spec, first)

    def payer(self, to: str, minor: int, cheap: bool, asset: str) -> Callable[[], object]:
        return lambda: self.pay(to, minor, cheap=cheap, asset=asset)

    def pay(self, to: str, minor: int, spends: tuple[str, ...] = (), *, cheap: bool, asset: str = ASSET) -> Tx:
        self.world.serial += 1
        name = f"t{self.world.serial}"
        tx = Tx(name, spends or (f"coin-{name}",), ((to, Money(asset, minor)),), self.world.now, cheap)
        self.world.tell(f"{name} pays {minor} {asset} to {to}, spends {', '.join(tx.spends)}")
        self.chain.broadcast(tx)
        return tx

    def replace(self, tx: Tx, to: str) -> None:
        self.pay(to, tx.outs[0][1].minor, tx.spends, cheap=False)

    def snipe(self, dice: Random) -> None:
        """Paid, replaced, and the rival is mined at once: a node that lags shows the payment beside the block."""
        tx = self.pay(dice.choice(list(self.invoices)), FULL, cheap=False)

        def strike() -> None:
            if tx in self.chain.head.mempool:
                self.replace(tx, "elsewhere")
                self.chain.mine(share=1.0)
                self.world.tell(f"block {len(self.chain.head.blocks) - 1} {said(self.chain.head.blocks[-1])}")

        self.world.later(self.world.now + dice.randint(1, 8) * SECOND, strike)

    def evict(self, tx: Tx, dice: Random) -> None:
        self.chain.evict(tx)
        self.world.tell(f"{tx.id} is evicted")
        if dice.random() < 0.6:
            at = self.world.now + dice.randint(5, 60) * SECOND

            def again() -> None:
                self.world.tell(f"{tx.id} is broadcast again")
                self.chain.broadcast(tx)

            self.world.later(at, again)

    def reorg(self, depth: int) -> None:
        self.world.tell(f"reorg of {depth} blocks")
        self.chain.reorg(depth)

    def undo(self, dice: Random) -> None:
        """A reorg that is aimed at a payment: the deepest that may still be undone."""
        blocks = self.chain.head.blocks
        hit = [n for n, b in enumerate(blocks[-6:], 1) if any(t.outs[0][0] in self.invoices for t in b.txs)]
        if hit:
            self.reorg(min(7, len(blocks[-6:]) + 1) - dice.choice(hit))

    def act(self, dice: Random) -> None:
        """A person, who knows no more than the pages show."""
        to = SubjectId("t", "invoice", dice.choice(list(self.invoices)))
        row = self.world.store.rows.get(to)
        about = dice.choice(row.status.parts)[0] if row and row.status and row.status.parts else ""
        name = dice.choice(("accepted", "accepted", "accepted_short", "refunded", "cancelled"))
        self.world.tell(f"operator: {to.id} {name} {about}")
        self.world.act(
            to, name, about if name in ("accepted", "refunded") else "", b"tx" if name == "refunded" else b""
        )

    def price(self, dice: Random) -> None:
        self.world.prices.clear()
        if value := dice.choice(("", "1", "0.5", "2")):
            self.world.prices["BTC/EUR"] = value

    # -- the scene --------------------------------------------------------------------------
    def rails(self, now: Clock, pause: Pause) -> dict[str, Any]:
        world = self.world
        return {RAIL: self.source(RAIL, self.chain, world.dice, now, pause, world.trouble)}

    def passed(self) -> None:
        self.chain.now = self.world.now
        if self.kind:
            self.chain.mine(share=1.0)

    def calmed(self, trouble: Trouble) -> None:
        self.kind = True
        self.world.prices |= PRICES

    # -- audits -----------------------------------------------------------------------------
    def stepped(self) -> None:
        cursor = self.world.store.rail(RAIL).cursor
        if cursor is not self.cursor:
            if cursor.watermark > self.cursor.watermark:
                self.pool_branch = cursor.branch
            self.cursor = cursor
            for name in self.invoices:
                self.complete(SubjectId("t", "invoice", name))

    def glanced(self, subject: SubjectId) -> None:
        if subject.kind == "invoice":
            self.complete(subject)
            self.counted(subject)

    def line(self) -> tuple[Block, ...]:
        """The chain that the follower believes in, up to where it is."""
        cursor = self.world.store.rail(RAIL).cursor
        return self.chain.lines[cursor.trail[-1] if cursor.trail else "b0"]

    def complete(self, subject: SubjectId) -> None:
        """Nothing watched is missed: what stands in a block here is what stands in these blocks."""
        row = self.world.store.rows.get(subject)
        if row is None:
            return
        name = subject.id.rstrip("'")
        scanned = next((w for w, r in row.watches.items() if w.key == name and r.scanned and not r.ended), None)
        if scanned is None or scanned.since == LIVE or self.chain.lied:
            return
        here = {movement: p for movement, p in standing(subject, row).items() if p.fact.money and name in p.fact.keys}
        ours = {p.fact.tx: p.fact.place.hash for p in here.values() if p.stands is Stands.INCLUDED and p.fact.place}
        line = self.line()
        true = {tx.id: b.hash for b in line[scanned.since :] for tx in b.txs if tx.outs[0][0] == name}
        demand(ours.items() >= true.items(), name, "has", ours, ",", true, "is in the blocks")
        below = {tx.id: b.hash for b in line[: scanned.since] for tx in b.txs}
        demand((true | below).items() >= ours.items(), name, "has", ours, ",", true, "is in the blocks")

    def counted(self, subject: SubjectId) -> None:
        """What had come by the watermark, and stayed, is here; and each is called late or in time as it was."""
        world, name = self.world, subject.id.rstrip("'")
        row = world.store.rows[subject]
        cursor, line = world.store.rail(RAIL).cursor, {b.hash: b.at for b in self.line()}
        ours = {p.fact.tx: p for p in standing(subject, row).values() if p.fact.money and name in p.fact.keys}
        covered = all(r.covered(cursor) for w, r in row.watches.items() if w.since != LIVE)
        drifts = () if self.pool_branch == cursor.branch else (Stands.ADRIFT,)
        by = min(cursor.watermark, world.now)
        for tx in self.paying(name):
            if covered and self.chain.since.get(tx.id, world.now + 1) <= by:
                seen = tx.id in ours and ours[tx.id].stands in (Stands.PENDING, Stands.INCLUDED, *drifts)
                demand(seen, tx.id, "pays", name, "and has been there since before", by, ":", ours.get(tx.id))
        ends = self.deadline(row) + GRACE
        for tx, p in ((tx, ours[tx.id]) for tx in self.paying(name) if tx.id in ours):
            reached = p.reached(ends - GRACE, GRACE)
            late = tx.at > ends + 2 * SKEW
            demand(not (late and reached), tx.id, "came at", tx.at, ", and is said to be in time for", ends)
            at = line.get(p.fact.place.hash, ends + 1) if p.stands is Stands.INCLUDED and p.fact.place else ends + 1
            demand(reached or at > ends, tx.id, "was mined at", at, ", and is said to be late for", ends)

    def paying(self, name: str) -> list[Tx]:
        return [tx for tx in self.chain.txs if tx.outs[0][0] == name]

    def deadline(self, row: Row) -> Instant:
        return max(q.expires_at for q in self.quotes(row))

    def stated(self, subject: SubjectId, status: Status) -> None:
        if subject.kind == "invoice":
            spendable = [p.id for p in status.postings for x in p.lines if x.account.startswith("received")]
            for tx in (movement.split(":")[0] for movement in spendable):
                demand(self.chain.depth.get(tx, 0) >= CONFIRMATIONS, tx, "is spendable and was never final")

    def decided(self, subject: SubjectId, decision: Decision) -> None:
        if subject.kind == "invoice" and not decision.command:
            match decision.name:
                case "expired" | "quote" if decision.actor == "bursar":
                    self.silent(subject, decision)
                case "settled":
                    self.paid(subject)

    def silent(self, subject: SubjectId, decision: Decision) -> None:
        """Its time has passed: whatever had been there in time, and stayed, would have counted."""
        name, row = subject.id.rstrip("'"), self.world.store.rows[subject]
        quotes = self.quotes(row)
        ends = max(q.expires_at for q in (quotes[:-1] if decision.name == "quote" else quotes))
        demand(self.world.now + 2 * SKEW >= ends, name, "is over before its time")
        for tx in self.paying(name):
            facts = [r for r in row.records if isinstance(r, Fact) and r.tx == tx.id]
            prompt = not facts or min(f.as_of for f in facts) <= ends + GRACE
            stayed = self.chain.since.get(tx.id, ends + 1) <= ends
            fits = tx.outs[0][1].asset == ASSET and tx.id not in self.from_before(name)
            given_back = ("refunded", f"{tx.id}:0") in acts(row)
            missed = prompt and stayed and fits and not given_back and not self.chain.lied
            demand(not missed, name, "is over,", tx.id, "had been there in time")

    def from_before(self, name: str) -> set[str]:
        """What was mined when it was declared: it was paid for something else."""
        way = self.invoices[name].way
        lines = [line for line in self.chain.lines.values() if len(line) <= way.position + 1]
        return {tx.id for line in lines for block in line for tx in block.txs}

    def paid(self, subject: SubjectId) -> None:
        """Settled, by no act: the price was once final, and came in time."""
        row = self.world.store.rows[subject]
        if acts(row) or self.chain.lied:
            return
        name, cheapest = subject.id.rstrip("'"), Fraction(0)
        due = min(q.expected[self.invoices[name].way.name] for q in self.quotes(row))
        ends = self.deadline(row) + GRACE + 2 * SKEW
        for tx in self.paying(name):
            fits = tx.at <= ends and tx.outs[0][1].asset == ASSET
            if fits and self.chain.depth.get(tx.id, 0) >= CONFIRMATIONS:
                cheapest += Fraction(tx.outs[0][1].minor, due)
        enough = 1 - Fraction(self.invoices[name].spec.tolerance_ppm, 1_000_000)
        demand(cheapest >= enough, name, "is settled with", cheapest, "of its price")

    def ended(self, subject: SubjectId, status: Status) -> None:
        if subject.kind != "invoice" or self.chain.lied:
            return
        self.glanced(subject)
        name, row = subject.id.rstrip("'"), self.world.store.rows[subject]
        there = [(t, b) for b in self.chain.head.blocks for t in b.txs if t.outs[0][0] == name]
        kept = [t for t, _ in there if ("refunded", f"{t.id}:0") not in acts(row)]
        final = sum(x.minor for p in status.postings for x in p.lines if x.account.startswith("received:"))
        demand(final == sum(t.outs[0][1].minor for t in kept), name, ": ledger holds", final, ", chain", kept)
        demand(status.state in OVER or status.mover is Mover.OPERATOR, name, "ends", status.state)
        told = status.state == "settled" or not kept or status.mover is Mover.OPERATOR
        demand(told, name, ": money and nobody told")
        ends = self.invoices[name].first.expires_at + GRACE
        prompt = sum(
            t.outs[0][1].minor
            for t, b in there
            if max(b.at, self.chain.since[t.id]) <= ends
            and t.outs[0][1].asset == ASSET
            and t.id not in self.from_before(name)
        )
        due = max(q.expected[self.invoices[name].way.name] for q in self.quotes(row))
        fair = acts(row) or prompt < due or status.state == "settled"
        demand(bool(fair), name, "ends", status.state, ",", prompt, "came in time")
        undone = status.state == "settled" and not acts(row) and not there
        demand(not undone or "reorged" in status.flags, name, "lost its money:", status.flags)
        self.bounds(name, row)

    def finished(self) -> None: ...

    def quotes(self, row: Row) -> list[Quote]:
        return [quote_of(r.body) for r in row.records if isinstance(r, Decision) and r.name == "quote"]

    def bounds(self, name: str, row: Row) -> None:
        """When a fact says that a payment reached the rail, it had; and not before it says that it had not."""
        facts = [r for r in row.records if isinstance(r, Fact) and name in r.keys]
        for tx in self.paying(name):
            mine = [f for f in facts if f.tx == tx.id]
            if mine:
                by, after = min(f.as_of for f in mine), min(f.after for f in mine)
                demand(by + SKEW >= tx.at, tx.id, "is said to have been there by", by, ", it came at", tx.at)
                fair = after < tx.at + LAG + SKEW or self.left(tx)
                demand(fair, tx.id, "is said to have come after", after, ", not at", tx.at)

    def left(self, tx: Tx) -> bool:
        """Was it gone from chain and mempool together for a while?"""
        return any(tx not in state.txs() for state in self.chain.past if state.at >= tx.at)


def standing(subject: SubjectId, row: Row) -> dict[str, Standing]:
    return Subject(subject, row.version, row.records).standing


def acts(row: Row) -> set[tuple[str, str]]:
    return {(r.name, r.about) for r in row.records if isinstance(r, Decision) and r.command}


def said(block: Block) -> str:
    return "with " + ", ".join(tx.id for tx in block.txs) if block.txs else "empty"
