"""Money stories: what happens to one invoice, told line by line, with the state, the flags and the books after each.

Each story is compared with its golden file, which an accountant can read. To write them anew after a change that is
wanted: BURSAR_WRITE_GOLDEN=1."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from msgspec import json
from msgspec.structs import replace

from bursar.core.facts import Cursor, Fact, Place, Rollback
from bursar.core.money import Money, text_of
from bursar.core.ports import Refused, Seen
from bursar.core.steps import Decide
from bursar.core.subject import Decision, Record, Spec, Subject, SubjectId
from bursar.invoices import controller
from bursar.invoices.commands import ACTS, ActOnInvoice, act
from bursar.invoices.spec import Invoice, Way, quote

GOLDEN = Path(__file__).parent / "invoices"
SECOND = 1_000_000
BTC = Way("BTC@bitcoin", "bitcoin", "BTC", "script", "bc1shop", 8, 1, 3, 60 * SECOND, 90, 100, ("b100",))
USD = Way("USD@bitcoin", "bitcoin", "USD", "script", "bc1shop", 2, 1, 3, 60 * SECOND, 90, 100, ("b100",))
PRICES = {"BTC/EUR": "50000", "USD/EUR": "1"}


class Story:
    """One invoice, declared at 0 s in block 100, for 50 EUR: 0.001 BTC within 600 s."""

    def __init__(self, invoice: Invoice | None = None) -> None:
        invoice = invoice or Invoice("EUR", "50.00", (BTC,), 600, patience_seconds=3_600)
        first = quote(invoice, PRICES, 0)
        assert first is not None
        self.subject = Subject(SubjectId("shop", "invoice", "i1"))
        self.cursor, self.now, self.prices, self.lines = Cursor(100, ("b100",), 0, 0), 0, dict(PRICES), list[str]()
        self.add(
            Spec(1, json.encode(invoice), "api"),
            Decision("quote", "", "bursar", "as asked", 0, body=json.encode(first)),
        )
        self.say("asked for")

    def add(self, *records: Record) -> None:
        self.subject = self.subject.plus(*records)

    def say(self, what: str) -> None:
        """Let everything that is due be decided; then tell."""
        while isinstance(step := self.step(), Decide):
            k = sum(d.about == step.about for d in self.subject.decisions(step.name))
            self.add(Decision(step.name, step.about, "bursar", step.reason, self.now, k, body=step.body))
        status = controller.status(self.subject)
        books = [
            f"      {line.account:28} {text_of(line.minor, 8 if line.asset == 'BTC' else 2):>12} {line.asset}"
            for posting in status.postings
            for line in posting.lines
        ]
        flags = " ".join(sorted(status.flags))
        self.lines += [
            f"{self.now // SECOND:5} s  {what}",
            f"      {status.state}, {status.mover.value}  {flags}".rstrip(),
            *books,
        ]

    def step(self) -> object:
        seen = Seen(self.now, {"bitcoin": self.cursor}, self.prices)
        return controller.next_step(self.subject, controller.status(self.subject), seen)

    def at(self, seconds: int) -> Story:
        self.now = seconds * SECOND
        return self

    def read(self, block: int | None = None, blind: int = 0) -> Story:
        """The source is read: up to now, less the seconds for which it was blind."""
        position = self.cursor.position if block is None else block
        self.cursor = replace(self.cursor, position=position, watermark=self.now - blind * SECOND)
        self.say(f"read up to block {position}" + (f", blind for {blind} s" if blind else ""))
        return self

    def pays(self, tx: str, value: int, block: int | None = None, coin: str = "", **more: object) -> Story:
        place = Place(block, f"b{block}-{self.cursor.branch}", self.now) if block is not None else None
        fact = Fact(
            "bitcoin",
            f"{tx}:0",
            tx,
            self.cursor.branch,
            self.now,
            self.cursor.watermark,
            ("script",),
            (coin or f"coin-{tx}",),
            place,
            money=Money("BTC", value),
        )
        fact = replace(fact, **more)
        self.add(fact)
        money = fact.money
        assert money is not None
        amount = f"{text_of(money.minor, 8 if money.asset == 'BTC' else 2)} {money.asset}"
        self.say(f"{tx} pays {amount}, " + (f"in block {block}" if place else "waiting for a block"))
        return self

    def spends(self, tx: str, coin: str, block: int | None = None) -> Story:
        place = Place(block, f"b{block}-{self.cursor.branch}", self.now) if block is not None else None
        self.add(Fact("bitcoin", f"{tx}:in", tx, self.cursor.branch, self.now, 0, (coin,), (coin,), place))
        self.say(f"{tx} spends {coin}, " + (f"in block {block}" if place else "waiting for a block"))
        return self

    def reorg(self, above: int) -> Story:
        branch = self.cursor.branch + 1
        self.cursor = replace(self.cursor, position=above, branch=branch)
        self.add(Rollback("bitcoin", above, branch))
        self.say(f"the chain takes back its blocks above {above}")
        return self

    def act(self, name: str, about: str = "", body: bytes = b"") -> Story:
        command, word = f"c{len(self.lines)}", next((word for word in ACTS if ACTS[word] == name), None)
        record = Decision(name, about, "anna", "she said so", self.now, body=body, command=command)
        if word:
            request = ActOnInvoice(word, "she said so", about, body.decode())
            record = act(self.subject, request, "anna", command, self.now)
        refused = controller.admit(self.subject, record)
        if isinstance(refused, Refused):
            self.lines += [
                f"{self.now // SECOND:5} s  anna: {name} {about}".rstrip(),
                f"      refused: {refused.reason}",
            ]
        else:
            self.add(record)
            self.say(f"anna: {name} {about}".rstrip())
        return self


def tolerant() -> Story:
    return Story(Invoice("EUR", "50.00", (BTC,), 600, tolerance_ppm=20_000, over_ppm=20_000))


def requoted() -> Story:
    s = Story(Invoice("EUR", "50.00", (BTC,), 600, repricings=1))
    s.prices = {"BTC/EUR": "40000"}
    s.at(700).read().at(710).pays("a", 125_000).at(720).pays("a", 125_000, 101)
    return s.at(900).read(103)


def no_price() -> Story:
    s = Story(Invoice("EUR", "50.00", (BTC,), 600, repricings=1))
    s.prices = {}
    s.at(700).read().at(800).read()
    s.prices = {"BTC/EUR": "40000"}
    return s.at(900).read()


STORIES: dict[str, Callable[[], Story]] = {
    "paid on time": lambda: Story().at(30).pays("a", 100_000).at(90).pays("a", 100_000, 101).at(300).read(103),
    "paid in two parts": lambda: (
        Story().at(30).pays("a", 33_333).at(60).pays("b", 66_667, 101).at(90).pays("a", 33_333, 102).at(400).read(104)
    ),
    "first seen in a block": lambda: Story().at(300).pays("a", 100_000, 102).at(400).read(104),
    "seen in time and mined late": lambda: (
        Story().at(595).read().at(599).pays("a", 100_000).at(700).read().at(5_000).pays("a", 100_000, 103).read(105)
    ),
    "short": lambda: (
        Story()
        .at(30)
        .pays("a", 70_000, 101)
        .at(300)
        .read(103)
        .at(700)
        .read(104)
        .at(800)
        .act("cancelled")
        .act("accepted_short")
    ),
    "short and topped up late": lambda: (
        Story()
        .at(30)
        .pays("a", 70_000, 101)
        .at(700)
        .read(104)
        .at(900)
        .pays("b", 30_000, 105)
        .read(107)
        .act("accepted", "b:0")
    ),
    "a little short": lambda: tolerant().at(30).pays("a", 98_000, 101).at(300).read(103),
    "a little short of a little short": lambda: (
        tolerant().at(30).pays("a", 97_999, 101).at(300).read(103).at(700).read(104)
    ),
    "over": lambda: (
        Story()
        .at(30)
        .pays("a", 130_000, 101)
        .at(300)
        .read(103)
        .act("refunded_excess", "a:0")
        .act("refunded_excess", "a:0", b"tx-back")
        .act("refunded_excess", "a:0", b"tx-back")
    ),
    "a little over": lambda: tolerant().at(30).pays("a", 102_000, 101).at(300).read(103),
    "paid twice": lambda: (
        Story()
        .at(30)
        .pays("a", 100_000, 101)
        .at(300)
        .read(103)
        .at(310)
        .pays("b", 100_000, 104)
        .read(106)
        .act("refunded", "b:0", b"tx-back")
    ),
    "late": lambda: Story().at(700).read().at(800).pays("a", 100_000, 101).at(900).read(103).act("accepted", "a:0"),
    "late and given back": lambda: (
        Story()
        .at(700)
        .read()
        .at(800)
        .pays("a", 100_000, 101)
        .at(900)
        .read(103)
        .act("refunded", "a:0", b"tx-back")
        .act("refunded", "a:0", b"tx-back")
    ),
    "not paid": lambda: Story().at(500).read().at(620).read().at(661).read(),
    "a blind source expires nothing": lambda: (
        Story()
        .at(5_000)
        .read(blind=4_500)
        .at(5_100)
        .pays("a", 100_000, 101, after=500 * SECOND, place=Place(101, "b", 640 * SECOND))
        .read(103)
    ),
    "blind for days is no free option": lambda: (
        Story().at(500_000).pays("a", 100_000, 900, after=500 * SECOND).read(902)
    ),
    "wrong asset": lambda: (
        Story()
        .at(30)
        .pays("a", 5_000, 101, money=Money("USD", 5_000))
        .at(700)
        .read(104)
        .act("accepted", "a:0")
        .act("refunded", "a:0", b"tx-back")
    ),
    "two assets at one address": lambda: (
        Story(Invoice("EUR", "50.00", (BTC, USD), 600))
        .at(30)
        .pays("a", 50_000, 101)
        .pays("b", 2_500, 101, money=Money("USD", 2_500))
        .at(300)
        .read(103)
    ),
    "a token and what travels beside it": lambda: (
        Story(Invoice("EUR", "50.00", (BTC, USD), 600))
        .at(30)
        .pays("a", 5_000, 101, money=Money("USD", 5_000))
        .pays("a", 100, 101, movement="a:0/accompanying")
        .at(300)
        .read(103)
    ),
    "a token, where what travels beside it was not asked for": lambda: (
        Story(Invoice("EUR", "50.00", (USD,), 600))
        .at(30)
        .pays("a", 5_000, 101, money=Money("USD", 5_000))
        .pays("a", 100, 101, movement="a:0/accompanying")
        .at(300)
        .read(103)
    ),
    "from before": lambda: Story().at(5).pays("old", 100_000, 95).at(30).read().at(700).read(),
    "replaced": lambda: Story().at(30).pays("a", 100_000).at(40).spends("thief", "coin-a").at(700).read(),
    "the original mined after all": lambda: (
        Story()
        .at(30)
        .pays("a", 100_000)
        .at(40)
        .spends("thief", "coin-a")
        .at(90)
        .pays("a", 100_000, 101)
        .at(300)
        .read(103)
    ),
    "replaced by one that pays less": lambda: (
        Story()
        .at(30)
        .pays("a", 100_000)
        .at(40)
        .pays("b", 60_000, coin="coin-a")
        .at(90)
        .pays("b", 60_000, 101, coin="coin-a")
        .at(700)
        .read(103)
    ),
    "reorged before it was final": lambda: (
        Story().at(30).pays("a", 100_000, 101).at(60).reorg(100).at(90).pays("a", 100_000, 101).at(300).read(103)
    ),
    "reorged after it was settled, and back": lambda: (
        Story().at(30).pays("a", 100_000, 101).at(300).read(103).at(310).reorg(100).at(330).pays("a", 100_000, 101)
    ),
    "reorged after it was settled, and taken": lambda: (
        Story()
        .at(30)
        .pays("a", 100_000, 101)
        .at(300)
        .read(103)
        .at(310)
        .reorg(100)
        .at(330)
        .spends("thief", "coin-a", 101)
        .act("written_off", "a:0")
    ),
    "left the mempool": lambda: Story().at(30).pays("a", 100_000).at(90).pays("a", 100_000, gone=True).at(700).read(),
    "in no block for hours": lambda: (
        Story().at(30).pays("a", 100_000).at(4_300).read().at(9_000).pays("a", 100_000, 120).read(122)
    ),
    "in no block, and written off": lambda: (
        Story().at(30).pays("a", 100_000).at(4_300).read().act("written_off", "a:0").at(9_000).pays("a", 100_000, 120)
    ),
    "cancelled, and accepted when it was paid all the same": lambda: (
        Story().at(30).act("cancelled").at(60).pays("a", 100_000, 101).at(300).read(103).act("accepted", "a:0")
    ),
    "mined to us": lambda: Story().at(30).pays("a", 100_000, 101, matures=200).at(300).read(103).at(50_000).read(200),
    "cancelled": lambda: (
        Story()
        .at(30)
        .act("cancelled")
        .at(60)
        .pays("a", 100_000, 101)
        .at(300)
        .read(103)
        .act("refunded", "a:0", b"tx-back")
    ),
    "cancelled, and an older act is not about the money that came": lambda: (
        Story()
        .at(5)
        .pays("old", 5_000, 95)
        .act("accepted", "old:0")
        .act("refunded", "old:0", b"tx-back")
        .act("cancelled")
        .at(60)
        .pays("b", 100_000, 101)
        .at(300)
        .read(103)
    ),
    "written off, settled all the same, and taken back": lambda: (
        Story()
        .at(30)
        .pays("a", 100_000)
        .act("written_off", "a:0")
        .at(60)
        .pays("a", 100_000, 101)
        .at(300)
        .read(103)
        .at(310)
        .reorg(100)
        .act("written_off", "a:0")
    ),
    "its block came back after it had expired": lambda: (
        Story()
        .at(700)
        .read(103)
        .at(720)
        .reorg(100)
        .pays("a", 100_000, 101, place=Place(101, "b101-back", 30 * SECOND))
        .at(900)
        .read(104)
        .act("accepted", "a:0")
    ),
    "a new quote": requoted,
    "no price for a new quote": no_price,
    "acts that make no sense": lambda: (
        Story().act("accepted", "x:0").act("accepted_short").act("vanish").act("refunded", "x:0")
    ),
}


@pytest.mark.parametrize("name", STORIES)
def test_story(name: str) -> None:
    told = "\n".join([name, "", *STORIES[name]().lines, ""])
    golden = GOLDEN / f"{name.replace(',', '').replace(' ', '-')}.txt"
    if os.environ.get("BURSAR_WRITE_GOLDEN"):
        GOLDEN.mkdir(exist_ok=True)
        golden.write_text(told)
    assert told == golden.read_text()


def test_no_golden_file_is_left_over() -> None:
    names = {f"{name.replace(',', '').replace(' ', '-')}.txt" for name in STORIES}
    assert {path.name for path in GOLDEN.iterdir()} == names
