"""`bursar watch` in a process of its own, on real nodes."""

from __future__ import annotations

import asyncio
import json
import runpy
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.harness.bitcoin import BitcoinNode, Btcd, Litecoind
from tests.harness.cardano import CardanoHarness, a_ledger

from bursar.invoices.commands import Offer
from bursar.rails.cardano.networks import key_of
from bursar.server.rails import Rail
from bursar.server.watch import Change, Line, Sight, Watcher

pytestmark = pytest.mark.real
BURSAR = str(Path(sys.executable).with_name("bursar"))


@pytest.fixture(scope="module", params=[Litecoind, Btcd], ids=["litecoind", "btcd"])
def real(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[BitcoinNode]:
    with request.param(tmp_path_factory.mktemp("node")) as node:
        yield node


def watch(real: BitcoinNode, address: str, *options: str) -> subprocess.Popen[str]:
    command = [BURSAR, "watch", real.chain.name, address, "--source", real.url, *options]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_the_first_example() -> None:
    begun = time.monotonic()
    runpy.run_module("examples.01_watch_an_address", run_name="__main__")
    assert time.monotonic() - begun < 60


def test_what_an_address_received_in_words_and_for_a_time(real: BitcoinNode) -> None:
    address = real.address(50)
    txid = real.pay(address, 12_345_678)
    (block,) = real.mine()
    real.sweep(address)
    real.mine(5)
    said, wrong = watch(real, address, "--for", "6").communicate(timeout=40)
    assert not wrong
    included, final, known = said.splitlines()
    assert f"included    0.12345678 {real.chain.asset}, block" in included
    assert f"{block}, 6 confirmations, {txid}:0" in included
    assert " final " in final
    assert "source known: all is told up to block" in known


def test_it_ends_when_it_is_told_to(real: BitcoinNode) -> None:
    for how in (signal.SIGTERM, signal.SIGINT):
        with watch(real, real.address(51), "--jsonl") as process:
            assert process.stdout is not None
            assert json.loads(process.stdout.readline())["event"] == "source_known"
            process.send_signal(how)
            said, wrong = process.communicate(timeout=20)
            assert (process.returncode, said, wrong) == (0, "", "")


def test_it_ends_when_nobody_reads_its_lines(real: BitcoinNode) -> None:
    address = real.address(52)
    with watch(real, address, "--jsonl") as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.stdout.close()
        real.pay(address, 100_000)
        assert process.wait(20) == 0
        assert process.stderr is not None
        assert process.stderr.read() == ""


def test_a_node_that_can_not_be_asked_is_said_at_once(real: BitcoinNode) -> None:
    other = "bitcoin" if real.chain.chain == "litecoin" else "litecoin"
    foreign = {
        "bitcoin": "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080",
        "litecoin": "QVk4MvUu7Wb7tZ1wvAeiUvdF7wxhvpyLLK",
    }
    for rail, address, source, sentence in (
        (real.chain.name, real.address(), real.url.replace("password", "wrong"), "refuses the user or the password"),
        (f"{other}:regtest", foreign[other], real.url, f"the node is on {real.chain.name}, not on {other}:regtest"),
    ):
        command = [BURSAR, "watch", rail, address, "--source", source]
        out = subprocess.run(command, capture_output=True, text=True, timeout=30)
        assert (out.returncode, out.stdout) == (1, ""), out.stderr
        assert sentence in out.stderr
        assert "password@" not in out.stderr


def test_an_address_of_cardano() -> None:
    """The same lines, but the first sighting is a block. Koios is our fake; the ledger's rules are scalus'."""
    lines = list[Line]()
    with a_ledger() as ledger, CardanoHarness(ledger) as world:
        offer = Offer("ADA@" + world.rail, world.rail, "ADA", 6, 1, 3, 0, 15, lambda a: key_of(a, world.network))
        rail = Rail(world.rail, world.source(), offers=(offer,), scales={"ADA": 6})
        address = world.key()
        watcher = Watcher(rail, address, lines.append, world.now)

        async def story() -> None:
            await watcher.begin(None)
            for move in (world.mine, lambda: world.pay(address), world.mine, lambda: world.leave(1), world.mine):
                move()
                await watcher.turn()
            world.mine(3)
            await watcher.turn()
            await watcher.turn()

        asyncio.run(story())
    changes = [line.event for line in lines if isinstance(line, Change)]
    assert changes == ["included", "rolled_back", "included", "final"], lines
    assert [line.event for line in lines if isinstance(line, Sight)] == ["source_known"]
