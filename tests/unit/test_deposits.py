"""What a deposit amounts to and asks for next, from its records alone."""

from __future__ import annotations

import pytest
from msgspec import json

from bursar import deposits
from bursar.core.facts import Cursor, Fact, Place, Rollback
from bursar.core.money import Money
from bursar.core.ports import Refused, Seen
from bursar.core.steps import Decide, Step, Wait, at_position, at_watermark
from bursar.core.subject import Decision, Mover, Record, Spec, Subject, SubjectId
from bursar.deposits import Handle

HANDLE = Handle("chain", "addr", "BTC", "bank", "h", "cBTC", confirmations=3, patience=500, skew=5)


def subject(*records: Record) -> Subject:
    return Subject(SubjectId("t", "deposit", "d"), 1, (Spec(1, json.encode(HANDLE), "client"), *records))


def sent(tx: str, minor: int = 100, position: int | None = None, then: int = 50, after: int = 0) -> Fact:
    place = None if position is None else Place(position, f"b{position}", then)
    money = Money("BTC", minor)
    return Fact(
        "chain", f"{tx}:0", tx, 0, then, after, keys=("addr",), spends=(f"coin-{tx}",), place=place, money=money
    )


def credit(n: int, minor: int = 100, tx: str = "", then: int = 60, asset: str = "cBTC") -> Fact:
    place = Place(n, f"bank#{n}", then)
    return Fact("bank", f"bank#{n}", tx, 0, then + 2, keys=("h",), place=place, money=Money(asset, minor))


def paired(n: int, tx: str, actor: str = "bursar") -> Decision:
    return Decision("paired", f"bank#{n}", actor, "", 0, body=f"{tx}:0".encode())


def step(s: Subject, chain: Cursor | None = None, bank: Cursor | None = None) -> Step:
    cursors = {name: cursor for name, cursor in (("chain", chain), ("bank", bank)) if cursor}
    return deposits.next_step(s, deposits.status(s), Seen(10**9, cursors))


def read(watermark: int, position: int = 10) -> Cursor:
    return Cursor(position, watermark=watermark)


def ledger(s: Subject) -> dict[str, int]:
    lines = [line for posting in deposits.status(s).postings for line in posting.lines if line.minor > 0]
    return {line.account: sum(x.minor for x in lines if x.account == line.account) for line in lines}


def test_a_transfer_is_in_one_account_at_a_time_and_spendable_only_by_its_credit() -> None:
    assert deposits.status(subject()).state == "awaiting_payer"
    pending = subject(sent("t1"))
    assert ledger(pending) == {"inbound.pending:chain": 100}
    included = pending.plus(sent("t1", position=9))
    assert deposits.status(included).state == "awaiting_finality"
    assert step(included, read(0, 10)) == Wait((at_position("chain", 11),))
    assert step(included, read(0, 11)) == Decide("final", "t1:0", "deep")
    final = included.plus(Decision("final", "t1:0", "bursar", "", 0))
    assert ledger(final) == {"inbound:chain": 100}
    assert (deposits.status(final).state, deposits.status(final).mover) == ("awaiting_rail", Mover.RAIL)
    credited = final.plus(credit(1, tx="t1"))
    assert ledger(credited) == {"inbound:chain": 100, "unexplained:bank": 100}
    settled = credited.plus(paired(1, "t1"))
    assert ledger(settled) == {"wallet:bank": 100}
    assert (deposits.status(settled).state, deposits.status(settled).mover) == ("settled", Mover.NOBODY)


def test_a_hash_pairs_at_once_and_an_amount_when_the_chain_was_read_past_the_credit() -> None:
    assert step(subject(sent("t1"), credit(1, tx="t1"))) == Decide("paired", "bank#1", "by its hash", b"t1:0")
    s = subject(sent("t1", position=9), credit(1))
    assert step(s) == Wait()
    assert at_watermark("chain", 63) in wait(step(s, read(62))).until
    assert step(s, read(63)) == Decide("paired", "bank#1", "by its amount", b"t1:0")


def wait(step: Step) -> Wait:
    assert isinstance(step, Wait)
    return step


