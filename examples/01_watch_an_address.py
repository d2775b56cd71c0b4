"""What a real address received, told by one command, without a database and without a key.

A payment is seen in the mempool, replaced by a higher fee, and mined although it was replaced; another is mined, taken
back by a reorganisation, and there again in the very same block; a third is received and swept while nobody watched.
The watcher is killed in the middle and started again, and the node falls silent for a while.

    python3 tools/setup.py real
    .venv/bin/python -m examples.01_watch_an_address
"""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any, Self

from tests.harness.bitcoin import Litecoind

Line = dict[str, Any]


class Watch:
    """`bursar watch … --jsonl` in a process of its own."""

    def __init__(self, node: Litecoind, address: str, since: int) -> None:
        self.rail = node.chain.name
        command = [str(Path(sys.executable).with_name("bursar")), "watch", node.chain.name, address]
        options = ["--source", node.url, "--since", str(since), "--jsonl"]
        self.process = subprocess.Popen(command + options, stdout=subprocess.PIPE, text=True)
        self.lines: queue.Queue[Line] = queue.Queue()
        threading.Thread(target=self.read, daemon=True).start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.put(json.loads(line))

    def expect(self, *events: str) -> list[Line]:
        """The next lines, which must be these; several payments may come in any order."""
        lines = [self.lines.get(timeout=20) for _ in events]
        for line in lines:
            amount = line["amount"]["value"] + " " + line["amount"]["asset"] if "amount" in line else line["reason"]
            print(f"{line['event']:15} {amount:40.40} {line.get('movement', '')[:8]} {line['height'] or ''}")
        assert sorted(line["event"] for line in lines) == sorted(events), lines
        return sorted(lines, key=lambda line: events.index(line["event"]))

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()


def replaced_by_fee_and_mined_all_the_same(node: Litecoind, watch: Watch, address: str) -> str:
    first = node.pay(address, 1_000_000)
    (seen,) = watch.expect("seen")
    assert seen["amount"] == {"asset": "LTC", "value": "0.01"}
    assert (seen["movement"], seen["block"], seen["confirmations"]) == (f"{first}:0", None, 0)
    second = node.replace(first, address, 900_000)
    replaced, seen = watch.expect("replaced", "seen")
    assert (replaced["movement"], seen["movement"]) == (f"{first}:0", f"{second}:0")
    (block,) = node.mine(only=[first])  # a miner who never heard of the replacement
    included, replaced = watch.expect("included", "replaced")
    assert (included["movement"], included["block"], replaced["movement"]) == (f"{first}:0", block, f"{second}:0")
    return first


def reorganised_and_back_in_the_same_block(node: Litecoind, watch: Watch, address: str) -> str:
    txid = node.pay(address, 2_000_000)
    watch.expect("seen")
    (block,) = node.mine()
    (included,) = watch.expect("included")
    assert (included["block"], included["confirmations"]) == (block, 1)
    left = node.reorg(1)
    rolled_back, _ = watch.expect("rolled_back", "seen")
    assert (rolled_back["movement"], rolled_back["block"]) == (f"{txid}:0", block)
    node.mine(2, on=left)
    (included,) = watch.expect("included")
    assert included["block"] == block
    return txid


def silent_for_a_while(node: Litecoind, watch: Watch) -> None:
    node.freeze()
    (unknown,) = watch.expect("source_unknown")
    assert "no answer" in unknown["reason"]
    node.thaw()
    watch.expect("source_known")


def received_and_swept_while_nobody_watched(node: Litecoind, address: str) -> str:
    txid = node.pay(address, 3_000_000)
    node.mine()
    node.sweep(address)
    node.mine(6)
    return txid


def main() -> None:
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as folder, Litecoind(Path(folder)) as node:
        address, since = node.address(), node.rpc("getblockcount")
        with Watch(node, address, since) as watch:
            watch.expect("source_known")
            first = replaced_by_fee_and_mined_all_the_same(node, watch, address)
            second = reorganised_and_back_in_the_same_block(node, watch, address)
            silent_for_a_while(node, watch)
            watch.kill()
        print("the watcher was killed")
        third = received_and_swept_while_nobody_watched(node, address)
        with Watch(node, address, since) as watch:
            lines = watch.expect(*["included"] * 3, *["final"] * 3, "source_known")
            told = {(line["event"], line["movement"]) for line in lines if "movement" in line}
            assert told == {(event, f"{txid}:0") for event in ("included", "final") for txid in (first, second, third)}
            assert min(line["confirmations"] for line in lines[:6]) >= node.chain.finality
    print(f"all of it was told, in {time.monotonic() - begun:.0f} seconds")


if __name__ == "__main__":
    main()
