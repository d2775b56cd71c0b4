"""What the node reader makes of answers that a node gives seldom, or only something in between gives."""

from __future__ import annotations

import asyncio
import base64
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeVar

import httpx
import pytest

from bursar.rails.bitcoin import rpc
from bursar.rails.bitcoin.rpc import BATCH, Node, RpcError, RpcUnknown

T = TypeVar("T")
A, B = "aa" * 32, "bb" * 32
TX = {"txid": A, "vin": [{"txid": B, "vout": 1}], "vout": [{"n": 0, "value": 1, "scriptPubKey": {"hex": "51"}}]}
COINBASE = {"txid": B, "vin": [{"coinbase": "00"}], "vout": []}
HEADER = {"hash": A, "height": 5, "time": 9, "confirmations": 1, "previousblockhash": B}


class Fake(httpx.AsyncBaseTransport):
    """Answers every request with the same thing and counts them."""

    def __init__(self, answer: Callable[[Any], httpx.Response]) -> None:
        self.answer, self.requests, self.headers = answer, 0, httpx.Headers()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        self.requests, self.headers = self.requests + 1, request.headers
        return self.answer(json.loads(await request.aread()))


def ask(fake: Fake, question: Callable[[Node], Awaitable[T]], timeout_seconds: int = 5) -> T:
    async def once() -> T:
        node = Node("http://user:secret@node.test", timeout_seconds, fake)
        try:
            return await question(node)
        finally:
            await node.close()

    return asyncio.run(once())


def gives(*results: str) -> Fake:
    """The raw JSON of one result, or of one result a call of a batch (answered in reverse)."""

    def answer(calls: Any) -> httpx.Response:
        listed = calls if isinstance(calls, list) else [calls]
        answers = [f'{{"id":{c["id"]},"result":{r}}}' for c, r in zip(listed, results, strict=True)][::-1]
        return httpx.Response(200, text=f"[{','.join(answers)}]" if isinstance(calls, list) else answers[0])

    return Fake(answer)


def says(status: int, text: str | bytes) -> Fake:
    return Fake(lambda _: httpx.Response(status, content=text))


@pytest.mark.parametrize(
    ("written", "sats"),
    [
        ("20999999.97690001", 2099999997690001),
        ("1e-08", 1),
        ("0.1", 10_000_000),
        ("0.10000000", 10_000_000),
        ("3", 3 * 10**8),
    ],
)
def test_amounts_are_exact_however_they_are_written(written: str, sats: int) -> None:
    tx = json.dumps(TX).replace('"value": 1', f'"value": {written}')
    (output,) = ask(gives(tx), lambda node: node.transactions([A]))[A].outputs
    assert output.amount_sats == sats


@pytest.mark.parametrize("written", ["1e-9", "-1", "0.123456789", "1e400", "1e999999", '"NaN"', '"Infinity"', "null"])
def test_what_is_no_amount_is_unknown(written: str) -> None:
    tx = json.dumps(TX).replace('"value": 1', f'"value": {written}')
    with pytest.raises(RpcUnknown):
        ask(gives(tx), lambda node: node.transactions([A]))


@pytest.mark.parametrize(
    ("fake", "reason"),
    [
        (says(200, ""), "not an answer of a node"),
        (says(200, '{"id":0,"result":{"chain":"ma'), "not an answer of a node"),
        (says(200, b'{"id":0,"result":"\xff"}'), "another shape"),
        (says(200, "[" * 100_000), "not an answer of a node"),
        (says(502, "<html>Bad gateway</html>"), "HTTP 502"),
        (says(503, "Work queue depth exceeded"), "HTTP 503"),
        (says(429, '{"message":"slow down"}'), "HTTP 429"),
        (says(302, ""), "HTTP 302"),
        (says(500, '{"id":0,"result":{}}'), "no answer to it"),
        (says(200, '{"id":7,"result":{}}'), "no answer to it"),
        (says(200, '{"id":0,"result":null}'), "another shape"),
        (says(200, '{"id":0,"result":{"chain":"main","blocks":5}}'), "another shape"),
        (says(200, '{"id":0,"error":"no"}'), "not an answer of a node"),
        (says(401, ""), "refuses the user or the password"),
        (says(403, ""), "refuses the user or the password"),
        (
            says(500, '{"id":0,"result":null,"error":{"code":-28,"message":"Loading…"}}'),
            "not ready: Loading",
        ),
    ],
)
def test_no_answer_is_unknown_with_a_reason_and_is_not_asked_again(fake: Fake, reason: str) -> None:
    with pytest.raises(RpcUnknown, match=reason) as caught:
        ask(fake, Node.tip)
    assert not isinstance(caught.value, RpcError)
    assert "secret" not in caught.value.reason
    assert fake.requests == 1


@pytest.mark.parametrize("status", [200, 500])  # btcd, Core
def test_the_nodes_own_error(status: int) -> None:
    fake = says(status, '{"id":0,"result":null,"error":{"code":-1,"message":"Block not available (pruned data)"}}')
    with pytest.raises(RpcError, match="getblock: error -1: Block not available") as caught:
        ask(fake, lambda node: node.block(A))
    assert (caught.value.code, fake.requests) == (-1, 1)


