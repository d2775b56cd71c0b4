"""Wrong ways to send: proofs, attempts, answers, money reserved and spent."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from msgspec.structs import replace

from ...core import proofs
from ...core.errors import CommitLost, LostRace, RailDown
from ...core.ledger import Posting
from ...core.outcomes import Absent, Answer, Attempt, Case, Pay, Prepared, Rejected, Unknown, Verb
from ...core.ports import Commit, Controller, Seen, Write
from ...core.proofs import Fate, NewAttempt
from ...core.steps import Lookup, Step, Submit, Wait, at
from ...core.subject import DECLARED, Spec, Status, Subject, SubjectId
from ...engine import reconcile
from ...engine.reconcile import Pass, Until
from ...payouts import leg
from ...rails.sim.bank import BankRail
from ..plan import Aim
from ..simulator import Parts
from ..world import Store
from .mutant import Mutant

true_fate, true_pursue, true_cases = proofs.fate, proofs.pursue, Subject.cases


def dead_if(case: Case, wrong: bool) -> Fate:
    said = true_fate(case)
    return Fate.DEAD if said is Fate.OPEN and wrong else said


def unknown_is_failure(case: Case) -> Fate:
    return dead_if(case, any(isinstance(a.said, Unknown) and a.verb is Verb.SUBMIT for a in case.answers))


def any_refusal(case: Case) -> Fate:
    return dead_if(case, any(isinstance(a.said, Rejected) for a in case.answers))


def failed_is_dead(case: Case) -> Fate:
    return dead_if(case, any(isinstance(a.said, Absent) and a.said.why == "failed" for a in case.answers))


def absent_is_dead(case: Case) -> Fate:
    return dead_if(case, any(isinstance(a.said, Absent) for a in case.answers))


def read_before(case: Case) -> Fate:
    expires = case.attempt.prepared.expires_at
    passed = bool(expires and case.answers and case.answers[-1].asked > proofs.deadline(case))
    return dead_if(case, passed and any(isinstance(a.said, Absent) for a in case.answers))


def no_as_of(answer: Answer, then: int) -> bool:
    return isinstance(answer.said, Absent) and answer.said.complete and answer.asked > then


def no_asked(answer: Answer, then: int) -> bool:
    return isinstance(answer.said, Absent) and answer.said.complete and answer.said.as_of > then


def incomplete_too(answer: Answer, then: int) -> bool:
    return isinstance(answer.said, Absent) and min(answer.asked, answer.said.as_of) > then


def no_lag(case: Case) -> int:
    return (case.attempt.prepared.expires_at or 0) + case.attempt.prepared.terms.skew


def resend_any(case: Case) -> bool:
    return true_fate(case) is Fate.OPEN


def gives_up(cases: Sequence[Case], now: int, pause: int, limit: int) -> object:
    return NewAttempt() if len(cases) >= (limit or leg.ATTEMPTS) else true_pursue(cases, now, pause, limit)


def gives_up_refused(cases: Sequence[Case], now: int, pause: int, limit: int) -> object:
    return true_pursue(cases, now, pause, limit) if limit else NewAttempt()


def ignores_feed(self: Subject, slot: str) -> list[Case]:
    return [replace(case, seen=False, final=False) for case in true_cases(self, slot)]


def forgets_cost(self: Subject, slot: str) -> list[Case]:
    return [replace(case, cost=0) for case in true_cases(self, slot)]


class FreshResource(BankRail):
    async def prepare(self, effect: Any, key: str, resource: str) -> Any:
        return await super().prepare(effect, key, "")


# -- the engine -----------------------------------------------------------------------------
true_save = Pass.save


async def act_first(p: Pass, step: Submit) -> Step:
    name = f"{step.slot}/{len(p.subject.cases(step.slot)) + 1}"
    key, rail = f"{p.subject.id}/{name}", p.engine.executors[step.rail]
    ready = await rail.prepare(step.effect, key, "")
    assert isinstance(ready, Prepared)
    attempt = Attempt(name, step.slot, step.rail, key, ready, step.horizon, p.seen().now)
    said = await rail.submit(attempt)
    return await p.save(attempt, Answer(name, 0, Verb.SUBMIT, p.seen().now, said))


async def moving_key(p: Pass, step: Submit) -> Step:
    """Each attempt has a key of its own, whatever is open, and no gate stands before it."""
    name = f"{step.slot}/{len(p.subject.cases(step.slot)) + 1}"
    key = f"{p.subject.id}/{name}"
    ready = await reconcile.prepare(p, step, key, "")
    if not isinstance(ready, Prepared):
        await p.save(until=())
        return Wait()
    attempt = Attempt(name, step.slot, step.rail, key, ready, step.horizon, p.seen().now)
    await p.save(attempt, until=Until.KEEP)
    return await reconcile.ask(p, attempt, Verb.SUBMIT)


async def lost_is_done(self: Pass, *records: Any, **more: Any) -> Step:
    try:
        return await true_save(self, *records, **more)
    except CommitLost:
        after = self.subject.plus(*records)
        status = self.controller.status(after)
        self.subject = replace(after, version=self.subject.version + 1, status=status)
        return self.controller.next_step(after, status, self.seen())


async def answer(p: Pass, attempt: Attempt, verb: Verb, asked: int) -> Answer:
    rail = p.engine.executors[attempt.rail]
    heard = sum(isinstance(r, Answer) and r.attempt == attempt.id for r in p.subject.records)
    try:
        said = await (rail.submit(attempt) if verb is Verb.SUBMIT else rail.lookup(attempt))
    except RailDown as err:
        said = Unknown(str(err))
    return Answer(attempt.id, heard, verb, asked, said)


async def answer_in_race(p: Pass, attempt: Attempt, verb: Verb) -> Step:
    """What was heard is lost with the race for the version."""
    return await p.save(await answer(p, attempt, verb, p.seen().now))


async def asks_by_own_clock(p: Pass, attempt: Attempt, verb: Verb) -> Step:
    """A question is dated by our clock, the next one is due by the store's."""
    said = await answer(p, attempt, verb, p.engine.now())
    try:
        return await p.save(said)
    except LostRace:
        await p.engine.store.commit(Commit((Write(p.subject.id, (said,)),)))
        raise


