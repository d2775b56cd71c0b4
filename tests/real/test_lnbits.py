"""LNbits as it is, a B funded through an A: what it answers, what that means, and fifty payouts through trouble."""

from __future__ import annotations

import asyncio
import importlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from tests.harness.lnbits import Pair

from bursar.core.errors import RailDown
from bursar.core.money import Money
from bursar.core.outcomes import Absent, Attempt, Done, Finding, Outcome, Pay, Prepared, Rejected, Replace, Unknown
from bursar.engine import clock
from bursar.rails.lightning.bolt11 import usual_fee
from bursar.rails.lightning.lnbits import Account, LnbitsExecutor

pytestmark = pytest.mark.real


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Pair]:
    with Pair(tmp_path_factory.mktemp("lnbits") / "pair") as up:
        yield up


class Desk:
    def __init__(self, pair: Pair, **account: Any) -> None:
        self.pair, self.account = pair, Account(**{"url": pair.paying.url, "key": pair.payer.key} | account)

    def ask(self, name: str, *args: Any) -> Any:
        async def call() -> Any:
            executor = LnbitsExecutor(self.account, clock.now)
            try:
                return await getattr(executor, name)(*args)
            finally:
                await executor.close()

        return asyncio.run(call())

    def prepare(self, bolt11: str, sats: int) -> Prepared | Rejected | Unknown:
        said: Prepared | Rejected | Unknown = self.ask(
            "prepare", Pay(bolt11, Money("BTC", sats * 1_000), usual_fee(sats * 1_000)), "t/payout/p/pay/1", ""
        )
        return said

    def attempt(self, sats: int) -> Attempt:
        ready = self.prepare(self.pair.a.invoice(self.pair.payee, sats).bolt11, sats)
        assert isinstance(ready, Prepared), ready
        return Attempt("pay/1", "pay", "lightning", "t/payout/p/pay/1", ready, 0, 0)

    def submit(self, attempt: Attempt) -> Outcome:
        said: Outcome = self.ask("submit", attempt)
        return said

    def lookup(self, attempt: Attempt) -> Finding:
        said: Finding = self.ask("lookup", attempt)
        return said


def test_paid_and_asked_about_and_paid_again(pair: Pair) -> None:
    d = Desk(pair)
    before = pair.paying.balance(pair.payer)
    attempt = d.attempt(100)
    assert attempt.prepared.terms.replace is Replace.NEVER
    assert isinstance(d.lookup(attempt), Absent)
    said = d.submit(attempt)
    assert isinstance(said, Done) and said.cost == 0 and d.lookup(attempt) == said
    assert d.submit(attempt) == Unknown("HTTP 520, success")  # it was paid already: nothing moved
    assert pair.paying.balance(pair.payer) == before - 100_000


def test_what_is_refused_before_anything_is_armed(pair: Pair) -> None:
    bolt11 = pair.a.invoice(pair.payee, 7).bolt11
    for account, words in (
        ({"key": pair.payer.invoice_key}, "not the wallet's admin key"),
        ({"key": "0" * 32}, "no wallet has this key"),
        ({"network": "signet"}, "another network"),
    ):
        said = Desk(pair, **account).prepare(bolt11, 7)
        assert isinstance(said, Rejected) and words in said.code
    said = Desk(pair).prepare(bolt11, 8)
    assert isinstance(said, Rejected) and "asks for 7000 msat, 8000 msat are to be paid" in said.code
    said = Desk(pair).prepare(pair.a.invoice(pair.payee, 2_000_000).bolt11, 2_000_000)
    assert isinstance(said, Rejected) and "the wallet holds" in said.code


def test_a_key_that_may_not_pay_and_a_wallet_that_is_not_asked(pair: Pair) -> None:
    attempt = Desk(pair).attempt(5)
    assert isinstance(Desk(pair, key=pair.payer.invoice_key).submit(attempt), Rejected)
    other = pair.paying.wallet("another", 10)
    assert isinstance(Desk(pair, key=other.key).lookup(attempt), Unknown)
    assert isinstance(Desk(pair).lookup(attempt), Absent)


def test_an_invoice_of_the_same_lnbits_is_paid_within_it(pair: Pair) -> None:
    d = Desk(pair)
    friend = pair.paying.wallet("friend", 0)
    bolt11 = pair.paying.invoice(friend, 50).bolt11
    ready = d.prepare(bolt11, 50)
    assert isinstance(ready, Prepared)
    attempt = Attempt("pay/1", "pay", "lightning", "t/payout/p/pay/1", ready, 0, 0)
    said = d.submit(attempt)
    assert isinstance(said, Done) and d.lookup(attempt) == said
    assert d.submit(attempt) == Unknown("HTTP 520, failed")  # "already paid", in LNbits' words


def test_nothing_here_refuses_an_expired_invoice(pair: Pair) -> None:
    """So `refuses_expired` must never be declared of such a pair: silence after the expiry proves nothing."""
    invoice = pair.a.invoice(pair.payee, 9, expiry_seconds=1)
    time.sleep(2.5)
    answer = pair.paying.call("POST", "/api/v1/payments", pair.payer.key, {"out": True, "bolt11": invoice.bolt11})
    assert answer["status"] == "success"


def test_the_backend_dies_and_what_was_sent_stays_open(pair: Pair) -> None:
    d = Desk(pair)
    attempt = d.attempt(11)
    pair.a.kill()
    try:
        assert d.submit(attempt) == Unknown("HTTP 201, pending")
        assert d.lookup(attempt) == Unknown("the payment is pending")
    finally:
        pair.a.start()
    assert d.lookup(attempt) == Unknown("the payment is pending")
    assert d.submit(attempt) == Unknown("HTTP 520, pending")


def test_a_wallet_that_is_frozen_or_gone(pair: Pair) -> None:
    d = Desk(pair, timeout_seconds=2)
    attempt = d.attempt(13)
    pair.paying.freeze()
    try:
        with pytest.raises(RailDown):
            d.submit(attempt)
        with pytest.raises(RailDown):
            d.prepare(pair.a.invoice(pair.payee, 5).bolt11, 5)
    finally:
        pair.paying.thaw()
    waiting = time.monotonic() + 20
    while isinstance(d.lookup(attempt), Absent) and time.monotonic() < waiting:
        time.sleep(0.2)  # it arrived, and is worked on once LNbits is awake
    pair.paying.kill()
    try:
        said = d.submit(attempt)
        assert isinstance(said, Rejected) and not said.final and "nothing was sent" in said.code
        with pytest.raises(RailDown):
            d.lookup(attempt)
    finally:
        pair.paying.start()
    assert isinstance(d.lookup(attempt), Done | Absent | Unknown)


def test_fifty_payouts_through_trouble(tmp_path: Path) -> None:
    report = importlib.import_module("examples.04_pay_once_on_lnbits").main(tmp_path)
    print(report)
    assert report.legs - report.closed == 50 and report.settled + report.with_operator == 50
    assert report.settled >= 20 and report.kills >= 6 and report.freezes >= 4
    assert report.ledger_msat == report.wallet_msat