@pytest.mark.parametrize(
    ("facts", "why"),
    [
        ((credit(1),), b"credited_unseen"),
        ((sent("t1"), credit(1)), b"credited_unseen"),  # in no block that anybody read
        ((sent("t1", position=9, then=200, after=190), credit(1)), b"credited_unseen"),  # sent later
        ((sent("t1", position=9), credit(1, asset="dBTC")), b"credited_unseen"),
        ((sent("t1", 99, position=9), credit(1)), b"credited_unseen"),
        ((credit(1, tx="t9"),), b"credited_unseen"),
        ((sent("t1", position=9), sent("t2", position=9), credit(1)), b"ambiguous"),
        ((sent("t1", position=9), credit(1), credit(2)), b"ambiguous"),
    ],
)
def test_what_fits_not_or_not_alone_is_a_question(facts: tuple[Fact, ...], why: bytes) -> None:
    asked = step(subject(*facts), read(900))
    assert asked == Decide("unexplained", "bank#1", why.decode(), why)
    s = subject(*facts, Decision("unexplained", "bank#1", "bursar", "", 0, body=why))
    status = deposits.status(s)
    assert (status.state, status.mover, status.flags) == (
        "awaiting_operator",
        Mover.OPERATOR,
        frozenset({why.decode()}),
    )
    assert "wallet:bank" not in ledger(s)


def test_as_many_transfers_as_credits_answer_the_question() -> None:
    s = subject(sent("t1", position=8), sent("t2", position=9), credit(1))
    s = s.plus(Decision("unexplained", "bank#1", "bursar", "", 0, body=b"ambiguous"), credit(2))
    assert step(s, read(900)) == Decide("paired", "bank#1", "by its amount", b"t1:0")
    s = s.plus(paired(1, "t1"))
    assert step(s, read(900)) == Decide("paired", "bank#2", "by its amount", b"t2:0")
    assert deposits.status(s.plus(paired(2, "t2"))).flags == frozenset()


def test_a_transfer_that_a_hash_names_is_left_to_it() -> None:
    s = subject(sent("t1", position=9), sent("t2", position=9), credit(1), credit(2, 50, tx="t2"))
    assert step(s, read(900)) == Decide("paired", "bank#1", "by its amount", b"t1:0")


def test_a_reorg_after_the_credit_takes_nothing_back_and_calls_a_person() -> None:
    s = subject(sent("t1", position=9), credit(1), paired(1, "t1"), Rollback("chain", 8, 1))
    status = deposits.status(s)
    assert (status.state, status.mover, status.flags) == ("settled", Mover.OPERATOR, frozenset({"reorg_after_credit"}))
    assert ledger(s) == {"wallet:bank": 100}
    accepted = Decision("accepted", "t1:0", "operator", "the bank keeps it", 0, command="c")
    assert deposits.admit(s, accepted) is None
    assert deposits.status(s.plus(accepted)).mover is Mover.NOBODY


def test_no_credit_is_believed_only_when_the_custodian_was_read_past_the_patience() -> None:
    s = subject(sent("t1"))
    assert step(s, read(900)) == Wait()
    assert step(s, read(900), read(550)) == Wait((at_watermark("bank", 551),))
    assert step(s, read(900), read(551)) == Decide("overdue", "t1:0", "no credit")
    s = s.plus(Decision("overdue", "t1:0", "bursar", "", 0))
    assert deposits.status(s).state == "awaiting_operator"
    assert deposits.status(s.plus(credit(1), paired(1, "t1"))).state == "settled"


@pytest.mark.parametrize(
    ("name", "about", "body", "good"),
    [
        ("paired", "bank#1", b"t1:0", True),
        ("paired", "bank#1", b"t2:0", False),
        ("paired", "bank#2", b"t1:0", False),
        ("accepted", "bank#1", b"", True),
        ("accepted", "t1:0", b"", True),
        ("accepted", "t3:0", b"", False),
        ("overdue", "t1:0", b"", False),
    ],
)
def test_acts(name: str, about: str, body: bytes, good: bool) -> None:
    s = subject(sent("t1", position=9), sent("t2", position=9), credit(1), credit(2), paired(2, "t2"))
    act = Decision(name, about, "operator", "seen at the bank", 0, body=body, command="c")
    assert (deposits.admit(s, act) is None) is good


def test_a_handle_is_declared_once_and_an_act_needs_a_reason() -> None:
    new, spec = Subject(SubjectId("t", "deposit", "d")), Spec(1, json.encode(HANDLE), "client")
    assert deposits.admit(new, spec) is None and isinstance(deposits.admit(subject(), spec), Refused)
    act = Decision("accepted", "bank#1", "operator", " ", 0, command="c")
    assert isinstance(deposits.admit(subject(credit(1)), act), Refused)
