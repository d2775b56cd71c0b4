"""What an LNbits answer means, over every shape that we know; and the executor over the fake node, fault by fault."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from bursar.core.errors import RailDown
from bursar.core.money import Money
from bursar.core.outcomes import (
    Absent,
    Attempt,
    Done,
    Finding,
    Outcome,
    Pay,
    Place,
    Prepared,
    Rejected,
    Replace,
    Unknown,
)
from bursar.rails.lightning.lnbits import LnbitsExecutor, Payload, finding, outcome
from bursar.testing.fakes.lightning import SECOND, FakeLnbits, Fault, Node

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "vectors" / "lightning-wallets-rest.json"
PREIMAGE = "aa" * 32
WHAT = Payload("lnbc1", "e0e77a507412b120f6ede61f62295b1a7b2ff19d3dcc8f7253e51663470c888e", 5_000, "wallet-1", "key")
ROW = {
    "payment_hash": WHAT.hash,
    "amount": -5_000,
    "fee": -21,
    "status": "success",
    "preimage": PREIMAGE,
    "extra": {"bursar": "key"},
}
MEANS = {Done: "done", Rejected: "rejected", Unknown: "unknown", Absent: "absent"}

SENT: list[tuple[int, Any, Outcome | type[Unknown]]] = [
    (201, ROW, Done(PREIMAGE, 21)),
    (201, ROW | {"fee": 0}, Done(PREIMAGE)),
    (201, ROW | {"preimage": "00" * 32}, Unknown),
    (201, ROW | {"preimage": None}, Unknown),
    (201, ROW | {"preimage": "no hex"}, Unknown),
    (201, ROW | {"fee": None}, Unknown),
    (201, ROW | {"extra": {}}, Unknown),
    (201, ROW | {"extra": {"bursar": "another's"}}, Unknown),
    (201, ROW | {"status": "pending"}, Unknown),
    (201, ROW | {"status": "failed"}, Unknown),
    (200, ROW, Unknown),
    (201, None, Unknown),
    (201, [], Unknown),
    (307, None, Unknown),
    (404, {"detail": "Wallet not found."}, Unknown),
    (429, {"detail": "Rate limit exceeded: 200 per 1 minute"}, Unknown),
    (500, {"detail": "Unexpected error! ID: x"}, Unknown),
    (502, None, Unknown),
    (520, {"detail": "Payment failed: no route.", "status": "failed"}, Unknown),
    (520, {"detail": "Internal invoice already paid.", "status": "failed"}, Unknown),
    (520, {"detail": "Payment is still pending.", "status": "pending"}, Unknown),
    (520, {"detail": "Payment already paid.", "status": "success"}, Unknown),
    (520, {"detail": "Insufficient balance.", "status": "failed"}, Unknown),
    (520, {"detail": "Missing BOLT11 invoice"}, Unknown),
    (401, {"detail": "No Api Key provided."}, Rejected("the wallet refuses the key: No Api Key provided.", final=True)),
    (403, {"detail": "Invalid adminkey."}, Rejected("the wallet refuses the key: Invalid adminkey.", final=True)),
    (403, None, Unknown),
    (403, {"detail": "x", "status": "success"}, Unknown),
    (400, {"detail": [{"loc": ["body"]}]}, Rejected("the wallet does not understand the request", final=True)),
    (400, {"detail": "Missing BOLT11 invoice"}, Rejected("the wallet refuses: Missing BOLT11 invoice", final=True)),
    (
        400,
        {"detail": "Daily withdrawal limit of 5 sats reached."},
        Rejected("the wallet refuses: Daily withdrawal limit of 5 sats reached."),
    ),
    (400, {"detail": "Payment already exists"}, Unknown),  # it has been paid
    (400, {"detail": "Expecting value: line 1 column 1 (char 0)"}, Unknown),  # an error in the midst of paying
]


@pytest.mark.parametrize(("status", "body", "means"), SENT)
def test_what_an_answer_to_a_payment_means(status: int, body: Any, means: Outcome | type[Unknown]) -> None:
    said = outcome(status, body, WHAT)
    assert isinstance(said, Unknown) if means is Unknown else said == means


FOUND: list[tuple[int, Any, Finding | type[Unknown]]] = [
    (200, {"paid": True, "preimage": PREIMAGE, "details": ROW}, Done(PREIMAGE, 21)),
    (200, {"paid": True, "status": "success", "preimage": PREIMAGE, "details": ROW}, Done(PREIMAGE, 21)),
    (200, {"paid": True, "preimage": None, "details": ROW}, Done(WHAT.hash, 21)),  # a backend that gives none
    (200, {"paid": True, "preimage": "00" * 32, "details": ROW}, Unknown),
    (200, {"paid": True, "preimage": PREIMAGE}, Unknown),
    (200, {"paid": True, "preimage": PREIMAGE, "details": ROW | {"amount": 5_000}}, Unknown),  # our own invoice
    (200, {"paid": True, "preimage": PREIMAGE, "details": ROW | {"amount": -4_000}}, Unknown),
    (200, {"paid": True, "preimage": PREIMAGE, "details": ROW | {"payment_hash": "ff"}}, Unknown),
    (200, {"paid": True, "preimage": PREIMAGE, "details": ROW | {"status": "pending"}}, Unknown),
    (200, {"paid": True, "preimage": PREIMAGE, "details": ROW | {"extra": {"bursar": "another's"}}}, Unknown),
    (200, {"paid": True, "status": "failed", "preimage": PREIMAGE, "details": ROW}, Unknown),
    (200, {"paid": False, "status": "failed", "details": ROW | {"status": "failed"}}, Absent(7, why="failed")),
    (200, {"paid": False, "status": "failed", "details": ROW | {"status": "success"}}, Unknown),
    (200, {"paid": False, "details": ROW | {"status": "failed"}}, Absent(7, why="failed")),
    (200, {"paid": False, "status": "pending", "details": ROW | {"status": "pending"}}, Unknown),
    (200, {"paid": "yes", "details": ROW}, Unknown),
    (200, {}, Unknown),
    (200, None, Unknown),
    (404, {"detail": "Payment does not exist."}, Absent(7)),
    (404, {"detail": "Not Found"}, Unknown),
    (404, None, Unknown),
    (500, {"detail": "Payment does not exist."}, Unknown),
]


@pytest.mark.parametrize(("status", "body", "means"), FOUND)
def test_what_an_answer_to_a_question_means(status: int, body: Any, means: Finding | type[Unknown]) -> None:
    said = finding(status, body, WHAT, 7)
    assert isinstance(said, Unknown) if means is Unknown else said == means


ANY = st.recursive(
    st.none() | st.booleans() | st.integers() | st.sampled_from(["success", "failed", "pending", PREIMAGE, WHAT.hash]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from([*ROW, "paid", "detail"]), inner),
    max_leaves=12,
)


@given(st.sampled_from([200, 201, 400, 401, 403, 404, 500, 502, 520]), ANY)
def test_no_answer_means_more_than_it_proves(status: int, body: Any) -> None:
    sent, found = outcome(status, body, WHAT), finding(status, body, WHAT, 7)
    if isinstance(sent, Done):
        assert status == 201 and sent.ref == PREIMAGE and body["status"] == "success"
    if isinstance(sent, Rejected):
        assert status in (400, 401, 403) and "status" not in body
    assert not isinstance(found, Done) or status == 200 and body["paid"] is True
    assert not isinstance(found, Absent) or status == 404 or body["paid"] is False


def shapes(function: str, wallet: str | None = None) -> list[Any]:
    """Answers that LNbits' own tests give to its wallets: LNbits, LND, Core Lightning, Eclair, phoenixd, Alby."""
    if not VECTORS.exists():
        pytest.skip("LNbits' fixtures are not beside the repository (../shared/vectors/lightning-wallets-rest.json)")
    tests = json.loads(VECTORS.read_text())["functions"][function]["tests"]
    endpoints = [
        calls
        for test in tests
        for name, calls in test.get("mocks", {}).items()
        if isinstance(calls, dict) and wallet in (None, name)
    ]
    return [mock["response"] for calls in endpoints for mocks in calls.values() for mock in mocks]