async def adopts_anything(p: Pass, step: Any) -> Step:
    """A child that exists is taken for ours, whatever it wants."""
    child = SubjectId(p.subject.id.tenant, step.kind, step.id)
    there, _ = await p.engine.store.load(child)
    spec = Write(child, (Spec(1, step.body, str(p.subject.id), p.seen().now),))
    return await p.save(p.decision(DECLARED, str(child), ""), others=() if there.records else (spec,))


async def insists(p: Pass, step: Any) -> Step:
    """A child is declared as we want it, whatever exists: a conflict for ever."""
    child = SubjectId(p.subject.id.tenant, step.kind, step.id)
    spec = Write(child, (Spec(1, step.body, str(p.subject.id), p.seen().now),))
    return await p.save(p.decision(DECLARED, str(child), ""), others=(spec,))


async def forgets_funds(self: Pass, short: Any, records: Any) -> None:
    """Refused for want of funds: it sleeps, and nothing wakes it."""
    await self.save(until=())


async def spins_for_funds(self: Pass, short: Any, records: Any) -> None:
    await self.save(until=(at(self.seen().now),))


async def command_blind(engine: Any, to: SubjectId, record: Any, *more: Any) -> Any:
    subject, _ = await engine.store.load(to)
    refused = engine.controllers[to.kind].admit(subject, record)
    if refused is None:
        await engine.store.commit(Commit((Write(to, (record, *more)),)))
    return refused


class Overspent(Store):
    def short(self, commit: Commit) -> None:
        return None


# -- the leg --------------------------------------------------------------------------------
true_status, true_step, true_postings, true_admit = leg.status, leg.next_step, leg.postings, leg.admit


def retries_by_clock(s: Subject, status: Status, seen: Seen) -> Step:
    step, spec, cases = true_step(s, status, seen), leg.leg_of(s.spec.body), s.cases("pay")
    again = cases and len(cases) < 4 and status.state != "settled" and seen.now > cases[-1].attempt.at + 20_000_000
    if isinstance(step, Wait | Lookup) and again:
        return Submit("pay", spec.rail, Pay(spec.to, spec.money), seen.now + spec.patience)
    return step


def no_horizon(s: Subject, status: Status, seen: Seen) -> Step:
    """The pause between questions forgets that somebody must be told."""
    step = true_step(s, status, seen)
    horizons = {case.attempt.horizon + 1 for case in s.cases("pay")}
    return Wait(tuple(due for due in step.until if due.at not in horizons)) if isinstance(step, Wait) else step


