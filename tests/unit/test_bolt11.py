"""Invoices as others wrote them, and as nobody should: what is read is right, what is refused has a sentence."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from bech32 import bech32_decode, bech32_encode
from hypothesis import given, settings
from hypothesis import strategies as st

from bursar.core.money import Money
from bursar.core.outcomes import Pay
from bursar.rails.lightning.bolt11 import decode, usual_fee, verify
from bursar.testing.fakes.lightning import SECOND, Node

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "vectors" / "bolt11.json"


def vectors(kind: str) -> list[dict[str, Any]]:
    if not VECTORS.exists():
        pytest.skip("the invoices of bitcoinjs/bolt11 are not beside the repository (../shared/vectors/bolt11.json)")
    return list(json.loads(VECTORS.read_text())["decode"][kind])


def test_others_invoices_read_as_they_were_written() -> None:
    known = [v for v in vectors("valid") if not v["paymentRequest"].startswith("lnsb")]  # a network of one program
    assert len(known) == 14
    for v in known:
        invoice = decode(v["paymentRequest"])
        at = v.get("timestamp", 1_496_314_658)
        tags = {tag["tagName"]: tag["data"] for tag in v["tags"]}
        assert invoice.msat == (int(v["millisatoshis"]) if v["millisatoshis"] else None)
        assert (invoice.hash, invoice.payee) == (tags["payment_hash"], v["payeeNodeKey"])
        assert (invoice.at, invoice.expires_at) == (at * SECOND, v.get("timeExpireDate", at + 3600) * SECOND)
        assert invoice.secret == ("payment_secret" in tags)
        assert v["prefix"].startswith("ln" + invoice.network)


def test_others_broken_invoices_are_refused() -> None:
    for v in vectors("invalid"):
        with pytest.raises(ValueError, match="invoice"):
            decode(str(v["paymentRequest"]))


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_a_damaged_invoice_gives_a_sentence_or_another_payment(data: st.DataObject) -> None:
    text = Node().issue(7_000)
    hrp, words = bech32_decode(text)
    assert hrp is not None and words is not None
    for _ in range(data.draw(st.integers(1, 3))):
        n = data.draw(st.integers(0, len(words) - 1))
        words[n : n + data.draw(st.integers(0, 2))] = data.draw(st.lists(st.integers(0, 31), max_size=2))
    again = bech32_encode(hrp, words)
    try:
        other = decode(again)
    except ValueError as err:
        assert "invoice" in str(err)
    else:  # a right checksum over other words: another node's signature, or the same words
        assert again == text or other.payee != decode(text).payee


@pytest.mark.parametrize("text", ["", "1", "lnbc1", "lnbc20m1", "LNBC20u1xyz", "lnbc25p1abc", "lnbc0u1abc", "ä" * 9])
def test_what_is_no_invoice_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invoice"):
        decode(text)


def test_an_amount_is_read_to_the_millisatoshi() -> None:
    for msat in (1, 123, 999_999, 1_000, 10**11, 2_500_000_001):
        assert decode(Node().issue(msat)).msat == msat
    assert decode(Node().issue(None)).msat is None
    assert decode(Node().issue(5_000).upper()).msat == 5_000


def test_what_is_finer_is_not_rounded() -> None:
    _, words = bech32_decode(Node().issue(7_000))
    assert words is not None
    with pytest.raises(ValueError, match="finer than a millisatoshi"):
        decode(bech32_encode("lnbc25p", words))


def pay(node: Node, msat: int | None, wanted: int, **other: Any) -> Pay:
    return Pay(node.issue(msat, other.get("expiry", 600)), Money(other.get("asset", "BTC"), wanted), 2_000)


@pytest.mark.parametrize(
    ("effect", "network", "sentence"),
    [
        (pay(Node(), 5_000, 6_000), "mainnet", "asks for 5000 msat, 6000 msat are to be paid"),
        (pay(Node(), None, 5_000), "mainnet", "names no amount"),
        (pay(Node(network="tb"), 5_000, 5_000), "mainnet", "another network: it begins with lntb"),
        (pay(Node(), 5_000, 5_000), "regtest", "another network: it begins with lnbc"),
        (pay(Node(), 5_000, 5_000), "moon", "no network 'moon'"),
        (pay(Node(), 5_000, 5_000, asset="ADA"), "mainnet", "pays BTC, not ADA"),
        (pay(Node(), 5_000, 5_000, expiry=1), "mainnet", "has expired"),
        (pay(Node(), 5_000, 5_000, expiry=119), "mainnet", "expires in less than 120 s"),
    ],
)
def test_an_invoice_that_is_not_what_is_wanted(effect: Pay, network: str, sentence: str) -> None:
    with pytest.raises(ValueError, match=sentence):
        verify(effect, network, Node().time + SECOND, 120 * SECOND)


def test_an_invoice_that_is() -> None:
    for network, prefix in {"mainnet": "bc", "testnet": "tb", "signet": "tbs", "regtest": "bcrt"}.items():
        assert verify(pay(Node(network=prefix), 5_000, 5_000), network, Node().time, 120 * SECOND).msat == 5_000


def test_without_a_payment_secret_nobody_pays() -> None:
    v = next(v for v in vectors("valid") if v["prefix"] == "lnbc2500u")
    with pytest.raises(ValueError, match="no payment secret"):
        verify(Pay(v["paymentRequest"], Money("BTC", 250_000_000)), "mainnet", 1_496_314_658 * SECOND, 0)


def test_the_usual_fee_limit() -> None:
    assert [usual_fee(msat) for msat in (1, 200_000, 200_001, 10**9)] == [2_000, 2_000, 2_001, 10**7]
