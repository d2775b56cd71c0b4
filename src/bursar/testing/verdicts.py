"""What must hold of what we say of invoices. Judged by the chain, by what was broadcast when, and by the records that
the verdict rests on; never by what the engine concluded from them."""

from __future__ import annotations

from fractions import Fraction

from msgspec import Struct, json

from ..core.facts import LIVE, Cursor, Fact, Standing, Stands
from ..core.money import Instant
from ..core.subject import Decision, Mover, Status, Subject, SubjectId
from ..invoices.payments import REFUNDED_EXCESS, GivenBack
from ..invoices.spec import Invoice, Quote, Way, quote_of
from ..rails.sim.chain import Block, Chain, Tx
from ..rails.sim.world import LAG, SECOND, SKEW
from ..store.memory import Row
from .audits import demand
from .world import World

RAIL, ASSET, GRACE, CONFIRMATIONS = "chain", "BTC", 5 * SECOND, 3
OVER = ("settled", "expired", "cancelled")


class Asked(Struct):
    """What a client asked for, and was given."""

    spec: Invoice
    ends: Instant  # of the first quote
    before: dict[str, str] = {}  # what had been mined when it was asked for: tx -> block

    @property
    def way(self) -> Way:
        return self.spec.ways[0]


class Verdicts:
    def __init__(self, world: World, chain: Chain, invoices: dict[str, Asked]) -> None:
        self.world, self.chain, self.invoices = world, chain, invoices
        self.reads = 0  # advances of the cursor, by which these are numbered:
        self.met: dict[str, int] = {}  # block -> the one that brought it first
        self.known: dict[tuple[str, str], int] = {}  # (invoice, tx that pays it) -> the same
        self.cursor, self.pool_branch = Cursor(), 0  # the branch on which the mempool was last read for certain

    def stepped(self) -> None:
        cursor = self.world.store.rail(RAIL).cursor
        if cursor is not self.cursor:
            if cursor.watermark > self.cursor.watermark:
                self.pool_branch = cursor.branch
            self.cursor = cursor
            self.reads += 1
            for block in self.line():
                self.met.setdefault(block.hash, self.reads)
            for name in self.invoices:
                self.complete(SubjectId("t", "invoice", name))

    def glanced(self, subject: SubjectId) -> None:
        if subject.kind == "invoice":
            self.complete(subject)
            self.counted(subject)
            self.rivals(subject.id.rstrip("'"), self.world.store.rows[subject])

    def line(self) -> tuple[Block, ...]:
        """The chain that the follower believes in, up to where it is."""
        cursor = self.world.store.rail(RAIL).cursor
        return self.chain.lines[cursor.trail[-1] if cursor.trail else "b0"]

    def mined(self) -> dict[str, str]:
        """What stands in the blocks that our follower knows: tx -> block."""
        return {tx.id: block.hash for block in self.line() for tx in block.txs}

    def complete(self, subject: SubjectId) -> None:
        """Nothing watched is missed: what stands in a block here is what stands in these blocks."""
        row = self.world.store.rows.get(subject)
        if row is None:
            return
        name = subject.id.rstrip("'")
        for r in row.records:
            if isinstance(r, Fact) and r.money:
                self.known.setdefault((name, r.tx), self.reads)
        scanned = next(
            (w for w, r in row.watches.items() if w.rail == RAIL and w.key == name and r.scanned and not r.ended), None
        )
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
        covered = all(r.covered(cursor) for w, r in row.watches.items() if w.rail == RAIL and w.since != LIVE)
        drifts = () if self.pool_branch == cursor.branch else (Stands.ADRIFT,)
        by = min(cursor.watermark, world.now)
        since = min((w.since for w in row.watches if w.rail == RAIL and w.since != LIVE), default=0)
        below = {tx.id for b in self.line()[:since] for tx in b.txs}
        spent = [tx.spends[0] for tx in self.chain.txs]
        rivals = {thing for thing in spent if spent.count(thing) > 1}
        for tx in self.paying(name):
            doubt = 2 * (LAG + SKEW) if tx.spends[0] in rivals else 0  # until it is known that the rival has gone
            if covered and tx.id not in below and self.chain.since.get(tx.id, world.now + 1) <= by - doubt:
                seen = tx.id in ours and ours[tx.id].stands in (Stands.PENDING, Stands.INCLUDED, *drifts)
                demand(seen, tx.id, "pays", name, "and has been there since before", by, ":", ours.get(tx.id))
        ends = self.deadline(row) + GRACE
        for tx, p in ((tx, ours[tx.id]) for tx in self.paying(name) if tx.id in ours):
            reached = p.reached(ends - GRACE, GRACE)
            late = tx.at > ends + 2 * SKEW
            demand(not (late and reached), tx.id, "came at", tx.at, ", and is said to be in time for", ends)
            at = line.get(p.fact.place.hash, ends + 1) if p.stands is Stands.INCLUDED and p.fact.place else ends + 1
            demand(reached or at > ends, tx.id, "was mined at", at, ", and is said to be late for", ends)

    def rivals(self, name: str, row: Row) -> None:
        """Whose rival stands in a block that came when it was known, or with it, is displaced; two answers about one
        block are shown to a person."""
        all_ = standing(SubjectId("t", "invoice", name), row)
        spent = {thing: (tx.id, b.hash) for b in self.line() for tx in b.txs for thing in tx.spends}
        for p in [p for p in all_.values() if p.fact.money and p.stands is Stands.PENDING]:
            for thing in p.fact.spends:
                tx, block = spent.get(thing, (p.fact.tx, ""))
                late = self.met.get(block, 0) < self.known.get((name, p.fact.tx), 0)
                demand(tx == p.fact.tx or late, p.fact.tx, "pays", name, "and", tx, "is in", block, "in its place")

    def contradicted(self, row: Row, status: Status) -> None:
        said: dict[tuple[str, str, int], set[object]] = {}
        for f in [r for r in row.records if isinstance(r, Fact) and r.place]:
            assert f.place is not None
            said.setdefault((f.movement, f.place.hash, f.branch), set()).add(f.money)
        lies = [key for key, sums in said.items() if len(sums) > 1]
        demand(not lies or "contradicted" in status.flags, lies, "is told in two ways, and nobody says so")

    def paying(self, name: str) -> list[Tx]:
        return [tx for tx in self.chain.txs if tx.outs[0][0] == name]

    def deadline(self, row: Row) -> Instant:
        return max(q.expires_at for q in self.quotes(row))

    def stated(self, subject: SubjectId, status: Status) -> None:
        if subject.kind == "invoice":
            self.contradicted(self.world.store.rows[subject], status)
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
            facts = [r for r in row.records if isinstance(r, Fact) and r.tx == tx.id and not r.gone]
            prompt = not facts or min(f.as_of for f in facts) <= ends + GRACE
            stayed = self.chain.since.get(tx.id, ends + 1) <= ends
            fits = tx.outs[0][1].asset == ASSET and tx.id not in self.from_before(name)
            left_alone = not {("refunded", f"{tx.id}:0"), ("written_off", f"{tx.id}:0")} & acts(row)
            missed = prompt and stayed and fits and left_alone and not self.chain.lied
            demand(not missed, name, "is over,", tx.id, "had been there in time")

    def from_before(self, name: str) -> dict[str, str]:
        return self.invoices[name].before

    def paid(self, subject: SubjectId) -> None:
        """Settled, by no act: the price was once final, and came in time."""
        row = self.world.store.rows[subject]
        if acts(row) or self.chain.lied:
            return
        name, cheapest = subject.id.rstrip("'"), Fraction(0)
        due = min(q.expected[self.invoices[name].way.name] for q in self.quotes(row))
        ends, here = self.deadline(row) + GRACE + 2 * SKEW, self.mined()
        for tx in self.paying(name):
            still = here.get(tx.id, "") == self.from_before(name).get(tx.id)
            fits = tx.at <= ends and tx.outs[0][1].asset == ASSET and not still
            if fits and self.chain.depth.get(tx.id, 0) >= CONFIRMATIONS:
                cheapest += Fraction(tx.outs[0][1].minor, due)
        enough = 1 - Fraction(self.invoices[name].spec.tolerance_ppm, 1_000_000)
        demand(cheapest >= enough, name, "is settled with", cheapest, "of its price")

    def ended(self, subject: SubjectId, status: Status) -> None:
        if subject.kind != "invoice" or self.chain.lied:
            return
        self.glanced(subject)
        name, row = subject.id.rstrip("'"), self.world.store.rows[subject]
        told, since = (
            {f.tx for f in facts(row) if f.place},
            min((w.since for w in row.watches if w.rail == RAIL and w.since != LIVE), default=0),
        )
        there = [
            (t, b)
            for n, b in enumerate(self.chain.head.blocks)
            for t in b.txs
            if t.outs[0][0] == name and (n >= since or t.id in told)
        ]
        kept = [t for t, _ in there if ("refunded", f"{t.id}:0") not in acts(row)]
        final = sum(x.minor for p in status.postings for x in p.lines if x.account.startswith("received:"))
        back = sum(trimmed(row).get(f"{t.id}:0", 0) for t in kept)
        demand(final == sum(t.outs[0][1].minor for t in kept) - back, name, ": ledger holds", final, ", chain", kept)
        demand(status.state in OVER or status.mover is Mover.OPERATOR, name, "ends", status.state)
        asked = status.state == "settled" or not kept or status.mover is Mover.OPERATOR
        demand(asked, name, ": money and nobody told")
        ends = self.invoices[name].ends + GRACE
        prompt = sum(
            t.outs[0][1].minor
            for t, b in there
            if max(b.at, self.chain.since[t.id]) <= ends
            and not any(b not in state.blocks for state in self.chain.past if state.at >= b.at)  # it may have come back
            and t.outs[0][1].asset == ASSET
            and t.id not in self.from_before(name)
        )
        due = max(q.expected[self.invoices[name].way.name] for q in self.quotes(row))
        fair = acts(row) or prompt < due or status.state == "settled"
        demand(bool(fair), name, "ends", status.state, ",", prompt, "came in time")
        undone = status.state == "settled" and not acts(row) and not there
        demand(not undone or "reorged" in status.flags, name, "lost its money:", status.flags)
        self.bounds(name, row)

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


def facts(row: Row) -> list[Fact]:
    return [r for r in row.records if isinstance(r, Fact)]


def trimmed(row: Row) -> dict[str, int]:
    """What people have given back of payments that were too much."""
    back = [r for r in row.records if isinstance(r, Decision) and r.name == REFUNDED_EXCESS]
    return {r.about: sum(json.decode(x.body, type=GivenBack).minor for x in back if x.about == r.about) for r in back}


def acts(row: Row) -> set[tuple[str, str]]:
    return {(r.name, r.about) for r in row.records if isinstance(r, Decision) and r.command}