def fee_unreserved(s: Subject, spec: leg.Leg, costs: tuple[int, ...], reserved: bool) -> tuple[Posting, ...]:
    return true_postings(s, spec if costs else replace(spec, fee=0), costs, reserved)


def released_early(s: Subject, spec: leg.Leg, costs: tuple[int, ...], reserved: bool) -> tuple[Posting, ...]:
    """A reservation ends with the first refusal."""
    refused = any(isinstance(r, Answer) and isinstance(r.said, Rejected) for r in s.records)
    return true_postings(s, spec, costs, reserved and not refused)


def paid_once(cases: list[Case]) -> tuple[int, ...]:
    return true_paid(cases)[:1]


def settled_at_first(s: Subject, costs: tuple[int, ...], stuck: bool, open_: bool) -> Any:
    """What is under way is called settled."""
    return true_reached(s, costs or ((0,) if open_ else ()), stuck, open_)


def cancels_open(s: Subject, record: Any) -> Any:
    """Cancelled although it may be under way."""
    return None if record.__class__ is not Spec and record.name == "cancelled" and s.records else true_admit(s, record)


true_paid, true_reached = leg.paid, leg.reached


def paying(**more: Any) -> Controller:
    return replace(leg.controller, **more)


PAYING = Aim(story={"leg": 4, "split": 1, "fund": 1, "cancel": 2, "blind": 1})
LEGS = Aim(story={"leg": 1})
LATE = {"late": 0.9, "stall": 0, "crash": 0, "renege": 0, "refusal": 0}
EXPIRY = Aim(story={"leg": 1}, rails=("lnbits", "lnd"), trouble=LATE | {"stale": 0.2, "cut_short": 0}, fed=False)
CUT = Aim(story={"leg": 1}, rails=("lnbits", "lnd"), trouble=LATE | {"stale": 0.2, "cut_short": 0.5}, fed=False)
SLOW = {"late": 0.9, "stale": 1.0, "refusal": 0, "cut_short": 0, "lost_question": 0, "stall": 0, "renege": 0}
STALE = Aim(story={"leg": 1}, rails=("lnbits",), trouble=SLOW, fed=False)
STALLED = Aim(
    story={"leg": 1}, rails=("lnbits",), trouble=SLOW | {"slow_reply": 0.6, "stale": 0, "crash": 0}, fed=False
)
RACING = {"slow_commit": 1.0, "late_commit": 0, "lost_question": 0, "lost_answer": 0, "crash": 0, "renege": 0}
REFUSING = Aim(
    story={"leg": 1},
    rails=("utxo", "exchange", "setting"),
    trouble={"refusal": 0.5, "late": 0.5, "crash": 0, "renege": 0},
)
TIRED = Aim(
    story={"leg": 1},
    rails=("setting",),
    trouble={"late": 1.0, "refusal": 0, "cut_short": 0, "crash": 0, "renege": 0, "stall": 0},
    fed=False,
    steps=2200,
)
POOR = Aim(story={"leg": 3, "fund": 1}, trouble={"lost_question": 0, "lost_answer": 0})
FEES = Aim(story={"leg": 3, "fund": 1, "blind": 1}, trouble={"lost_answer": 0.5, "renege": 0})
BROKEN = Aim(story={"leg": 1}, rails=("lnbits", "lnd"), trouble={"renege": 1.0, "late": 0.9}, fed=True)
TAKEN = Aim(story={"squat": 3, "leg": 1}, trouble={"renege": 0})

