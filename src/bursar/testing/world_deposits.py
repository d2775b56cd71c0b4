"""A vault: transfers to addresses on a chain that reorganises, a custodian that credits them, and what must hold of
how the two are tied together."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any

from msgspec.structs import replace

from .. import deposits
from ..core.facts import Fact, Stands
from ..core.money import Money
from ..core.subject import Decision, Mover, Record, Status, Subject, SubjectId
from ..deposits import ACCEPTED, OVERDUE, PAIRED, UNEXPLAINED, Handle
from ..rails.sim.chain import Chain, ChainSource, Tx
from ..rails.sim.custodian import CREDITED_AS, Credit, Custodian, CustodianSource
from ..rails.sim.world import SECOND, SKEW, Pause, Trouble
from .audits import demand
from .plan import STORIES
from .world import Clock, World

CHAIN, CUSTODIAN, ASSET = "basechain", "custodian", "BTC"
STORY = dict(STORIES["vault"][0])
PATIENCE = 120 * SECOND


class Vault:
    controllers = (deposits.controller,)
    sources = (CHAIN, CUSTODIAN)

    def __init__(self, world: World) -> None:
        d = world.dice
        self.world, self.chain, self.trouble = world, Chain(d), replace(world.trouble, lie=0.0)
        self.custodian = Custodian(CUSTODIAN, d.choice((1, 2, 3)), world.skewed())
        self.names = d.choice((0.0, 0.5, 1.0))  # share of credits that say what they are for
        self.handles: dict[str, Handle] = {}
        self.held: dict[str, list[tuple[int, Tx]]] = {}  # handle -> what will be credited in one sum
        self.states, self.kind = 0, False
        self.told: dict[tuple[SubjectId, str], str] = {}

    # -- what happens -----------------------------------------------------------------------
    def happen(self, kind: str, dice: Random) -> bool:
        chain, pool = self.chain, self.chain.head.mempool
        match kind:
            case "seal":
                chain.mine()
                self.world.tell(f"block {[tx.id for tx in chain.head.blocks[-1].txs]}")
            case "fork":
                chain.reorg(dice.randint(1, 4))
                self.world.tell("a reorg")
            case "unfork":
                chain.back()
            case "handle" if len(self.handles) < 3:
                self.open(dice)
            case "send" if self.handles:
                self.send(dice.choice([*self.handles]), dice.choice((100, 100, 200, dice.randint(1, 99))), ())
            case "bump" if pool:
                tx = dice.choice(pool)
                self.send(tx.outs[0][0] if dice.random() < 0.5 else "elsewhere", tx.outs[0][1].minor, tx.spends)
            case "award" if self.handles:
                self.credit(dice.choice([*self.handles]), 100, "", ())
            case "person" if self.handles:
                self.person(dice.choice([*self.handles]), dice)
        return kind in ("seal", "fork", "unfork", "handle", "send", "bump", "award", "person")

    def open(self, dice: Random) -> None:
        name, head = f"d{len(self.handles)}", len(self.chain.head.blocks) - 1
        confirmations = dice.choice((1, 3))
        self.handles[name] = handle = Handle(
            CHAIN, name, ASSET, CUSTODIAN, name, CREDITED_AS, confirmations, PATIENCE, 2 * SKEW, max(0, head - 6)
        )
        self.custodian.handles[name] = name
        self.world.declare("deposit", name, handle)

    def send(self, to: str, minor: int, spends: tuple[str, ...]) -> None:
        self.world.serial += 1
        name = f"t{self.world.serial}"
        tx = Tx(name, spends or (f"coin-{name}",), ((to, Money(ASSET, minor)),), self.world.now)
        self.world.tell(f"{tx.id} sends {minor} to {to}, spends {', '.join(tx.spends)}")
        self.chain.broadcast(tx)

    def credit(self, handle: str, minor: int, tx: str, of: tuple[str, ...]) -> None:
        self.custodian.credit(handle, minor, tx, of)
        self.world.tell(f"{handle} is credited {minor} for {of}, saying {tx or 'nothing'}")

    def person(self, name: str, dice: Random) -> None:
        """Who knows what the credits were for, and answers what is asked."""
        subject = SubjectId("t", "deposit", name)
        _, transfers, credits = self.sides(subject)
        for credit in [credit for credit in credits if credit.open]:
            of = self.line(credit.id).of
            fit = [t.id for t in transfers if not t.explained and (t.standing.fact.tx,) == of]
            if fit and dice.random() < 0.7:
                return self.world.act(subject, PAIRED, credit.id, fit[0].encode())
            return self.world.act(subject, ACCEPTED, credit.id)
        for t in transfers:
            if dice.random() < 0.3 and (t.explained and not t.included or t.open and t.id in self.overdue(subject)):
                return self.world.act(subject, ACCEPTED, t.id)

    # -- the scene --------------------------------------------------------------------------
    def rails(self, now: Clock, pause: Pause) -> dict[str, Any]:
        d = self.world.dice
        return {
            CHAIN: ChainSource(CHAIN, self.chain, d, now, pause, self.trouble),
            CUSTODIAN: CustodianSource(self.custodian, d, now, pause, self.trouble),
        }

    def passed(self) -> None:
        self.chain.now = self.world.now
        if self.kind:
            self.chain.mine(share=1.0)
        if len(self.chain.past) == self.states:
            return
        self.states = len(self.chain.past)
        d = self.world.dice
        for handle, minor, tx in self.custodian.take(self.chain.head.blocks):
            held = self.held.setdefault(handle, [])
            held.append((minor, tx))
            if d.random() < 0.9 or self.kind:  # else with the next one, in one sum
                del self.held[handle]
                seconds = d.randint(0, 150 if d.random() < 0.2 + self.trouble.late else 15)
                self.world.later(self.world.now + seconds * SECOND, self.crediting(handle, held))

    def crediting(self, handle: str, held: Sequence[tuple[int, Tx]]) -> Any:
        of = tuple(tx.id for _, tx in held)
        named = self.world.dice.random() < self.names and len(of) == 1
        return lambda: self.credit(handle, sum(minor for minor, _ in held), of[0] if named else "", of)

    def calmed(self, trouble: Trouble) -> None:
        self.trouble, self.kind, self.states = trouble, True, 0
        for handle, held in self.held.items():
            self.world.later(self.world.now, self.crediting(handle, held))
        self.held = {}

    # -- audits -----------------------------------------------------------------------------
    def line(self, credit: str) -> Credit:
        return self.custodian.credits[int(credit.split("#")[1]) - 1]

    def sides(self, subject: SubjectId) -> Any:
        return deposits.sides(Subject(subject, 0, self.records(subject))) if self.records(subject) else (None, [], [])

    def records(self, subject: SubjectId) -> tuple[Record, ...]:
        row = self.world.store.rows.get(subject)
        return row.records if row else ()

    def overdue(self, subject: SubjectId) -> set[str]:
        return {r.about for r in self.records(subject) if isinstance(r, Decision) and r.name == OVERDUE}

    def stepped(self) -> None: ...

    def glanced(self, subject: SubjectId) -> None: ...

    def decided(self, subject: SubjectId, decision: Decision) -> None:
        """A pair is for ever, and for one; and absence is claimed only of what has been read past."""
        if subject.kind != "deposit":
            return
        records = self.records(subject)
        facts = [r for r in records if isinstance(r, Fact)]
        if decision.name == PAIRED:
            pairs = [(r.about, r.body) for r in records if isinstance(r, Decision) and r.name == PAIRED]
            once = len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
            demand(once, subject.id, "pairs more than once:", pairs)
        if decision.name in (PAIRED, UNEXPLAINED) and not decision.command:
            credit, known = self.line(decision.about), {fact.tx for fact in facts}
            there = [tx for tx in credit.of if self.chain.since.get(tx, self.world.now) < credit.at - SKEW]
            fine = decision.name == PAIRED and credit.tx or known.issuperset(there)
            demand(fine, subject.id, decision.name, decision.about, "before", there, "had been read")
            mine = [fact for fact in facts if fact.movement == decision.body.decode()]
            right = all(fact.tx == credit.tx for fact in mine) if credit.tx else any(fact.place for fact in mine)
            demand(decision.name != PAIRED or right, subject.id, decision.about, "is paired with", decision.body)
            self.counted(subject, credit, {fact.tx for fact in mine})
        if decision.name == OVERDUE:
            of = {fact.tx for fact in facts if fact.movement == decision.about}
            end = min(fact.as_of for fact in facts if fact.movement == decision.about and not fact.gone) + PATIENCE
            lines = [n for n, c in enumerate(self.custodian.credits, 1) if of & {*c.of} and c.at < end - 2 * SKEW]
            read = {fact.place.position for fact in facts if fact.rail == CUSTODIAN and fact.place}
            demand(read.issuperset(lines), subject.id, decision.about, "is overdue, and", lines, "were there to read")

    def counted(self, subject: SubjectId, credit: Credit, paired: set[str]) -> None:
        """By amount: where every credit of it is for one transfer that has been there ever since, a pair may mistake
        one of them for another, and never for one that was not credited."""
        equal = [c for c in self.custodian.credits if (c.handle, c.minor) == (subject.id, credit.minor)]
        sure = all(len(c.of) == 1 and self.chain.since.get(c.of[0], self.world.now) < c.at - SKEW for c in equal)
        wrong = paired - {tx for c in equal for tx in c.of}
        demand(credit.tx or not sure or not wrong, subject.id, "pairs", wrong, ", and only", equal, "were credited")

    def stated(self, subject: SubjectId, status: Status) -> None:
        """Nothing is spendable but what the custodian has credited, each credit once; and a pair stays."""
        if subject.kind != "deposit":
            return
        for part, by in [(part, said.split(" by ")[1]) for part, said in status.parts if " by " in said]:
            first = self.told.setdefault((subject, part), by)
            demand(by == first, subject.id, part, "was", first, "and is", by)
        for posting in status.postings:
            for line in [line for line in posting.lines if line.account == f"wallet:{CUSTODIAN}"]:
                demand(posting.id.startswith(f"{CUSTODIAN}#"), subject.id, posting.id, "is spendable before its credit")
                there = self.line(posting.id)
                same = (there.handle, there.minor, CREDITED_AS) == (subject.id, line.minor, line.asset)
                demand(same, subject.id, posting, "is not what was credited:", there)

    def ended(self, subject: SubjectId, status: Status) -> None:
        """Every credit and every transfer is there once: tied together, or with a person."""
        if subject.kind != "deposit":
            return
        name, mine = subject.id, [c for c in self.custodian.credits if c.handle == subject.id]
        _, transfers, credits = self.sides(subject)
        demand(len(credits) == len(mine), name, "has", len(credits), "credits of", len(mine))
        sums: dict[str, int] = {}
        for line in [line for posting in status.postings for line in posting.lines]:
            sums[line.account] = sums.get(line.account, 0) + line.minor
        held = sums.get(f"wallet:{CUSTODIAN}", 0) + sums.get(f"unexplained:{CUSTODIAN}", 0)
        demand(held == sum(c.minor for c in mine), name, "holds", sums, ", was credited", held)
        there = {tx.id: money.minor for tx in self.chain.head.txs() for to, money in tx.outs if to == name}
        open_ = {t.standing.fact.tx for t in transfers if not t.explained}
        inbound = sums.get(f"inbound:{CHAIN}", 0) + sums.get(f"inbound.pending:{CHAIN}", 0)
        demand(inbound == sum(there[tx] for tx in open_ & {*there}), name, "has inbound", inbound, "of", there)
        known = {t.standing.fact.tx for t in transfers}
        demand(known.issuperset(there), name, "has not seen", there.keys() - known)
        asked = status.mover is Mover.OPERATOR
        demand(asked == bool(status.flags), name, "ends", status.state, status.flags)
        back = {t.id for t in transfers if t.explained and t.standing.stands is not Stands.INCLUDED}
        accepted = {r.about for r in self.records(subject) if isinstance(r, Decision) and r.name == ACCEPTED}
        demand(asked or back <= accepted, name, "has credits for", back, ", which are gone")
        whole = not any(credit.open for credit in credits) and not open_ & {*there}
        state = ("settled" if any(x.explained for x in transfers + credits) else "awaiting_payer") if whole else ""
        fine = asked and (not whole or bool(back)) or status.state == state
        demand(fine, name, "ends", status.state, status.flags, "with", status.parts)

    def finished(self) -> None: ...
