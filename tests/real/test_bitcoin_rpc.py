"""The node reader against litecoind and btcd, and what the harness promises of both."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import pytest
from tests.harness.bitcoin import BitcoinNode, Btcd, Litecoind

from bursar.rails.bitcoin.addresses import address_of, script_of
from bursar.rails.bitcoin.rpc import Block, Node, RpcError, RpcUnknown, Tx

pytestmark = pytest.mark.real
T = TypeVar("T")
ROOT = Path(__file__).parents[2]
NODES = {"litecoind": Litecoind, "btcd": Btcd}


@pytest.fixture(scope="module", params=list(NODES))
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitcoinNode]:
    with NODES[request.param](tmp_path_factory.mktemp(request.param)) as node:
        yield node


def ask(real: BitcoinNode, question: Callable[[Node], Awaitable[T]], timeout_seconds: int = 10) -> T:
    async def once() -> T:
        node = Node(real.url, timeout_seconds)
        try:
            return await question(node)
        finally:
            await node.close()

    return asyncio.run(once())


def block_of(real: BitcoinNode, hash: str) -> Block:
    block = ask(real, lambda node: node.block(hash))
    assert block is not None
    return block


def waiting(real: BitcoinNode) -> frozenset[str]:
    return ask(real, lambda node: node.mempool()).txids


def paid(real: BitcoinNode, tx: Tx, address: str) -> int:
    script = script_of(address, real.chain).hex()
    return sum(output.amount_sats for output in tx.outputs if output.script == script)


def test_the_chain_from_its_first_block_to_its_tip(real: BitcoinNode) -> None:
    tip = ask(real, Node.tip)
    assert tip.height == real.rpc("getblockcount")
    assert (tip.headers, tip.pruned_below, tip.initial_download) == (tip.height, 0, False)
    assert abs(tip.median_time - time.time()) < 120
    assert ask(real, lambda node: node.hashes(0, 0)) == [real.chain.genesis]
    hashes = ask(real, lambda node: node.hashes(0, tip.height))
    assert (len(hashes), hashes[-1]) == (tip.height + 1, tip.hash)
    with pytest.raises(RpcUnknown, match="out of range"):
        ask(real, lambda node: node.hashes(tip.height, tip.height + 1))
    header = block_of(real, tip.hash).header
    assert (header.hash, header.height, header.previous) == (tip.hash, tip.height, hashes[-2])
    assert block_of(real, real.chain.genesis).header.previous == ""


def test_a_block_that_the_node_never_saw(real: BitcoinNode) -> None:
    never = "ab" * 32
    with pytest.raises(RpcUnknown):  # it may have pruned it
        ask(real, lambda node: node.block(never))


def test_a_payment_waits_and_is_mined_with_its_exact_amount(real: BitcoinNode) -> None:
    address, amounts = real.address(), [100_000_001, 123_456_789, 70_001]
    txid = real.pay_many([(address, sats) for sats in amounts])
    assert txid in waiting(real)
    seen = ask(real, lambda node: node.transactions([txid, "cd" * 32]))
    assert list(seen) == [txid]
    assert [o.amount_sats for o in seen[txid].outputs][:3] == amounts
    assert [o.vout for o in seen[txid].outputs] == [0, 1, 2, 3]
    assert not seen[txid].coinbase
    (mined,) = real.mine()
    coinbase, payment = block_of(real, mined).txs
    assert payment == seen[txid]
    assert coinbase.coinbase
    assert coinbase.inputs == ()
    assert paid(real, coinbase, real.reward_address) == 50 * 10**8 >> block_of(real, mined).header.height // 150
    assert txid not in waiting(real)
    assert ask(real, lambda node: node.transactions([txid])) == {}


def test_replaced_by_fee_and_the_original_mined_all_the_same(real: BitcoinNode) -> None:
    address = real.address()
    first = real.pay(address, 500_000)
    second = real.replace(first, real.address(1), 400_000)
    assert waiting(real) & {first, second} == {second}
    old, new = (ask(real, lambda node: node.transactions([first, second])).get(txid) for txid in (first, second))
    assert old is None
    assert new is not None
    assert paid(real, new, address) == 0
    (mined,) = real.mine(only=[first])
    assert mined == ask(real, Node.tip).hash
    payment = block_of(real, mined).txs[1]
    assert (payment.txid, paid(real, payment, address)) == (first, 500_000)
    assert payment.inputs == new.inputs
    assert not waiting(real) & {first, second}


def test_a_reorganisation_and_the_same_block_back(real: BitcoinNode) -> None:
    txid = real.pay(real.address(), 600_000)
    (mined,) = real.mine()
    height = ask(real, Node.tip).height
    assert real.reorg(1) == mined
    assert ask(real, Node.tip).height == height + 1
    assert ask(real, lambda node: node.hashes(height, height)) != [mined]
    assert ask(real, lambda node: node.block(mined)) is None
    assert txid in waiting(real)
    real.mine(2, on=mined)
    assert ask(real, lambda node: node.hashes(height, height)) == [mined]
    assert block_of(real, mined).txs[1].txid == txid
    assert txid not in waiting(real)


def test_a_block_taken_away_with_nothing_in_its_place_and_given_back(real: BitcoinNode) -> None:
    txid = real.pay(real.address(), 600_000)
    mined, last = real.mine(2)
    first = real.disconnect(2)
    assert first == mined
    assert ask(real, lambda node: node.block(mined)) is None
    assert txid in waiting(real)
    real.reconnect(first)
    assert ask(real, Node.tip).hash == last
    assert txid not in waiting(real)


def test_a_double_spend_that_nobody_saw_before_its_block(real: BitcoinNode) -> None:
    txid = real.pay(real.address(), 600_000)
    real.mine()
    rival = real.rival(txid)
    real.reorg(1, only=[rival])
    assert not waiting(real) & {txid, rival}


def test_btcd_keeps_waiting_what_a_peers_block_made_impossible(tmp_path: Path) -> None:
    with Btcd(tmp_path / "node") as real:
        txid = real.pay(real.address(), 600_000)
        real.mine()
        real.reorg_by_peer(1, only=[real.rival(txid)])
        real.mine(3)
        assert txid in waiting(real)
        assert txid in ask(real, lambda node: node.transactions([txid]))


def test_received_and_swept_is_in_the_blocks(real: BitcoinNode) -> None:
    address = real.address(7)
    txid = real.pay(address, 900_000)
    (received,) = real.mine()
    sweep = real.sweep(address)
    (swept,) = real.mine()
    payment, spend = (block_of(real, hash).txs[1] for hash in (received, swept))
    assert (payment.txid, paid(real, payment, address)) == (txid, 900_000)
    assert (spend.txid, spend.inputs) == (sweep, (f"{txid}:0",))


def test_a_reward_to_an_address_and_a_block_of_many(real: BitcoinNode) -> None:
    address = real.address(9)
    txids = {real.pay_many([(real.address(i), 60_000 + i) for i in range(40)]) for _ in range(4)}
    (mined,) = real.mine(1, address)
    coinbase, *payments = block_of(real, mined).txs
    assert paid(real, coinbase, address) > 0
    assert {tx.txid for tx in payments} == txids
    assert all(paid(real, tx, real.address(39)) == 60_039 for tx in payments)


def test_the_node_reads_our_addresses_as_we_do(real: BitcoinNode) -> None:
    digest, key = bytes(range(20)), bytes.fromhex("79be667ef9dcbbac55a06295ce870b07029bfcdb2dce28d959f2815b16f81798")
    for script in (
        b"\x76\xa9\x14" + digest + b"\x88\xac",
        b"\xa9\x14" + digest + b"\x87",
        b"\x00\x14" + digest,
        b"\x00\x20" + bytes(range(32)),
        b"\x51\x20" + key,
    ):
        address = address_of(script, real.chain)
        assert address is not None
        answer = real.rpc("validateaddress", address)
        assert answer["isvalid"], address
        assert answer.get("scriptPubKey", script.hex()) == script.hex()
    assert isinstance(real, Btcd) or answer["scriptPubKey"]


def test_a_node_that_is_frozen_or_refuses_us_is_unknown(real: BitcoinNode) -> None:
    real.freeze()
    try:
        with pytest.raises(RpcUnknown, match="no answer within 1 s"):
            ask(real, Node.tip, timeout_seconds=1)
    finally:
        real.thaw()
    assert ask(real, Node.tip).height > 0
    with pytest.raises(RpcUnknown, match="refuses the user or the password"):
        asyncio.run(Node(real.url.replace("password", "wrong")).tip())
    with pytest.raises(RpcError, match="error -32601"):
        ask(real, lambda node: node.ask(int, "nosuchmethod"))


@pytest.mark.parametrize("make", [Litecoind, lambda folder: Btcd(folder, "simnet")], ids=["litecoind", "btcd-simnet"])
def test_stopped_killed_and_started_again(make: Callable[[Path], BitcoinNode], tmp_path: Path) -> None:
    real = make(tmp_path / "node")
    real.funded = 0
    with real:
        assert ask(real, Node.tip).initial_download == isinstance(real, Litecoind)  # btcd does not say
        first = real.mine(3)
        real.stop()
        with pytest.raises(RpcUnknown, match="no answer"):
            ask(real, Node.tip)
        real.start()
        assert ask(real, Node.tip).hash == first[-1]
        second = real.mine(2)
        real.kill()
        real.start()
        assert ask(real, Node.tip).hash in {*first, *second}
        real.kill()
        real.restart()
        assert ask(real, Node.tip).hash == second[-1]


def test_a_node_dies_with_whoever_started_it(tmp_path: Path) -> None:
    code = (
        "import os, pathlib, sys; from tests.harness.bitcoin import Litecoind as Node; "
        "node = Node(pathlib.Path(sys.argv[1])); node.funded = 0; node.start(); "
        "print(node.process.pid, flush=True); os.kill(os.getpid(), 9)"
    )
    env = os.environ | {"PYTHONPATH": f"{ROOT / 'src'}:{ROOT}"}
    out = subprocess.run([sys.executable, "-c", code, tmp_path / "node"], env=env, capture_output=True, timeout=30)
    assert out.returncode == -signal.SIGKILL, out.stderr.decode()
    pid, deadline = int(out.stdout), time.monotonic() + 10
    while Path(f"/proc/{pid}").exists() and Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z":
        assert time.monotonic() < deadline
        time.sleep(0.05)