def test_shapes_of_other_wallets_prove_nothing() -> None:
    answers = shapes("pay_invoice") + shapes("get_payment_status")
    assert len(answers) > 50
    for body in answers:
        for status in (200, 201, 404, 500, 520):
            assert isinstance(outcome(status, body, WHAT), Unknown)
            assert isinstance(finding(status, body, WHAT, 7), Unknown)


def test_lnbits_own_shapes_with_a_real_row() -> None:
    said = []
    for body in shapes("get_payment_status", "lnbits"):
        if isinstance(body, dict) and isinstance(body.get("details"), dict) and isinstance(body.get("paid"), bool):
            word = body.get("status", "success" if body["paid"] else "pending")
            full = body | {"details": ROW | body["details"] | {"status": word}}
            said += [finding(200, full, WHAT, 7), finding(200, full | {"preimage": PREIMAGE}, WHAT, 7)]
    assert [MEANS[type(s)] for s in said] == ["unknown", "done", "absent", "absent", "unknown", "unknown"]
    assert said[1] == Done(PREIMAGE, 1_000)  # the mock's fee; its preimage of zeros opens nothing


# -- the executor, over the fake ------------------------------------------------------------
class Bench:
    def __init__(self, *faults: Fault, **account: Any) -> None:
        self.front = FakeLnbits(Node())
        self.front.faults += faults
        self.front.node.fee = lambda msat: msat // 200
        settings = replace(self.front.account, **account)
        self.executor = LnbitsExecutor(settings, lambda: self.front.node.time, self.front)
        self.invoice = self.front.node.issue(1_000_000)

    def prepare(self, effect: Any = None) -> Prepared | Rejected | Unknown:
        wish = effect or Pay(self.invoice, Money("BTC", 1_000_000), 10_000)
        return asyncio.run(self.executor.prepare(wish, "t/payout/p/pay/1", ""))

    @property
    def attempt(self) -> Attempt:
        ready = self.prepare()
        assert isinstance(ready, Prepared), ready
        return Attempt("pay/1", "pay", "lightning", "t/payout/p/pay/1", ready, 0, 0)

    def submit(self, attempt: Attempt) -> Outcome | str:
        try:
            return asyncio.run(self.executor.submit(attempt))
        except RailDown as err:
            return str(err)

    def lookup(self, attempt: Attempt) -> Finding:
        return asyncio.run(self.executor.lookup(attempt))