MUTANTS = {
    "unknown_is_failure": Mutant(
        "Unknown of a send is taken for a refusal", PAYING, swaps=((proofs.fate, unknown_is_failure),)
    ),
    "any_refusal": Mutant("one refusal speaks for all sends", PAYING, swaps=((proofs.fate, any_refusal),)),
    "failed_is_dead": Mutant(
        "FAILED in the rail's record is believed while a copy is under way",
        LEGS,
        swaps=((proofs.fate, failed_is_dead),),
    ),
    "absent_is_dead": Mutant("absence is believed without proof", PAYING, swaps=((proofs.fate, absent_is_dead),)),
    "read_before": Mutant("the status was read before the expiry", EXPIRY, swaps=((proofs.fate, read_before),)),
    "no_as_of": Mutant("a cached answer counts as of when we asked", STALE, swaps=((proofs.absent_after, no_as_of),)),
    "no_asked": Mutant(
        "an answer counts for later than it was asked", STALLED, swaps=((proofs.absent_after, no_asked),)
    ),
    "incomplete_too": Mutant("a truncated listing proves absence", CUT, swaps=((proofs.absent_after, incomplete_too),)),
    "no_lag": Mutant("the replica's lag is not waited for", STALE, swaps=((proofs.deadline, no_lag),)),
    "resend_any": Mutant("the same bytes go again on any rail", PAYING, swaps=((proofs.may_resend, resend_any),)),
    "gives_up": Mutant("giving up ends the pursuit of what is open", TIRED, swaps=((proofs.pursue, gives_up),)),
    "gives_up_refused": Mutant(
        "found here: a final refusal ends the pursuit of an older open attempt",
        REFUSING,
        swaps=((proofs.pursue, gives_up_refused),),
    ),
    "ignores_feed": Mutant(
        "what only the bank's own record knows is not believed", PAYING, patches=((Subject, "cases", ignores_feed),)
    ),
    "forgets_cost": Mutant(
        "found here: what the rail charged is taken from answers only, and some never came",
        FEES,
        patches=((Subject, "cases", forgets_cost),),
    ),
    "fresh_resource": Mutant(
        "a replacement consumes another resource: the gate raises",
        Aim(story={"leg": 1}, rails=("utxo",)),
        Parts(bank=FreshResource),
    ),
    "moving_key": Mutant("the key moves while an attempt is open", LEGS, swaps=((reconcile.submit, moving_key),)),
    "retries_by_clock": Mutant(
        "a controller retries by the clock: the gate raises",
        PAYING,
        Parts(controllers=(paying(next_step=retries_by_clock),)),
    ),
    "act_first": Mutant("acts before it records", PAYING, swaps=((reconcile.submit, act_first),)),
    "lost_is_done": Mutant("a lost COMMIT is taken for a commit", PAYING, patches=((Pass, "save", lost_is_done),)),
    "lost_is_failed": Mutant(
        "a lost COMMIT is taken for a failure: declared anew under another id", LEGS, Parts(patient=False)
    ),
    "answer_in_race": Mutant("an answer is lost with the race", PAYING, swaps=((reconcile.ask, answer_in_race),)),
    "asks_by_own_clock": Mutant(
        "found here: a question is dated by our clock and the next one due by the store's: a storm of them",
        Aim(story={"leg": 1}, rails=("lnbits", "lnd"), trouble=LATE | {"coarse": 1.0, "slow_reply": 0}, fed=False),
        swaps=((reconcile.ask, asks_by_own_clock),),
    ),
    "adopts_anything": Mutant(
        "a child that wants something else is taken for ours", TAKEN, swaps=((reconcile.declare, adopts_anything),)
    ),
    "insists": Mutant(
        "a child that wants something else: tries for ever", TAKEN, swaps=((reconcile.declare, insists),)
    ),
    "forgets_funds": Mutant(
        "refused for want of funds, and never woken", POOR, patches=((Pass, "unfunded", forgets_funds),)
    ),
    "spins_for_funds": Mutant(
        "refused for want of funds, and asks at once again",
        Aim(story={"leg": 1}, trouble={"spurious": 0}),
        patches=((Pass, "unfunded", spins_for_funds),),
    ),
    "command_blind": Mutant(
        "a cancel is admitted on what was read, committed whatever came since",
        Aim(story={"leg": 1, "cancel": 3}, trouble=RACING),
        Parts(command=command_blind),
    ),
    "overspent": Mutant("a reservation is not refused where money is short", PAYING, Parts(store=Overspent)),
    "no_horizon": Mutant(
        "found here: the pause between questions forgets the horizon",
        Aim(story={"leg": 1}, rails=("cheque", "phoenix"), fed=False),
        Parts(controllers=(paying(next_step=no_horizon),)),
    ),
    "fee_unreserved": Mutant("the fee limit is not reserved", FEES, swaps=((leg.postings, fee_unreserved),)),
    "released_early": Mutant(
        "a reservation ends with the first refusal", REFUSING, swaps=((leg.postings, released_early),)
    ),
    "paid_once": Mutant("paid twice is written down once", BROKEN, swaps=((leg.paid, paid_once),)),
    "settled_at_first": Mutant("what is under way is called settled", LEGS, swaps=((leg.reached, settled_at_first),)),
    "cancels_open": Mutant(
        "cancelled although it may be under way",
        Aim(story={"leg": 1, "cancel": 2}),
        Parts(controllers=(paying(admit=cancels_open),)),
    ),
}