def test_lost_connections_and_slow_ones_are_unknown() -> None:
    def lost(_: Any) -> httpx.Response:
        raise httpx.ReadError("reset by peer")

    async def drip() -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    with pytest.raises(RpcUnknown, match="ReadError: reset by peer"):
        ask(Fake(lost), Node.tip)
    with pytest.raises(RpcUnknown, match="no answer within 1 s"):
        ask(Fake(lambda _: httpx.Response(200, content=drip())), Node.tip, timeout_seconds=1)


def test_an_answer_without_end_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rpc, "ANSWER_LIMIT_BYTES", 10_000)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b" " * 1000

    with pytest.raises(RpcUnknown, match="more than 10000 bytes"):
        ask(Fake(lambda _: httpx.Response(200, content=endless())), Node.tip)


def test_the_mempool_counts_only_upon_one_tip() -> None:
    tip, other, listed, loaded = f'"{A}"', f'"{B}"', f'["{B}"]', '{"loaded":true}'
    net, there = '{"totalbytesrecv":7}', rpc.Mempool(A, frozenset({B}), 7)
    assert ask(gives(loaded, net, tip, listed, tip), Node.mempool) == there
    assert ask(gives("{}", net, tip, listed, tip), Node.mempool) == there  # btcd
    for answers, reason in (
        ((loaded, net, tip, listed, other), "moved"),
        ((loaded, net, tip, '["b"]', tip), "shape"),
        ((loaded, net, tip, "{}", tip), "shape"),
        ((loaded, "{}", tip, listed, tip), "shape"),
        (('{"loaded":false}', net, tip, listed, tip), "still reading its mempool"),
    ):
        with pytest.raises(RpcUnknown, match=reason):
            ask(gives(*answers), Node.mempool)


def test_a_batch_answered_in_part_is_unknown() -> None:
    fake = says(200, f'[{{"id":0,"result":{json.dumps(TX)}}}]')
    with pytest.raises(RpcUnknown, match="no answer to it"):
        ask(fake, lambda node: node.transactions([A, B]))
    with pytest.raises(ValueError, match=f"more than {BATCH}"):
        ask(fake, lambda node: node.transactions([A] * (BATCH + 1)))
    assert ask(gives(), lambda node: node.transactions([])) == {}


def test_which_coins_no_block_has_spent() -> None:
    there, tip = f"{A}:0", f'"{B}"'
    assert ask(gives('{"value":1.5}', "null", tip), lambda node: node.unspent([there, B + ":1"])) == (
        frozenset({there}),
        B,
    )
    with pytest.raises(RpcUnknown, match="shape"):
        ask(gives("{}", tip), lambda node: node.unspent([there]))
    with pytest.raises(ValueError, match=f"more than {BATCH}"):
        ask(gives(), lambda node: node.unspent([there] * (BATCH + 1)))


def test_a_transaction_of_a_block_does_not_wait() -> None:
    """A node with an index of all transactions finds it all the same."""
    assert ask(gives(json.dumps(TX | {"blockhash": B})), lambda node: node.transactions([A])) == {}


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"hash": B}, "got b"),
        ({"previousblockhash": "0" * 64}, "without a predecessor"),
        ({"tx": []}, "one coinbase"),
        ({"tx": [TX]}, "one coinbase"),
        ({"tx": [COINBASE, COINBASE]}, "one coinbase"),
        ({"tx": [A]}, "another shape"),  # a node that heeds no verbosity
        ({"tx": [COINBASE, TX | {"vin": [{}]}]}, "spends nothing"),
        ({"tx": [COINBASE, TX | {"vout": [{"n": 0}]}]}, "in part"),
        ({"height": -1}, "another shape"),
        ({"confirmations": None}, "another shape"),
    ],
)
def test_a_block_that_can_not_be_is_unknown(change: dict[str, object], reason: str) -> None:
    whole = HEADER | {"tx": [COINBASE, TX]}
    block = ask(gives(json.dumps(whole)), lambda node: node.block(A))
    assert block is not None
    assert [tx.txid for tx in block.txs] == [B, A]
    with pytest.raises(RpcUnknown, match=reason):
        ask(gives(json.dumps(whole | change)), lambda node: node.block(A))


def test_confidential_parts_of_litecoin_are_left_out() -> None:
    wire = {
        "txid": A,
        "vin": [{"ismweb": True, "output_id": B}, {"ismweb": False, "txid": B, "vout": 2}],
        "vout": [
            {"ismweb": True, "output_id": A},
            {"ismweb": False, "n": 1, "value": 1, "scriptPubKey": {"hex": "51"}},
        ],
        "vkern": [],
    }
    tx = ask(gives(json.dumps(wire)), lambda node: node.transactions([A]))[A]
    assert tx == rpc.Tx(A, (f"{B}:2",), (rpc.Output(1, "51", 10**8),), False)


@pytest.mark.parametrize(
    "url", ["", "node:8332", "ftp://node", "http://", "http://user:se/cret@node:8332", "http://n:x"]
)
def test_a_malformed_address_of_a_node_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(ValueError, match="looks like") as caught:
        Node(url)
    assert "cret" not in str(caught.value)


def test_the_password_is_in_no_address_that_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    fake = says(200, "{}")
    with pytest.raises(RpcUnknown):
        ask(fake, Node.tip)
    assert base64.b64decode(fake.headers["authorization"].split()[1]) == b"user:secret"
    assert "node.test" in caplog.text and "secret" not in caplog.text
