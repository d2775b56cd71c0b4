"""The lines of `bursar watch`, from reads that are written here by hand."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Container, Sequence

import pytest
from msgspec import json as fast
from msgspec.structs import replace

from bursar.core.errors import Explained, RailDown
from bursar.core.facts import Batch, Cursor, Fact, Place, Watch
from bursar.core.money import Money
from bursar.core.outcomes import Unknown
from bursar.invoices.commands import Offer
from bursar.server.cli import app
from bursar.server.rails import Rail
from bursar.server.watch import Change, Line, Sight, Watcher, text

RAIL = "bitcoin:regtest"
SECOND = 1_000_000
BEGIN = 1_700_000_000 * SECOND


def at(position: int, block: str) -> Place:
    return Place(position, block, BEGIN)


class Script:
    """A source that says what it is told to say; each read is a second later than the one before."""

    def __init__(self) -> None:
        self.time, self.cursor = BEGIN, Cursor(100, ("b100",))
        self.next: tuple[Fact, ...] | str = ()
        self.scanned: tuple[Fact, ...] | str | None = ()
        self.rollback: int | None = None
        self.moves = True

    def now(self) -> int:
        return self.time

    async def follow(self, cursor: Cursor, keys: Container[str]) -> Batch | Unknown:
        self.time += SECOND
        if isinstance(self.next, str):
            return Unknown(self.next)
        self.cursor = replace(self.cursor, watermark=self.time if self.moves else cursor.watermark)
        found, self.next, rollback, self.rollback = self.next, (), self.rollback, None
        return Batch(self.cursor, found, rollback)

    async def scan(self, upto: Cursor, watches: Sequence[Watch]) -> Batch | Unknown:
        if self.scanned is None:
            raise RailDown("the line is cut")
        return Unknown(self.scanned) if isinstance(self.scanned, str) else Batch(upto, self.scanned)

    def mine(self, block: str, *found: Fact) -> None:
        self.cursor = replace(self.cursor, position=self.cursor.position + 1, trail=(block,))
        self.next = found

    def fork(self, above: int, block: str, *found: Fact) -> None:
        self.rollback = above
        branch = self.cursor.branch + 1
        self.cursor = Cursor(above + 1, (block,), branch, self.cursor.watermark)
        self.next = tuple(replace(fact, branch=branch) for fact in found)

    def fact(self, tx: str = "tx", place: Place | None = None, spends: str = "coin", pays: int = 5_000_000_000) -> Fact:
        money = Money("BTC", pays) if pays else None
        movement, keys = (f"{tx}:0", ("ours",)) if pays else (f"{tx}:in", (spends,))
        return Fact(RAIL, movement, tx, self.cursor.branch, self.time, 0, keys, (spends,), place, money=money)


def key_of(address: str) -> str:
    if address != "address":
        raise ValueError(f"{address!r} is not an address")
    return "ours"


class Stage:
    def __init__(self) -> None:
        self.script, self.lines = Script(), list[Line]()
        offer = Offer("BTC@" + RAIL, RAIL, "BTC", 11, 1_000, 2, SECOND, 10, key_of)
        self.rail = Rail(RAIL, self.script, offers=(offer,), scales={"BTC": 11}, blind_after=60 * SECOND)
        self.watcher = Watcher(self.rail, "address", self.lines.append, self.script.now)

    def begin(self, since: int | None = None) -> list[Line]:
        asyncio.run(self.watcher.begin(since))
        return self.turns(3)

    def turns(self, n: int = 1) -> list[Line]:
        self.lines.clear()
        for _ in range(n):
            asyncio.run(self.watcher.turn())
        return list(self.lines)

    def words(self) -> list[tuple[str, str, int | None]]:
        return [(line.event, line.movement, line.height) for line in self.turns() if isinstance(line, Change)]


@pytest.fixture
def stage() -> Stage:
    stage = Stage()
    stage.begin()
    return stage


def test_a_payment_from_the_mempool_to_its_last_block(stage: Stage) -> None:
    script = stage.script
    script.next = (script.fact(),)
    (line,) = stage.turns()
    assert json.loads(fast.encode(line)) == {
        "event": "seen",
        "rail": RAIL,
        "address": "address",
        "movement": "tx:0",
        "amount": {"asset": "BTC", "value": "0.05"},
        "block": None,
        "height": None,
        "confirmations": 0,
        "as_of": "2023-11-14T22:13:24Z",
    }
    script.mine("b101", script.fact(place=at(101, "b101")))
    (line,) = stage.turns()
    assert isinstance(line, Change)
    assert (line.event, line.block, line.height, line.confirmations) == ("included", "b101", 101, 1)
    script.mine("b102")
    (line,) = stage.turns()
    assert isinstance(line, Change)
    assert (line.event, line.block, line.confirmations) == ("final", "b101", 2)
    assert not stage.turns(3)


def test_reorganised_out_and_back_and_into_another_block(stage: Stage) -> None:
    script = stage.script
    script.mine("b101", script.fact(place=at(101, "b101")))
    assert stage.words() == [("included", "tx:0", 101)]
    script.fork(100, "x101")
    assert stage.words() == [("rolled_back", "tx:0", 101)]
    script.next = (script.fact(),)
    assert stage.words() == [("seen", "tx:0", None)]
    script.fork(100, "b101", script.fact(place=at(101, "b101")))
    assert stage.words() == [("included", "tx:0", 101)]
    script.fork(100, "y101", script.fact(place=at(101, "y101")))
    assert stage.words() == [("rolled_back", "tx:0", 101), ("included", "tx:0", 101)]
    script.mine("y102")
    assert stage.words() == [("final", "tx:0", 101)]
    script.fork(100, "z101", script.fact("rival", at(101, "z101"), pays=0))
    assert stage.words() == [("rolled_back", "tx:0", 101), ("replaced", "tx:0", None)]


def test_dropped_and_sent_again(stage: Stage) -> None:
    script = stage.script
    script.next = (script.fact(),)
    assert stage.words() == [("seen", "tx:0", None)]
    script.next = (replace(script.fact(), gone=True),)
    assert stage.words() == [("dropped", "tx:0", None)]
    script.next = (script.fact(),)
    assert stage.words() == [("seen", "tx:0", None)]


def test_replaced_by_what_pays_us_and_by_what_does_not(stage: Stage) -> None:
    script = stage.script
    script.next = (script.fact("first"), script.fact("other", spends="coin2"))
    assert [word for word, *_ in stage.words()] == ["seen", "seen"]
    script.next = (script.fact("second"), script.fact("rival", spends="coin2", pays=0))
    assert set(stage.words()) == {
        ("replaced", "first:0", None),
        ("seen", "second:0", None),
        ("replaced", "other:0", None),
    }
    script.mine("b101", script.fact("first", at(101, "b101")))
    assert ("included", "first:0", 101) in stage.words()


def test_a_reward_is_final_when_it_can_be_spent(stage: Stage) -> None:
    script = stage.script
    script.mine("b101", replace(script.fact(place=at(101, "b101")), matures=104))
    assert stage.words() == [("included", "tx:0", 101)]
    for height in (102, 103, 104):
        script.mine(f"b{height}")
        assert stage.words() == ([("final", "tx:0", 101)] if height == 104 else [])


def test_silence_is_a_line_and_so_is_its_end(stage: Stage) -> None:
    script = stage.script
    script.next = "the node does not answer"
    (line,) = stage.turns(3)
    assert isinstance(line, Sight)
    assert (line.event, line.reason, line.height) == ("source_unknown", "the node does not answer", 100)
    script.mine("b101", script.fact(place=at(101, "b101")))
    lines = stage.turns(2)
    assert [line.event for line in lines] == ["included", "source_known"]
    assert "block 101" in text(lines[1])


def test_a_scan_without_an_answer_is_silence_too() -> None:
    for scanned in ("those blocks are pruned", None):
        stage = Stage()
        stage.script.scanned = scanned
        (line,) = stage.begin(5)
        assert isinstance(line, Sight)
        assert (line.event, line.reason) == ("source_unknown", scanned or "the line is cut")
        stage.script.scanned = (stage.script.fact(place=at(50, "b50")),)
        assert [line.event for line in stage.turns(3)] == ["included", "final", "source_known"]


def test_a_source_that_answers_nothing_new_is_silent(stage: Stage) -> None:
    stage.script.moves = False
    assert not stage.turns(50)
    (line,) = stage.turns(20)
    assert isinstance(line, Sight)
    assert "nothing newer has been read for 60 seconds" in text(line)


def test_what_can_not_be_watched_is_said_at_once() -> None:
    stage = Stage()
    stage.watcher.address = "elsewhere"
    with pytest.raises(Explained, match="'elsewhere' is not an address"):
        stage.begin()
    stage = Stage()
    stage.script.next = "warming up"
    with pytest.raises(Explained, match="bitcoin:regtest can't be read: warming up"):
        stage.begin()


def test_it_needs_the_base_install_alone() -> None:
    code = (
        "import sys, bursar, bursar.server.cli, bursar.server.watch; "
        "print([m for m in ('psycopg', 'litestar', 'embit', 'grpc', 'uvicorn', 'bolt11') if m in sys.modules])"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=True)
    assert out.stdout.strip() == "[]"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["bitcoin:regtest", "nonsense", "--source", "http://127.0.0.1:1"], "'nonsense' is not an address"),
        (
            ["bitcoin:regtest", "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "--source", "http://127.0.0.1:1"],
            "is an address of bitcoin:mainnet, not of bitcoin:regtest",
        ),
        (["bitcoin:nonet", "x"], "there is no rail 'bitcoin:nonet'"),
        (["dogecoin:mainnet", "x"], "there is no rail 'dogecoin:mainnet'"),
        (["bitcoin:mainnet", "x"], "needs the address of one node"),
        (["bitcoin:mainnet", "x", "--source", "nothing"], "is not the address of a node"),
        (
            ["bitcoin:regtest", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "--source", "http://127.0.0.1:1"],
            "can't be read: no answer",
        ),
        (
            ["bitcoin:regtest", "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080", "--source", "http://127.0.0.1:1"]
            + ["--since", "-5"],
            "there is no block -5",
        ),
    ],
)
def test_the_command_says_what_is_wrong(arguments: list[str], sentence: str) -> None:
    with pytest.raises(Explained) as refused:
        app(["watch", *arguments])
    assert sentence in refused.value.sentence
    assert refused.value.hint