def test_paid() -> None:
    b = Bench()
    attempt = b.attempt
    said = b.submit(attempt)
    assert isinstance(said, Done) and said.cost == 5_000 and b.lookup(attempt) == said
    assert b.front.available_msat == 10**9 - 1_005_000


def test_terms_promise_no_more_than_the_account_declares() -> None:
    prepared = Bench().attempt.prepared
    assert (prepared.terms.resend, prepared.terms.replace) == (False, Replace.NEVER)
    declared = Bench(refuses_expired=True, skew=5 * SECOND, lag=7 * SECOND).attempt.prepared
    assert (declared.terms.replace, declared.terms.skew, declared.terms.lag) == (Replace.EXPIRY, 5_000_000, 7_000_000)
    assert declared.expires_at == Node().time + 600 * SECOND


@pytest.mark.parametrize(
    ("bench", "effect", "sentence", "final"),
    [
        (Bench(), Place("BTC", "buy", 1, 1), "only pays", True),
        (Bench(), Pay("lnbc1", Money("BTC", 1), 0), "invoice", True),
        (Bench(key="invoice-key"), None, "not the wallet's admin key", True),
        (Bench(key="wrong"), None, "no wallet has this key", True),
        (Bench(network="testnet"), None, "another network", True),
        (Bench(spare=560 * SECOND), None, "expires in less than 620 s", True),
    ],
)
def test_refused_before_anything_is_armed(bench: Bench, effect: Any, sentence: str, final: bool) -> None:
    said = bench.prepare(effect)
    assert isinstance(said, Rejected) and sentence in said.code and said.final is final
    assert bench.front.calls["pay"] == 0


