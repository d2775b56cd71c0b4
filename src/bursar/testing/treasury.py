"""A treasury that pays: legs and allocations over banks of all terms, and what must hold of them."""

from __future__ import annotations

from random import Random
from typing import Any

from msgspec import json
from msgspec.structs import replace

from ..core.ledger import RESERVED, available
from ..core.money import Money
from ..core.outcomes import Answer, Attempt, Verb
from ..core.proofs import Fate, fate
from ..core.subject import UNDECLARED, Decision, Mover, Spec, Status, Subject, SubjectId
from ..payouts import allocation, leg
from ..payouts.leg import Leg
from ..rails.sim.bank import TERMS, Bank, BankRail
from ..rails.sim.world import LAG, SECOND, SKEW, Pause, Trouble
from ..store.memory import Row
from .audits import SLACK, demand
from .plan import STORIES
from .world import Clock, World

PATIENCE, EVER = 90 * SECOND, 10**9 * SECOND


class Treasury:
    controllers = (leg.controller, allocation.controller)

    def __init__(self, world: World, adapter: type[BankRail]) -> None:
        d = world.dice
        self.world, self.adapter = world, adapter
        self.log: list[str] = []
        self.banks = {name: Bank(name, d, world.skewed(), world.trouble, self.log) for name in TERMS}
        self.funded = dict.fromkeys(TERMS, 0)
        for name in TERMS:
            self.fund(name, d.choice((0, 500, 5000)))
        self.sources = world.plan.fed
        self.wanted: dict[str, set[Leg]] = {}  # by name: two where somebody took the name of an allocation's leg
        self.splits: dict[str, allocation.Split] = {}
        self.landed = 0
        self.seen: dict[str, int] = {}
        self.open: dict[SubjectId, tuple[int, list[Attempt]]] = {}  # as of a version

    # -- what happens -----------------------------------------------------------------------
    def happen(self, kind: str, dice: Random) -> bool:
        match kind:
            case "leg" if len(self.wanted) < 12:
                self.leg(f"p{len(self.wanted)}", dice)
            case "split" if len(self.splits) < 2:
                self.split(dice)
            case "squat" if len(self.splits) < 2:
                self.squat(dice)
            case "cancel" if self.wanted:
                name = dice.choice(list(self.wanted))
                self.world.tell(f"cancel {name}")
                self.world.act(SubjectId("t", "payout", name), "cancelled", "")
            case "give_up" if self.wanted:
                self.close(dice)
            case "again" if self.wanted:
                self.again(dice.choice(list(self.wanted)))
            case "fund":
                self.fund(dice.choice(self.world.plan.rails), 200)
        return kind in STORIES["treasury"][0] or kind in STORIES["treasury"][1]

    def fund(self, rail: str, minor: int) -> None:
        self.funded[rail] += minor
        self.world.fund(leg.wallet(rail), minor)

    def leg(self, name: str, dice: Random) -> None:
        fee, rail, minor = dice.choice((0, 0, 7)), dice.choice(self.world.plan.rails), dice.randint(1, 999)
        if dice.random() < 0.3:  # aimed: the last of the money, with or without what the rail may charge
            sums = self.world.store.balances.get("t", {})
            minor = max(1, available(sums, leg.wallet(rail), "BTC") - dice.choice((0, fee)))
        wish = Leg(rail, name, Money("BTC", minor), PATIENCE, fee=fee)
        self.wanted.setdefault(name, set()).add(wish)
        self.world.tell(f"payout {name}: {wish.money.minor} over {wish.rail}")
        self.world.declare("payout", name, wish)

    def split(self, dice: Random) -> None:
        name = f"a{len(self.splits)}"
        weights = {k: dice.randint(0, 5) for k in "xyz"} | {"w": 1}
        rail = dice.choice(self.world.plan.rails)
        self.splits[name] = spec = allocation.Split(Money("BTC", dice.randint(1, 999)), weights, rail)
        self.world.tell(f"allocation {name}: {spec.total.minor} over {rail}, {weights}")
        to = self.world.declare("allocation", name, spec)
        for child, body in allocation.legs_of(to, json.encode(spec)).items():
            self.wanted.setdefault(child, set()).add(leg.leg_of(body))

    def squat(self, dice: Random) -> None:
        """Somebody else declares a leg of an allocation: something else, or the very same."""
        name = f"a{len(self.splits)}"
        if dice.random() < 0.5:
            self.leg(f"{name}.{dice.choice('xyzw')}", dice)
            self.split(dice)
            if dice.random() < 0.5:  # whichever comes first has the name
                self.world.wishes[-2:] = self.world.wishes[:-3:-1]
            return
        self.split(dice)
        to, spec, _ = wish = self.world.wishes.pop()
        legs = allocation.legs_of(to, spec.body)
        child = dice.choice(list(legs))
        self.world.declare("payout", child, leg.leg_of(legs[child]))
        self.world.later(self.world.now + dice.randint(0, 20) * SECOND, lambda: self.world.wishes.append(wish))

    def close(self, dice: Random) -> None:
        """A person takes a payout out of our hands, or takes note that it was paid once more."""
        to = SubjectId("t", "payout", dice.choice(list(self.wanted)))
        self.world.tell(f"operator: close {to.id}, or take note")
        self.world.act(to, "acknowledged", "2")
        self.world.act(to, "closed", "", json.encode(leg.Closing(dice.choice(("paid", "not_paid")), "as I was told")))

    def again(self, name: str) -> None:
        """For the same sum another invoice, as the next generation."""
        row = self.world.store.rows.get(SubjectId("t", "payout", name))
        specs = [r for r in row.records if isinstance(r, Spec)] if row else []
        if specs:
            wish = replace(leg.leg_of(specs[-1].body), to=f"{name}#{len(specs) + 1}")
            self.wanted[name].add(wish)
            self.world.tell(f"payout {name}: another invoice, {wish.to}")
            spec = Spec(len(specs) + 1, json.encode(wish), "client")
            self.world.wishes.append((SubjectId("t", "payout", name), spec, ()))

    # -- the scene --------------------------------------------------------------------------
    def rails(self, now: Clock, pause: Pause) -> dict[str, Any]:
        world = self.world
        return {name: self.adapter(bank, world.dice, now, pause, world.trouble) for name, bank in self.banks.items()}

    def passed(self) -> None: ...

    def calmed(self, trouble: Trouble) -> None:
        for name, bank in self.banks.items():
            bank.trouble = trouble
            self.fund(name, 20_000)

    # -- audits -----------------------------------------------------------------------------
    def stepped(self) -> None:
        """Everything that landed was wanted, recorded before it left, and happened once."""
        if len(self.log) == self.landed:
            return
        self.landed = len(self.log)
        for bank in self.banks.values():
            for x in bank.landed[self.seen.get(bank.name, 0) :]:
                name = owner(x.to)
                self.world.tell(f"{bank.name} has paid {x.money.minor} to {x.to}, it cost {x.cost}")
                row = self.world.store.rows[SubjectId(*x.key.split("/")[:3])]
                demand(f"attempt/{x.attempt}" in row.keys, x.to, "landed before it was recorded")
                demand(x.money == self.spec(name).money, x.to, "was paid", x.money)
                once = bank.effects(name) <= 1 or name in bank.reneged
                demand(once, name, "was paid", bank.effects(name), "times on", bank.name)
            self.seen[bank.name] = len(bank.landed)
        everywhere = [
            owner(x.to) for b in self.banks.values() for x in b.landed if b.name != "setting" and not b.reneged
        ]
        demand(len(everywhere) == len(set(everywhere)), "paid on two rails")

    def spec(self, name: str) -> Leg:
        """What is wanted under this name: of two wishes the one that was recorded."""
        row = self.world.store.rows.get(SubjectId("t", "payout", name))
        demand(name in self.wanted and row is not None, "nobody wanted", name)
        assert row is not None
        wish = next(leg.leg_of(r.body) for r in row.records if isinstance(r, Spec))
        demand(wish in self.wanted[name], "nobody wanted", wish)
        return wish

    def glanced(self, subject: SubjectId) -> None:
        """Whoever has something open past its horizon has told somebody."""
        if subject.kind == "payout":
            self.horizon(subject, SLACK)
            self.patient(subject)

    def patient(self, subject: SubjectId) -> None:
        """A rail is not asked again before the pause is over, or the deadline at which only a question proves."""
        records = self.world.store.rows[subject].records
        for attempt in [r for r in records if isinstance(r, Attempt)]:
            expires = attempt.prepared.expires_at
            ends = expires + LAG + SKEW if expires else EVER
            answers = [r for r in records if isinstance(r, Answer) and r.attempt == attempt.id]
            for r in [r for r in answers if r.n and r.verb is Verb.LOOKUP]:
                known = max(answers[: r.n], key=lambda a: (a.asked, a.n))  # the last that the asker knew
                soon = known.verb is Verb.LOOKUP and known.asked + leg.PAUSE > r.asked <= ends
                demand(not soon, subject.id, attempt.id, "is asked about again at", r.asked)

    def horizon(self, subject: SubjectId, slack: int) -> None:
        row = self.world.store.rows[subject]
        version, open_ = self.open.get(subject, (-1, []))
        if version != row.version:
            cases = Subject(subject, 0, row.records).cases("pay")
            over = any(fate(case) is Fate.DONE for case in cases) or row.status and row.status.state == leg.CLOSED
            open_ = [] if over else [case.attempt for case in cases if fate(case) is Fate.OPEN]
            self.open[subject] = row.version, open_
        held = {r.about for r in row.records if isinstance(r, Decision) and r.name == "held"} if open_ else set()
        for attempt in open_:
            told = self.world.now < attempt.horizon + slack or attempt.id in held
            demand(told, subject.id, attempt.id, "is open past its horizon, nobody told")

    def decided(self, subject: SubjectId, decision: Decision) -> None: ...

    def stated(self, subject: SubjectId, status: Status) -> None:
        """Reserved before it may leave, and spent only when it has landed."""
        if subject.kind != "payout":
            return
        name = subject.id.rstrip("'")
        bank = self.banks[self.spec(name).rail] if name in self.wanted else None
        if bank is None:
            return
        times = bank.effects(name)
        free = name in bank.reneged or status.state == leg.CLOSED
        demand(not times or status.postings or free, name, "was paid, the ledger has nothing")
        for p in status.postings:
            spent = not any(x.account.endswith(RESERVED) for x in p.lines)
            demand(not spent or times > 0, name, "is posted and was not paid")

    def ended(self, subject: SubjectId, status: Status) -> None:
        match subject.kind:
            case "payout":
                self.horizon(subject, -EVER)  # when all is at rest, nothing is open but what a person knows of
                self.payout(subject, status)
            case "allocation":
                self.allocation(subject, status)

    def payout(self, subject: SubjectId, status: Status) -> None:
        name, state = subject.id.rstrip("'"), status.state
        bank = self.banks[self.spec(name).rail]
        times, fed = bank.effects(name), bank.name in self.world.plan.fed
        broken = name in bank.reneged
        if state == leg.CLOSED:
            told = not (fed and times) or "paid_after_close" in status.flags
            demand(told and times <= 1 + broken, name, "was closed, and paid", times, "times")
            return
        fine = state == "settled" and times or state == "cancelled" and (not times or broken and not fed)
        fine = fine or status.mover is Mover.OPERATOR and (times <= 1 or broken)
        demand(bool(fine), name, "ends", state, "with", times, "payments")
        wished = any(to == subject for to, _ in self.world.granted)
        demand(not wished or state == "cancelled" or broken, name, "ends", state, ", cancelled")
        demand(not (fed and times) or state == "settled", name, "ends", state, ", and the bank's own record has it")
        twice = times > 1 and fed
        demand(not twice or "paid_twice" in status.flags, name, "was paid", times, "times, and nobody says so")

    def allocation(self, subject: SubjectId, status: Status) -> None:
        name, rows = subject.id.rstrip("'"), self.world.store.rows
        spec = self.splits[name]
        bodies = allocation.legs_of(SubjectId("t", "allocation", name), json.encode(spec))
        legs = {k: r for k in bodies if (r := rows.get(SubjectId("t", "payout", k)))}
        states = {r.status.state for r in legs.values() if r.status}
        asks = any(r.status and r.status.mover is Mover.OPERATOR for r in legs.values())
        taken = {k for k, r in legs.items() if self.spec(k) != leg.leg_of(bodies[k])}
        others = {k for k, r in legs.items() if any(isinstance(x, Spec) and x.body != bodies[k] for x in r.records)}
        said = {r.about for r in rows[subject].records if isinstance(r, Decision) and r.name == UNDECLARED}
        fits = {f"t/payout/{k}" for k in taken} <= said <= {f"t/payout/{k}" for k in others}
        demand(fits, name, ": taken are", taken, ", said of", said)
        if said:
            demand(status.mover is Mover.OPERATOR, name, "ends", status.state, ",", taken, "is somebody else's")
            return
        over = states <= {"settled", "cancelled", "closed"} and not asks
        word = status.state in ("settled", "closed")
        demand(word if over else word <= asks, name, "ends", status.state, ":", states)
        demand(asks == (status.mover is Mover.OPERATOR), name, "ends with", status.mover, ":", states)
        demand(status.state != "settled" or states == {"settled"}, name, "is settled:", states)
        landed = {owner(x.to): x.money.minor for bank in self.banks.values() for x in bank.landed}
        paid = sum(minor for to, minor in landed.items() if to in bodies)
        demand(status.state != "settled" or paid == spec.total.minor, name, "paid", paid)

    def finished(self) -> None:
        """Where nothing is in doubt, the ledger is what the bank holds, to the last unit."""
        rows: dict[str, list[Row]] = {}
        for subject, row in self.world.store.rows.items():
            if subject.kind == "payout" and subject.id.rstrip("'") in self.wanted:
                rows.setdefault(self.spec(subject.id.rstrip("'")).rail, []).append(row)
        sums = self.world.store.balances.get("t", {})
        for name, bank in self.banks.items():
            of = [r.status for r in rows.get(name, []) if r.status]
            sure = all(s.mover is not Mover.OPERATOR and s.state != leg.CLOSED for s in of)
            if sure and bank.name != "setting" and not bank.reneged:
                left = self.funded[name] - sum(x.money.minor + x.cost for x in bank.landed)
                demand(sums[leg.wallet(name), "BTC"] == left, name, ":", sums[leg.wallet(name), "BTC"], ", bank", left)


def owner(to: str) -> str:
    """Whose invoice it is: each generation has another one."""
    return to.split("#")[0]
