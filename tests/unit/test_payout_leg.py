"""A payout as people meet it: asked for, paid once through the fake node, or handed to an operator, who acts."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

import pytest
from msgspec import json

from bursar import balances
from bursar.core.errors import Invalid, LostRace
from bursar.core.ledger import Line
from bursar.core.money import Amount, Money
from bursar.core.ports import Refused
from bursar.core.subject import Decision, Mover, Spec, Status, Subject, SubjectId
from bursar.engine.intake import command
from bursar.engine.reconcile import Engine, work
from bursar.payouts import leg
from bursar.payouts.commands import ActOnPayout, CreatePayout, Purse, act, declare
from bursar.rails.lightning.bolt11 import usual_fee
from bursar.rails.lightning.lnbits import LnbitsExecutor
from bursar.store.memory import MemoryStore
from bursar.testing.fakes.lightning import SECOND, FakeLnbits, Fault, Node

T = TypeVar("T")
RAIL = "lightning"
OPENING = 10**9
PAYOUT = SubjectId("t", "payout", "p")


def run(coro: Coroutine[Any, Any, T]) -> T:
    return asyncio.run(coro)


class Desk:
    """One engine over the memory store and the fake node, on the fake's clock."""

    def __init__(self, *faults: Fault, refuses_expired: bool = False, key: str = "admin-key") -> None:
        self.front = FakeLnbits(Node(fee=lambda msat: msat // 500), OPENING)
        self.front.faults += faults
        account = self.front.account
        account = type(account)(account.url, key, refuses_expired=refuses_expired)
        self.store = MemoryStore(self.now)
        executor = LnbitsExecutor(account, self.now, self.front)
        controllers = {c.kind: c for c in (leg.controller, balances.controller)}
        self.engine = Engine(self.store, {RAIL: executor}, controllers, self.now)
        self.purses = {RAIL: Purse(RAIL, "BTC", 11, 1, account.check, usual_fee)}
        lines = (Line(leg.wallet(RAIL), "BTC", OPENING), Line("equity", "BTC", -OPENING))
        opening = Spec(1, json.encode(balances.Balance(lines, "opening")), "test")
        assert run(command(self.engine, SubjectId("t", "balance", "opening"), opening)) is None

    def now(self) -> int:
        return self.front.node.time

    def asks(self, value: str = "0.00001", **other: Any) -> CreatePayout:
        to = other.pop("to", "") or self.front.node.issue(1_000_000)
        return CreatePayout(RAIL, to, Amount("BTC", value), **other)

    def create(self, request: CreatePayout | None = None) -> None:
        spec = declare(request or self.asks(), self.purses, self.now())
        assert run(command(self.engine, PAYOUT, Spec(1, json.encode(spec), "app"))) is None

    def act(self, action: Any, id: str = "1", **more: Any) -> Refused | None:
        request = ActOnPayout(action, more.pop("reason", "because"), **more)
        record, others = act(self.subject, request, self.purses, "ann", id, self.now())
        return run(command(self.engine, PAYOUT, record, *others))

    def go(self, seconds: int = 0) -> Status:
        """Whatever is due now, or becomes due in that time."""
        for _ in range(seconds + 1):
            try:
                run(work(self.engine, 10))
            except LostRace:
                pass
            if seconds:
                self.front.pass_time(1)
        run(work(self.engine, 10))
        return self.status

    @property
    def subject(self) -> Subject:
        return run(self.store.load(PAYOUT))[0]

    @property
    def status(self) -> Status:
        status = self.subject.status
        assert status is not None
        return status

    def sum(self, account: str) -> int:
        return self.store.balances["t"].get((account, "BTC"), 0)

    def reconciled(self) -> bool:
        """The ledger's wallet is LNbits' wallet, to the millisatoshi."""
        return self.sum("wallet:lightning") + self.sum("wallet:lightning.reserved") == self.front.available_msat


IN_DOUBT = Fault("hang", "pay", 1, seconds=10_000)


def test_paid_once_and_booked() -> None:
    d = Desk()
    d.create()
    status = d.go()
    assert (status.state, status.mover, status.flags) == ("settled", Mover.NOBODY, frozenset())
    assert status.parts == (("pay/1", "done"),)
    assert (d.sum("payee:p"), d.sum("fees:lightning")) == (1_000_000, 2_000)
    assert d.reconciled() and leg.why(d.subject) == "it has been paid"


def test_the_fee_limit_is_reserved_with_the_amount_while_it_is_open() -> None:
    d = Desk(IN_DOUBT)
    d.create()
    assert d.go().state == "awaiting_rail"
    assert d.sum("wallet:lightning.reserved") == -1_010_000 and d.reconciled()
    assert leg.why(d.subject) == "pay/1: the payment is pending"


def test_names_by_which_people_find_it() -> None:
    d = Desk()
    request = d.asks(external_id="bill-7")
    d.create(request)
    d.go()
    hash = verify_hash(d, request.to)
    assert run(d.store.find("t", "payout.external_id", "bill-7")) == [PAYOUT]
    assert run(d.store.find("t", "payment_hash", hash)) == [PAYOUT]


def verify_hash(d: Desk, invoice: str) -> str:
    return next(
        hash for hash in d.front.node.preimages if hash in d.front.rows and d.front.rows[hash].bolt11 == invoice
    )


def test_one_invoice_is_paid_by_one_payout() -> None:
    d = Desk()
    request = d.asks()
    d.create(request)
    spec = Spec(1, json.encode(declare(request, d.purses, d.now())), "app")
    with pytest.raises(LostRace, match="name"):
        run(command(d.engine, SubjectId("t", "payout", "q"), spec))
    assert d.act("cancel") is None
    assert run(command(d.engine, SubjectId("t", "payout", "q"), spec)) is None


def test_what_somebody_else_paid_is_not_ours() -> None:
    d = Desk()
    request = d.asks(patience_seconds=60)
    d.front.pay("admin-key", {"out": True, "bolt11": request.to})  # by hand
    d.create(request)
    status = d.go(62)
    assert status.state == "awaiting_operator" and "for somebody else" in leg.why(d.subject)
    assert len(d.front.node.landed) == 1 and d.sum("payee:p") == 0


@pytest.mark.parametrize(
    ("request_", "sentence"),
    [
        (CreatePayout("moon", "x", Amount("BTC", "1")), "nothing can be paid on 'moon'"),
        (CreatePayout(RAIL, "x", Amount("ADA", "1")), "lightning pays BTC, not ADA"),
        (CreatePayout(RAIL, "x", Amount("BTC", "0")), "greater than zero"),
        (CreatePayout(RAIL, "x", Amount("BTC", "-1")), "not a decimal number"),
        (CreatePayout(RAIL, "x", Amount("BTC", "0.000000000001")), "more than 11 decimals"),
        (CreatePayout(RAIL, "x", Amount("BTC", "1")), "not a Lightning invoice"),
        (CreatePayout(RAIL, Node().issue(5_000), Amount("BTC", "1")), "asks for 5000 msat"),
        (CreatePayout(RAIL, Node().issue(None), Amount("BTC", "1")), "names no amount"),
        (CreatePayout(RAIL, Node(network="tb").issue(5_000), Amount("BTC", "0.00000005")), "another network"),
        (CreatePayout(RAIL, Node().issue(5_000, 60), Amount("BTC", "0.00000005")), "expires in less than"),
        (CreatePayout(RAIL, Node().issue(5_000), Amount("BTC", "0.00000005"), "-1"), "not a decimal number"),
        (CreatePayout(RAIL, "x", Amount("BTC", "1"), patience_seconds=1), "patience_seconds must be"),
    ],
)
def test_what_makes_no_sense_is_refused_with_a_sentence(request_: CreatePayout, sentence: str) -> None:
    with pytest.raises(Invalid, match=sentence):
        declare(request_, Desk().purses, Node().time)


def test_the_usual_fee_limit_where_none_is_asked_for() -> None:
    d = Desk()
    assert declare(d.asks(), d.purses, d.now()).fee == 10_000
    assert declare(d.asks(fee_limit="0"), d.purses, d.now()).fee == 0
    assert declare(d.asks(fee_limit="0.0000001"), d.purses, d.now()).fee == 10_000


def test_a_refusal_for_good_goes_to_the_operator_with_its_reason() -> None:
    d = Desk()
    d.create(d.asks(fee_limit="0"))
    status = d.go()
    assert (status.state, status.flags) == ("awaiting_operator", frozenset({"stuck"}))
    assert "the wallet may charge up to 10000 msat, the limit is 0" in leg.why(d.subject)
    assert d.sum("wallet:lightning.reserved") == 0 and d.front.calls["pay"] == 0


def test_an_empty_ledger_reserves_nothing_and_says_so() -> None:
    d = Desk()
    lines = (Line(leg.wallet(RAIL), "BTC", -OPENING), Line("equity", "BTC", OPENING))
    out = Spec(1, json.encode(balances.Balance(lines, "out")), "test")
    run(command(d.engine, SubjectId("t", "balance", "out"), out))
    d.create()
    status = d.go()
    assert status.flags == {"unfunded"} and d.front.calls["pay"] == 0
    assert "has less than 1010000 BTC minor units" in leg.why(d.subject)


def test_a_key_that_sees_no_payments_sends_none() -> None:
    """What became of one would be "not found" for ever."""
    d = Desk(key="send-key")
    d.create()
    assert d.go(60).state == "awaiting_operator" and d.front.calls["pay"] == 0
    assert "nobody could find out about this one" in leg.why(d.subject)


def test_no_answer_about_the_key_is_no_refusal() -> None:
    d = Desk(Fault("html", "payments", 1))
    d.create()
    assert d.go().flags == {"unprepared"} and d.go(10).state == "settled"


def test_a_wallet_that_can_not_be_asked_is_said_once_and_told_until_it_answers() -> None:
    d = Desk(*(Fault("html", "wallet", n) for n in (1, 2, 3)))
    d.create()
    status = d.go()
    assert (status.state, status.flags) == ("awaiting_bursar", frozenset({"unprepared"}))
    assert "it has not been sent: the wallet does not answer: HTTP 502" in leg.why(d.subject)
    status = d.go(10)
    assert (status.state, status.flags, d.front.calls["pay"]) == ("settled", frozenset(), 1)
    assert len(d.subject.decisions("unprepared")) == 1


# -- acts -----------------------------------------------------------------------------------
def refused(said: Refused | None, sentence: str) -> bool:
    return said is not None and sentence in said.reason


def test_cancelled_before_it_was_armed() -> None:
    d = Desk()
    d.create()
    assert d.act("cancel") is None and d.act("cancel") is None  # the same again is no news
    assert d.go().state == "cancelled" and d.front.calls["pay"] == 0 and d.sum("payee:p") == 0
    assert refused(d.act("cancel", "2"), "cancelled already") and leg.why(d.subject) == "because"


def test_what_may_have_been_paid_can_not_be_cancelled() -> None:
    d = Desk(IN_DOUBT)
    d.create()
    d.go()
    assert refused(d.act("cancel"), "it may have been paid")
    d = Desk()
    d.create()
    d.go()
    assert refused(d.act("cancel"), "settled already") and refused(d.act("acknowledge"), "not paid more than")


def test_an_act_needs_a_reason_and_a_payout() -> None:
    d = Desk()
    d.create()
    with pytest.raises(Invalid, match="needs a reason"):
        d.act("cancel", reason=" ")
    with pytest.raises(Invalid, match="closing says"):
        d.act("close")
    nobody = SubjectId("t", "payout", "nobody")
    none = run(command(d.engine, nobody, Decision("cancelled", "", "ann", "because", 0, command="1")))
    assert refused(none, "no such payout")
    odd = Decision("settled", "", "ann", "because", 0, command="1")
    assert refused(run(command(d.engine, PAYOUT, odd)), "no act settled")


def held(seconds: int = 10_000) -> Desk:
    d = Desk(Fault("hang", "pay", 1, seconds=seconds))
    d.create(d.asks(patience_seconds=60))
    assert d.go(62).state == "awaiting_operator" and "stuck" in d.status.flags
    assert "open past its horizon" in leg.why(d.subject) and d.reconciled()
    return d


def test_nothing_but_an_operator_ends_what_no_proof_decides() -> None:
    d = Desk(IN_DOUBT)
    d.create()
    d.go()
    assert refused(d.act("close", outcome="paid", reference="x"), "still being worked on")
    d = held()
    odd = Decision("closed", "", "ann", "because", 0, body=b"{}", command="9")
    assert refused(run(command(d.engine, PAYOUT, odd)), '"paid" or "not_paid"')
    assert d.act("close", outcome="not_paid", reference="ticket 7", reason="the payee has nothing") is None
    assert (d.status.state, d.status.mover, d.status.postings) == ("closed", Mover.NOBODY, ())
    assert d.sum("wallet:lightning.reserved") == 0 and "the payee has nothing" in leg.why(d.subject)
    assert refused(d.act("close", "2", outcome="paid", reference="x"), "closed already")
    assert refused(d.act("replace", "3", to=d.front.node.issue(1_000_000)), "it is closed: nothing more will be sent")


def test_what_was_closed_is_asked_about_all_the_same() -> None:
    d = held(seconds=300)
    d.act("close", outcome="not_paid", reference="ticket 7")
    asked = d.front.calls["payment"]
    status = d.go(600)
    assert (status.state, status.mover, status.flags) == ("closed", Mover.OPERATOR, frozenset({"paid_after_close"}))
    assert d.reconciled() and d.sum("payee:p") == 1_000_000  # money that has moved is booked
    assert 0 < d.front.calls["payment"] - asked < 20 and d.front.calls["pay"] == 1
    assert "then the rail said that it has paid it" in leg.why(d.subject)
    assert d.act("acknowledge", "2", reason="booked by hand") is None
    assert (d.status.state, d.status.mover, d.status.flags) == ("closed", Mover.NOBODY, frozenset({"paid_after_close"}))


def test_the_longer_it_is_open_the_less_often_it_is_asked_about() -> None:
    d = held(seconds=10**6)
    before = len(d.subject.records)
    d.front.pass_time(0)
    for _ in range(500):
        d.front.pass_time(200)
        d.go()
    assert len(d.subject.records) - before < 40  # in 28 hours


# -- another invoice ------------------------------------------------------------------------
def test_another_invoice_after_the_first_was_refused() -> None:
    d = Desk()
    first = d.asks()
    d.front.node.time += 590 * SECOND  # too late for the first
    d.purses[RAIL] = Purse(RAIL, "BTC", 11, 1, lambda pay, now: "", usual_fee)
    d.create(first)
    assert d.go().state == "awaiting_operator" and "expires in less than" in leg.why(d.subject)
    assert d.act("replace", to=d.front.node.issue(1_000_000)) is None
    assert d.act("replace") is None  # the same command again is no news
    assert (d.status.state, d.status.flags) == ("awaiting_bursar", frozenset())
    status = d.go(5)
    assert status.state == "settled" and status.parts == (("pay/1", "dead"), ("pay/2", "done"))
    assert len(d.front.node.landed) == 1 and d.subject.spec.generation == 2
    assert refused(d.act("replace", "2", to=d.front.node.issue(1_000_000)), "it is settled")


def test_another_invoice_is_not_sent_while_the_first_is_in_doubt() -> None:
    d = held()
    assert d.act("replace", to=d.front.node.issue(1_000_000)) is None
    assert d.go(300).state == "awaiting_operator" and d.front.calls["pay"] == 1
    d.front.pass_time(10_000)  # the HTLC has settled after all
    assert d.go(2_500).state == "settled" and len(d.front.node.landed) == 1 and d.reconciled()


def test_another_invoice_is_sent_once_expiry_has_proven_the_first_dead() -> None:
    d = Desk(Fault("lost_request", "pay", 1), refuses_expired=True)
    d.create()
    d.go()
    assert d.act("replace", to=d.front.node.issue(1_000_000, 3_600)) is None
    assert d.go(300).state == "awaiting_rail" and d.front.calls["pay"] == 1
    assert d.go(600).state == "settled" and d.front.calls["pay"] == 2 and len(d.front.node.landed) == 1


def test_only_where_it_goes_may_be_replaced() -> None:
    d = held()
    with pytest.raises(Invalid, match="asks for 999 msat"):
        d.act("replace", to=d.front.node.issue(999))
    old = leg.leg_of(d.subject.spec.body)
    for body, generation, sentence in [
        (json.encode(leg.Leg(RAIL, old.to, Money("BTC", 1), old.patience, 0, old.fee)), 2, "only where it goes"),
        (json.encode(leg.Leg("moon", old.to, old.money, old.patience, 0, old.fee)), 2, "only where it goes"),
        (b"{}", 2, "this is no payout"),
        (d.subject.spec.body, 3, "is generation 1"),
    ]:
        assert refused(run(command(d.engine, PAYOUT, Spec(generation, body, "ann"))), sentence)


def test_the_same_invoice_once_more_is_another_try() -> None:
    d = Desk(*(Fault("refused", "pay", n) for n in range(1, 7)))
    request = d.asks()
    d.create(request)
    assert d.go(40).state == "awaiting_operator" and "6 attempts" in leg.why(d.subject)
    assert d.act("replace", to=request.to, reason="the wallet is up again") is None
    assert d.go(6).state == "settled" and len(d.front.node.landed) == 1


def test_a_later_contradiction_takes_nothing_back() -> None:
    d = Desk(Fault("lost_answer", "pay", 1), Fault("contradicts", "payment", 2))
    d.create()
    d.go(3)
    case = d.subject.cases("pay")[0]
    said = run(d.engine.executors[RAIL].lookup(case.attempt))
    assert getattr(said, "why", "") == "failed" and d.status.state == "settled" and d.reconciled()


@pytest.mark.parametrize("kind", ["lost_request", "late_request", "twice", "lost_answer", "html", "html_after", "cut"])
def test_whatever_happens_on_the_way_it_is_paid_at_most_once(kind: Any) -> None:
    d = Desk(Fault(kind, "pay", 1, seconds=100))
    d.create(d.asks(patience_seconds=60))
    status = d.go(900)
    assert len(d.front.node.landed) == (status.state == "settled") and d.front.calls["pay"] == 1
    lost = kind in ("lost_request", "html")
    assert status.state == ("awaiting_operator" if lost else "settled") and (lost or d.reconciled())