def test_the_fee_limit_and_the_balance_are_looked_at_before_arming() -> None:
    b = Bench()
    said = b.prepare(Pay(b.invoice, Money("BTC", 1_000_000), 9_999))
    assert said == Rejected("the wallet may charge up to 10000 msat, the limit is 9999", final=True)
    b.front.balance_msat = 1_009_999
    said = b.prepare()
    assert said == Rejected("the wallet holds 1009999 msat, 1010000 are needed")


@pytest.mark.parametrize("name", ["wallet", "fee-reserve"])
def test_a_wallet_that_does_not_answer_arms_nothing(name: Any) -> None:
    assert isinstance(Bench(Fault("html", name, 1)).prepare(), Unknown)
    with pytest.raises(RailDown):
        Bench(Fault("lost_request", name, 1)).prepare()


def test_one_call_is_one_arrival_at_most() -> None:
    for kind in ("lost_request", "late_request", "lost_answer", "html", "html_after", "cut"):
        b = Bench(Fault(kind, "pay", 1, 5))
        said = b.submit(b.attempt)
        assert isinstance(said, str | Unknown) and b.front.calls["pay"] == 1


def test_no_connection_is_a_proof_that_nothing_left() -> None:
    b = Bench(Fault("refused", "pay", 1))
    said = b.submit(b.attempt)
    assert isinstance(said, Rejected) and not said.final and not b.front.rows


def test_what_was_lost_is_found_by_asking() -> None:
    b = Bench(Fault("lost_answer", "pay", 1))
    attempt = b.attempt
    b.submit(attempt)
    assert isinstance(b.lookup(attempt), Done)
    late = Bench(Fault("late_request", "pay", 1, seconds=30))
    attempt = late.attempt
    late.submit(attempt)
    assert late.lookup(attempt) == Absent(late.front.node.time)
    late.front.pass_time(31)
    assert isinstance(late.lookup(attempt), Done) and len(late.front.node.landed) == 1


def test_in_flight_has_no_end_by_itself() -> None:
    for kind, end in (("hang", Done), ("hang_and_fail", Absent)):
        b = Bench(Fault(kind, "pay", 1, seconds=5_000))  # type: ignore[arg-type]
        attempt = b.attempt
        assert isinstance(b.submit(attempt), Unknown) and isinstance(b.lookup(attempt), Unknown)
        b.front.pass_time(4_000)  # the invoice has expired
        assert isinstance(b.lookup(attempt), Unknown)
        b.front.pass_time(1_001)
        assert isinstance(b.lookup(attempt), end)


def test_a_failure_is_no_refusal() -> None:
    for kind in ("fail", "no_route"):
        b = Bench(Fault(kind, "pay", 1))
        attempt = b.attempt
        assert isinstance(b.submit(attempt), Unknown)
        assert b.lookup(attempt) == Absent(b.front.node.time, why="failed")


def test_an_expired_invoice_is_refused_by_the_node_too() -> None:
    b = Bench(Fault("late_request", "pay", 1, seconds=601))
    attempt = b.attempt
    b.submit(attempt)
    b.front.pass_time(602)
    assert b.lookup(attempt) == Absent(b.front.node.time, why="failed") and not b.front.node.landed
    lax = Bench(Fault("late_request", "pay", 1, seconds=601))
    lax.front.node.refuses_expired = False
    lax.submit(lax.attempt)
    lax.front.pass_time(602)
    assert len(lax.front.node.landed) == 1


def test_a_key_of_another_wallet_proves_no_absence() -> None:
    b = Bench()
    attempt = b.attempt
    b.submit(attempt)
    b.executor.client.headers["X-Api-Key"] = "other-key"
    assert isinstance(b.lookup(attempt), Unknown)


def test_the_transport_repeats_and_redirects_nothing() -> None:
    executor = LnbitsExecutor(FakeLnbits(Node()).account, lambda: 0)
    transport: Any = executor.client._transport
    assert isinstance(transport, httpx.AsyncHTTPTransport) and transport._pool._retries == 0
    assert executor.client.follow_redirects is False
