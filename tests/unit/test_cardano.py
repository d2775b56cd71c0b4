"""The Cardano rail: addresses, what becomes a fact, back-scans by address, limits, switching between endpoints."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Sequence
from typing import Any

import pytest
from embit import bech32 as embit_bech32
from msgspec.structs import replace
from tests.harness.cardano import LOVELACE, CardanoHarness, a_ledger

from bursar.core.facts import Batch, Cursor, Fact, Watch
from bursar.core.outcomes import Unknown
from bursar.rails import bech32
from bursar.rails.cardano.koios import BURST, PAUSE, Endpoint, Silent, linked
from bursar.rails.cardano.networks import NETWORKS, key_of, tokens
from bursar.rails.cardano.source import NEAR, TRAIL, WIDTH, KoiosSource
from bursar.testing.fakes.koios import Backend, Fault, Kind
from bursar.testing.fakes.koios_chain import Pay
from bursar.testing.fakes.koios_ledger import Ledger

MAINNET, PREPROD, PREVIEW = (NETWORKS[name] for name in ("mainnet", "preprod", "preview"))
TOKEN = b"TOK".hex()
# CIP-19's own vectors: base, enterprise, pointer, stake
BASE = "addr1qx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgse35a3x"
ENTERPRISE = "addr1vx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzers66hrl8"
POINTER = "addr1gx2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer5pnz75xxcrzqf96k"
STAKE = "stake1uyehkck0lajq8gr28t9uxnuvgcqrc6070x3k9r8048z8y5gh6ffgw"
TESTNET = "addr_test1qz2fxv2umyhttkxyxp8x0dlpdt3k6cwng5pxj3jhsydzer3n0d3vllmyqwsx5wktcd8cc3sq835lu7drv2xwl2wywfgs68faae"
BYRON = (
    "37btjrVyb4KDXBNC4haBVPCrro8AQPHwvCMp3RFhhSVWwfFmZ6wwzSK6JK1hY6wHNmtrpTf1kdbva8TCneM2YsiXT7mrzT21EacHnPpz5YyUdj64na"
)


# Addresses


def test_an_address_is_watched_in_lower_case() -> None:
    assert key_of(BASE, MAINNET) == key_of(BASE.upper(), MAINNET) == BASE
    assert key_of(ENTERPRISE, MAINNET) == ENTERPRISE
    assert key_of(TESTNET, PREVIEW) == key_of(TESTNET, PREPROD) == TESTNET


@pytest.mark.parametrize(
    ("address", "why"),
    [
        (BASE[:-1] + "q", "checksum"),
        (BASE[:40] + BASE[40:].upper(), "mixes"),
        (TESTNET, "address of preprod or preview, not of mainnet"),
        (POINTER, "can be paid"),
        (STAKE, "can be paid"),
        (BYRON, "not a Cardano address"),
        ("bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4", "not a Cardano address"),
        ("", "not a Cardano address"),
        ("addr1", "not a Cardano address"),
    ],
)
def test_what_can_not_be_paid_is_refused_with_a_sentence(address: str, why: str) -> None:
    with pytest.raises(ValueError, match=why):
        key_of(address, MAINNET)


@pytest.mark.parametrize("left", [bech32.BECH32, bech32.BECH32M])
def test_bech32_agrees_with_another_implementation(left: int) -> None:
    encoding = {bech32.BECH32: embit_bech32.Encoding.BECH32, bech32.BECH32M: embit_bech32.Encoding.BECH32M}[left]
    for data in (b"", b"\0", bytes(range(57)), b"\xff" * 32):
        values = bech32.to_values(data)
        text = bech32.encode("addr_test", values, left)
        assert text == embit_bech32.bech32_encode(encoding, "addr_test", values)
        prefix, back, found = bech32.decode(text.upper())
        assert (prefix, bech32.to_bytes(back), found) == ("addr_test", data, left)
        with pytest.raises(ValueError, match="checksum"):
            bech32.decode(text[:-1] + ("q" if text[-1] != "q" else "p"))


def test_bits_of_padding_must_be_zero() -> None:
    for values in ([0, 1], [31]):
        with pytest.raises(ValueError, match="last character"):
            bech32.to_bytes(values)


def test_a_token_is_a_policy_and_a_name() -> None:
    policy = "ab" * 28
    assert tokens({"TOK": f"{policy}.{TOKEN}", "BLANK": f"{policy}."}) == {
        f"{policy}.{TOKEN}": "TOK",
        f"{policy}.": "BLANK",
    }
    for wrong in (policy, f"{policy}.TOK", f"{policy}{TOKEN}", f"{policy[2:]}.{TOKEN}", f"{policy}.{'ab' * 33}"):
        with pytest.raises(ValueError, match="a token is a policy"):
            tokens({"TOK": wrong})
    with pytest.raises(ValueError, match="one token"):
        tokens({"TOK": f"{policy}.", "KOT": f"{policy}."})
    with pytest.raises(ValueError, match="a token is a policy"):
        tokens({"ADA": f"{policy}."})


# Reading


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    with a_ledger() as ledger:
        yield ledger


@pytest.fixture
def make(ledger: Ledger) -> Iterator[Callable[..., CardanoHarness]]:
    made: list[CardanoHarness] = []

    def harness(*nets: Sequence[Backend], seed: int = 1) -> CardanoHarness:
        made.append(CardanoHarness(ledger, *nets, seed=seed))
        made[-1].timeout_seconds = 5
        return made[-1]

    yield harness
    for each in made:
        each.__exit__()


Make = Callable[..., CardanoHarness]


def run(what: Coroutine[Any, Any, Any]) -> Any:
    return asyncio.run(what)


async def batch_of(read: Awaitable[Batch | Unknown]) -> Batch:
    batch = await read
    assert isinstance(batch, Batch), batch
    return batch


async def why(read: Awaitable[Batch | Unknown]) -> str:
    answer = await read
    assert isinstance(answer, Unknown), answer
    return answer.reason


async def follow_all(source: KoiosSource, cursor: Cursor, keys: set[str]) -> tuple[Cursor, list[Fact]]:
    found: list[Fact] = []
    while True:
        batch = await batch_of(source.follow(cursor, keys))
        found += batch.found
        if batch.cursor == cursor:
            return cursor, found
        cursor = batch.cursor


def shown(facts: Sequence[Fact]) -> dict[str, tuple[str, int]]:
    return {fact.movement[64:]: (fact.money.asset, fact.money.minor) for fact in facts if fact.money}


def test_a_first_read_begins_at_the_tip(make: Make) -> None:
    async def case() -> None:
        h = make()
        h.mine(5)
        batch = await batch_of(h.source().follow(Cursor(), set()))
        path = [block.hash for block in h.chain.tip.path()]
        assert batch == Batch(Cursor(h.chain.tip.height, tuple(path[::-1]), 0, h.now()))
        batch = await batch_of(h.source().follow(Cursor(3), set()))
        assert (batch.cursor.position, batch.cursor.trail[-1]) == (3, path[-4])

    run(case())


def test_an_output_becomes_a_fact_an_asset(make: Make) -> None:
    async def case() -> None:
        h = make()
        shop, policy = h.key(), h.alice.policy
        source = h.source(tokens({"TOK": f"{policy}.{TOKEN}"}))
        cursor, _ = await follow_all(source, Cursor(), {shop})
        listed, unlisted = {(policy, TOKEN): 7}, {(policy, ""): 9, (policy, TOKEN): 1}
        pays = (Pay(shop, 5 * LOVELACE), Pay(shop, 2 * LOVELACE, listed), Pay(shop, 3 * LOVELACE, unlisted))
        tx = h.alice.pay(*pays, mint={TOKEN: 8, "": 9})
        h.mine()
        cursor, found = await follow_all(source, cursor, {shop})
        assert shown(found) == {
            "#0": ("ADA", 5 * LOVELACE),
            "#1/accompanying": ("ADA", 2 * LOVELACE),
            f"#1/{policy}.{TOKEN}": ("TOK", 7),
            "#2/accompanying": ("ADA", 3 * LOVELACE),
            f"#2/{policy}.": (f"{policy}.", 9),
            f"#2/{policy}.{TOKEN}": ("TOK", 1),
        }
        for fact in found:
            assert fact.movement.startswith(tx) and fact.keys == (shop,) and fact.spends and fact.matures == 0
            assert fact.place and fact.place.at == fact.as_of == cursor.watermark == h.now()
            assert fact.source == h.nets[0].url.split("/")[2]

    run(case())


def test_a_failed_script_pays_nobody(make: Make) -> None:
    async def case() -> None:
        h = make()
        shop, source = h.key(), h.source()
        keys = {shop, h.alice.address}  # who gets change of the collateral
        cursor, _ = await follow_all(source, Cursor(), keys)
        tx = h.chain.submit(h.alice.build_failing(Pay(shop, 9 * LOVELACE)))
        h.mine()
        _, found = await follow_all(source, cursor, keys)
        (fact,) = found
        assert fact.tx == tx and fact.money and fact.money.asset == "ADA.collateral"
        assert fact.keys == (h.alice.address,)

    run(case())


def test_whoever_spends_what_is_watched_is_seen(make: Make) -> None:
    async def case() -> None:
        h = make()
        shop, source = h.key(), h.source()
        cursor, _ = await follow_all(source, Cursor(), set())
        coin = h.pay(shop).movement
        h.mine()
        h.sweep(shop)
        h.mine()
        _, found = await follow_all(source, cursor, {coin})
        assert [(fact.keys, fact.money, fact.movement[64:]) for fact in found] == [((coin,), None, ":in")]

    run(case())


def test_our_key_with_a_foreign_stake_part_is_another_address(make: Make) -> None:
    async def case() -> None:
        h = make()
        shop, source = h.key(), h.source()
        cursor, _ = await follow_all(source, Cursor(), {shop})
        h.alice.pay(Pay(h.wallets[shop].address_staked_by(h.alice), 5 * LOVELACE))
        h.mine()
        assert (await follow_all(source, cursor, {shop}))[1] == []

    run(case())


def test_blocks_that_came_whole_are_kept_when_a_later_one_did_not(make: Make) -> None:
    async def case() -> None:
        h = make()
        shop, source = h.key(), h.source()
        cursor, _ = await follow_all(source, Cursor(), set())
        for _ in range(3):
            for _ in range(7):
                h.pay(shop)
            h.mine()
        h.nets[0].faults = [Fault("html", "tx_info", first=2)]  # 14 transactions a request
        first = await batch_of(source.follow(cursor, {shop}))
        assert first.cursor.position == cursor.position + 2 and len(first.found) == 14
        assert first.cursor.watermark == h.now() - 20_000_000
        assert "HTTP 502" in await why(source.follow(first.cursor, {shop}))
        h.nets[0].faults = []
        _, rest = await follow_all(source, first.cursor, {shop})
        assert len(rest) == 7

    run(case())


SPOILED: list[tuple[Kind, str, str]] = [
    ("empty", "blocks", "behind our cursor"),
    ("short", "blocks", "more may have been meant"),
    ("duplicates", "blocks", "more may have been meant"),
    ("empty", "block_txs", "not as many transactions"),
    ("empty", "tx_info", "not the transactions"),
    ("nulls", "tx_info", "Expected `array`, got `null`"),
    ("object", "tx_info", "Expected `array`, got `object`"),
    ("truncated", "tx_info", "another shape"),
    ("html", "blocks", "HTTP 502"),
    ("database", "block_txs", "HTTP 503"),
    ("limit", "blocks", "HTTP 429"),
    ("timeout", "tx_info", "HTTP 504"),
    ("reset", "tx_info", "no answer: ReadError"),
    ("hang", "blocks", "no answer"),
    ("drip", "blocks", "no answer within"),
]


@pytest.mark.parametrize(("kind", "call", "reason"), SPOILED, ids=lambda value: str(value)[:12])
def test_what_is_no_answer_is_unknown(make: Make, kind: Kind, call: str, reason: str) -> None:
    async def case() -> None:
        h = make()
        shop, source = h.key(), h.source()
        cursor, _ = await follow_all(source, Cursor(), {shop})
        h.pay(shop)
        h.mine()
        h.nets[0].faults = [Fault(kind, call, seconds=1)]
        source.endpoints[0].timeout = 0.2 if kind in ("hang", "drip") else 5
        assert re.search(reason, await why(source.follow(cursor, {shop})))

    run(case())


def test_a_transaction_of_another_branch_is_in_no_block_of_ours(make: Make) -> None:
    async def case() -> None:
        h = make()
        shop = h.key()
        cursor = await at_tip(h, h.source())
        h.chain.fork("minority", 0)
        paid = h.pay(shop)
        h.chain.mine(branch="minority")  # both branches have it
        h.mine(3)
        h.nets[0].backends += [Backend("fork", "minority")]
        answers = [await h.source().follow(cursor, {shop}) for _ in range(40)]
        batches = [answer for answer in answers if isinstance(answer, Batch)]
        facts = [(fact, batch) for batch in batches for fact in batch.found]
        assert {fact.movement for fact, _ in facts} == {paid.movement}
        assert all(fact.place and fact.place.hash in batch.cursor.trail for fact, batch in facts)
        assert "in another block" in " ".join(answer.reason for answer in answers if isinstance(answer, Unknown))

    run(case())


def test_headers_that_are_no_chain_are_no_answer(make: Make) -> None:
    async def case() -> None:
        h = make()
        h.mine(3)
        rows = await h.endpoints()[0].headers(0, 9)
        assert linked(rows) == rows and linked([]) == []
        for wrong in (rows[::-1], rows[:2] + rows[3:], [rows[0], replace(rows[1], parent_hash="ab" * 32)]):
            with pytest.raises(Silent, match="no chain"):
                linked(wrong)

    run(case())


def test_rows_that_are_missing_without_a_word_are_missed(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    """Also where no header says how many there are."""

    async def case() -> None:
        h = make()
        shop, source = h.key(), h.source()
        cursor, _ = await follow_all(source, Cursor(), {shop})
        h.pay(shop)
        h.mine()
        send = Endpoint.send

        async def no_span(self: Endpoint, *args: Any) -> tuple[int, str, bytes]:
            status, _, body = await send(self, *args)
            return status, "", body

        monkeypatch.setattr(Endpoint, "send", no_span)
        h.nets[0].faults = [Fault("short", "blocks")]
        assert await source.follow(cursor, {shop}) == Batch(cursor)  # as from a database that is behind
        for call, reason in (("block_txs", "not as many transactions"), ("tx_info", "not the transactions")):
            h.nets[0].faults = [Fault("short", call)]
            assert reason in await why(source.follow(cursor, {shop}))
        h.nets[0].faults = [Fault("duplicates", "block_txs"), Fault("duplicates", "tx_info")]
        assert len((await batch_of(source.follow(cursor, {shop}))).found) == 1

    run(case())


# Scans


async def at_tip(h: CardanoHarness, source: KoiosSource) -> Cursor:
    cursor, _ = await follow_all(source, Cursor(), set())
    return cursor


def test_an_old_payment_is_found_by_address(make: Make) -> None:
    """Also one that is spent, the first one of the boundary block, tokens, and what came with them."""

    async def case() -> None:
        h = make()
        keys = [h.key() for _ in range(20)]
        h.mine(3)
        start = h.chain.tip.height + 1
        first = h.pay(keys[0])  # the first transaction of its block
        h.alice.pay(Pay(keys[1], 2 * LOVELACE, {(h.alice.policy, TOKEN): 7}), mint={TOKEN: 7})
        h.mine()
        h.sweep(keys[0])
        h.mine(NEAR + 5)
        young = h.pay(keys[2])
        h.mine()
        source = h.source(tokens({"TOK": f"{h.alice.policy}.{TOKEN}"}))
        upto = await at_tip(h, source)
        before = h.nets[0].calls.copy()
        batch = await batch_of(source.scan(upto, [Watch(h.rail, key, start) for key in keys]))
        assert batch.cursor == upto
        assert {(fact.keys, fact.money) for fact in batch.found if fact.money and fact.money.asset == "ADA"} >= {
            ((keys[0],), first.money),
            ((keys[2],), young.money),
        }
        assert [fact.money.minor for fact in batch.found if fact.money and fact.money.asset == "TOK"] == [7]
        asked = h.nets[0].calls - before
        assert asked["address_outputs"] == 3  # seven addresses and the witness at a time
        assert all(fact.place and fact.place.hash in upto.trail and not fact.after for fact in batch.found)
        # from a later block on, it is another's affair
        batch = await batch_of(source.scan(upto, [Watch(h.rail, keys[0], start + 1)]))
        assert batch.found == ()

    run(case())


def test_a_young_watch_costs_nothing_where_the_blocks_were_just_read(make: Make) -> None:
    async def case() -> None:
        h = make()
        shop, source = h.key(), h.source()
        cursor, _ = await follow_all(source, Cursor(), set())
        payment = h.pay(shop)
        h.mine(5)
        cursor, _ = await follow_all(source, cursor, set())
        before = h.requests()
        batch = await batch_of(source.scan(cursor, [Watch(h.rail, shop, cursor.position - 4)]))
        assert [fact.movement for fact in batch.found] == [payment.movement] and h.requests() == before
        again = await batch_of(h.source().scan(cursor, [Watch(h.rail, shop, cursor.position - 4)]))
        assert [replace(fact, source="") for fact in again.found] == [replace(f, source="") for f in batch.found]

    run(case())


def test_absence_is_believed_only_of_a_database_that_shows_the_witness(make: Make) -> None:
    async def case() -> None:
        h = make()
        shop = h.key()
        h.chain.fork("minority", 0)
        paid = h.pay(shop)
        h.mine(NEAR + 5)
        h.chain.mine(NEAR, branch="minority", take=[])  # without the payment
        source = h.source()
        cursor = await at_tip(h, source)
        h.pay(h.key())
        h.mine()
        upto, _ = await follow_all(source, cursor, set())
        h.nets[0].backends += [Backend("behind", lag_blocks=3), Backend("fork", "minority")]
        answers = [await source.scan(upto, [Watch(h.rail, shop, 2)]) for _ in range(40)]
        found = [answer for answer in answers if isinstance(answer, Batch)]
        assert found and all([fact.movement for fact in batch.found] == [paid.movement] for batch in found)
        reasons = " ".join(answer.reason for answer in answers if isinstance(answer, Unknown))
        assert "does not hold our trail" in reasons and "whoever answered is behind" in reasons

    run(case())


@pytest.mark.parametrize(("empty", "reason"), [(1, "what address_outputs said"), (0, "on another branch")])
def test_what_a_search_found_must_stand_on_our_branch(make: Make, empty: int, reason: str) -> None:
    """A database on a fork has the payment in another block, higher up or beside ours."""

    async def case() -> None:
        h = make()
        shop = h.key()
        h.chain.fork("minority", 0)
        h.chain.mine(empty, branch="minority", take=[])
        paid = h.pay(shop)
        h.chain.mine(branch="minority")
        h.mine(NEAR + 1)
        source = h.source()
        cursor = await at_tip(h, source)
        h.pay(h.key())
        h.mine()
        upto, _ = await follow_all(source, cursor, set())
        h.nets[0].backends += [Backend("fork", "minority")]
        answers = [await source.scan(upto, [Watch(h.rail, shop, 2)]) for _ in range(30)]
        batches = [answer for answer in answers if isinstance(answer, Batch)]
        assert batches and all([fact.movement for fact in batch.found] == [paid.movement] for batch in batches)
        assert all(fact.place and fact.place.hash in upto.trail for batch in batches for fact in batch.found)
        assert reason in " ".join(answer.reason for answer in answers if isinstance(answer, Unknown))

    run(case())


def test_dust_over_many_pages_hides_nothing(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        monkeypatch.setattr("bursar.rails.cardano.source.PAGE", 50)  # of 1,000
        h = make()
        shop = h.key()
        paid = h.pay(shop)
        h.mine()
        for _ in range(6):
            h.alice.pay(*[Pay(shop, LOVELACE)] * 20)
            h.mine()
        h.mine(NEAR)
        h.pay(h.key())
        h.mine()
        source = h.source()
        upto = await at_tip(h, source)
        batch = await batch_of(source.scan(upto, [Watch(h.rail, shop, 2)]))
        assert len(batch.found) == 121 and paid.movement in {fact.movement for fact in batch.found}
        assert h.nets[0].calls["address_outputs"] >= 3
        monkeypatch.setattr("bursar.rails.cardano.source.PAGE", 15)
        assert "than can be paged through" in await why(source.scan(upto, [Watch(h.rail, shop, 2)]))

    run(case())


@pytest.mark.parametrize("call", ["blocks", "address_outputs", "tx_info"])
@pytest.mark.parametrize("kind", ["empty", "short", "html", "truncated"])
def test_a_scan_that_is_spoiled_finds_all_or_is_unknown(make: Make, kind: Kind, call: str) -> None:
    async def case() -> None:
        h = make()
        shop = h.key()
        paid = h.pay(shop)
        h.mine(NEAR + 1)
        h.pay(h.key())
        h.mine()
        source = h.source()
        upto = await at_tip(h, source)
        h.nets[0].faults = [Fault(kind, call)]
        answer = await source.scan(upto, [Watch(h.rail, shop, 2)])
        assert isinstance(answer, Unknown) or [fact.movement for fact in answer.found] == [paid.movement]
        h.nets[0].faults = []
        batch = await batch_of(source.scan(upto, [Watch(h.rail, shop, 2)]))
        assert [fact.movement for fact in batch.found] == [paid.movement]

    run(case())


# Forks, and who is asked


def test_a_chain_is_left_for_a_longer_one_only(make: Make) -> None:
    async def case() -> None:
        h = make()
        source = h.source()
        h.mine(5)
        cursor = await at_tip(h, source)
        left = h.chain.tip
        h.chain.rollback(3)
        h.chain.mine(3)
        assert "no longer than ours" in await why(source.follow(cursor, set()))
        h.chain.mine()
        batch = await batch_of(source.follow(cursor, set()))
        assert (batch.rollback, batch.cursor.branch, batch.cursor.position) == (left.height - 3, 1, left.height + 1)
        assert batch.cursor.watermark == h.now()

    run(case())


def test_a_fork_deeper_than_the_trail_is_said_to_be(make: Make) -> None:
    async def case() -> None:
        h = make()
        source = h.source()
        h.mine(TRAIL + 5)
        cursor = await at_tip(h, source)
        assert len(cursor.trail) == TRAIL
        h.chain.rollback(TRAIL + 1)
        h.chain.mine(TRAIL + 3)
        assert "deeper than our trail" in await why(source.follow(cursor, set()))

    run(case())


def test_another_endpoint_stands_in_and_stays(make: Make) -> None:
    async def case() -> None:
        h = make([Backend("a")], [Backend("b")])
        source = h.source()
        cursor = await at_tip(h, source)
        h.nets[0].faults = [Fault("html")]
        h.mine()
        batch = await batch_of(source.follow(cursor, set()))
        assert batch.cursor.position == cursor.position + 1
        before = h.nets[0].calls.copy()
        await batch_of(source.follow(batch.cursor, set()))
        assert h.nets[0].calls == before, "whoever answered last is asked first"

    run(case())


def test_who_only_stands_in_must_hold_our_block(make: Make) -> None:
    """It may be on a fork. Asked again, and first now, it is believed: the other one may never come back."""

    async def case() -> None:
        h = make([Backend("a")], [Backend("b", "other")])
        source = h.source()
        h.chain.fork("other", 1)
        cursor = await at_tip(h, source)
        h.chain.mine(3, branch="other", take=[])
        h.nets[0].faults = [Fault("html")]
        assert "only stands in" in await why(source.follow(cursor, set()))
        batch = await batch_of(source.follow(cursor, set()))
        assert batch.rollback == cursor.position - 1 and batch.cursor.trail[-1] == h.chain.tips["other"].hash

    run(case())


def test_of_two_branches_the_longer_one_is_read_and_else_none(make: Make) -> None:
    """They part right after the block that we stand on, so that neither contradicts us."""

    async def case() -> None:
        h = make([Backend("a", "minority")], [Backend("b")])
        shop, source = h.key(), h.source()
        h.chain.fork("minority", 0)
        cursor = await at_tip(h, source)
        paid = h.pay(shop)
        h.chain.mine(2, branch="minority", take=[])
        h.mine(2)
        for _ in range(3):
            assert "another branch that is as long" in await why(source.follow(cursor, {shop}))
        h.mine()
        answers = [await source.follow(cursor, {shop}) for _ in range(2)]
        batch = next(answer for answer in answers if isinstance(answer, Batch))
        assert [fact.movement for fact in batch.found] == [paid.movement] and batch.cursor.watermark == h.now()

    run(case())


def test_silence_waits_for_whoever_was_heard_of_lately(make: Make) -> None:
    """What is found is told at once; what is not found may be where the other one is."""

    async def case() -> None:
        h = make([Backend("a")], [Backend("b")])
        shop, source = h.key(), h.source()
        cursor = await at_tip(h, source)
        h.mine()
        cursor = (await batch_of(source.follow(cursor, set()))).cursor  # both are heard of
        h.chain.fork("minority", 0)
        h.pay(shop)
        h.mine()
        h.chain.mine(5, branch="minority", take=[])
        h.nets[0].backends, h.nets[1].faults = [Backend("a", "minority")], [Fault("html")]
        batch = await batch_of(source.follow(cursor, {shop}))
        assert batch.cursor.position == cursor.position + 5 and batch.cursor.watermark == cursor.watermark
        h.chain.clock.now += 301
        h.chain.mine(branch="minority", take=[])
        batch = await batch_of(source.follow(batch.cursor, {shop}))
        assert batch.cursor.watermark == h.chain.tips["minority"].time * 1_000_000

    run(case())


def test_who_is_stuck_where_we_are_is_left_for_another(make: Make) -> None:
    async def case() -> None:
        h = make([Backend("a", "stuck")], [Backend("b")])
        source = h.source()
        h.chain.fork("stuck", 0)
        cursor = await at_tip(h, source)
        h.mine(9)
        assert await source.follow(cursor, set()) == Batch(cursor)
        h.mine()
        batch = await batch_of(source.follow(cursor, set()))
        assert batch.cursor.position == cursor.position + WIDTH

    run(case())


def test_an_endpoint_of_another_network_is_not_read(make: Make) -> None:
    async def case() -> None:
        h = make()
        source = KoiosSource("cardano:preprod", PREPROD, h.endpoints(), {})
        assert "is no endpoint of cardano:preprod" in await why(source.follow(Cursor(), set()))

    run(case())


# Limits


def test_never_a_hundred_calls_in_ten_seconds(make: Make) -> None:
    async def case() -> None:
        h = make()
        endpoint, began = h.endpoints()[0], h.now()
        for _ in range(300):
            await endpoint.headers(0, 1)
        assert {asked.status for asked in h.nets[0].log} == {200}
        assert (300 - BURST - 2) / 8 <= (h.now() - began) / 1_000_000 <= 300 / 8

    run(case())


def test_a_429_is_answered_with_a_minute_of_peace(make: Make) -> None:
    async def case() -> None:
        h = make()
        endpoint = h.endpoints()[0]
        h.nets[0].faults = [Fault("limit", "blocks", first=1, last=1)]
        for reason in ("HTTP 429", "left in peace"):
            with pytest.raises(Silent, match=reason):
                await endpoint.headers(0, 1)
        assert h.nets[0].calls["blocks"] == 1
        assert await endpoint.tx_info(["00" * 32])  # another call has a counter of its own
        h.chain.clock.now += PAUSE / 1_000_000 + 1
        assert await endpoint.headers(0, 1)
        h.chain.clock.now -= 86_400  # a clock that was set back makes nobody wait
        before = h.now()
        assert await endpoint.tx_info(["00" * 32]) and h.now() == before

    run(case())


def test_a_413_halves_what_is_sent(make: Make) -> None:
    async def case() -> None:
        h = make()
        h.mine(WIDTH)
        endpoint = h.endpoints()[0]
        hashes = [f"{n:064x}" for n in range(1, 41)]
        assert [len(some) for some in endpoint.batches(hashes)] == [14, 14, 12]
        endpoint.budget = 2_000  # as if the limit were what it is not
        with pytest.raises(Silent, match="HTTP 413"):
            await endpoint.tx_info(next(iter(endpoint.batches(hashes))))
        assert [len(some) for some in endpoint.batches(hashes)] == [14, 14, 12]
        for some in endpoint.batches(hashes):
            assert await endpoint.tx_info(some) == []

    run(case())


def test_a_token_is_sent_and_allows_more(make: Make) -> None:
    async def case() -> None:
        h = make()
        url = h.nets[0].url.replace("http://", "http://:secret@")
        endpoint = Endpoint(url, h.now, h.sleep)
        assert "secret" not in f"{endpoint.url}{endpoint.name}"
        hashes = [f"{n:064x}" for n in range(1, 81)]
        assert [len(some) for some in endpoint.batches(hashes)] == [73, 7]
        assert await endpoint.tx_info(next(iter(endpoint.batches(hashes)))) == []
        await endpoint.close()

    run(case())


@pytest.mark.parametrize("url", ["", "api.koios.rest", "ftp://api.koios.rest", "https://", "https://[::"])
def test_a_malformed_address_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="looks like https://"):
        Endpoint(url, lambda: 0)


def test_a_full_page_is_no_answer(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        h = make()
        h.mine(9)
        monkeypatch.setattr("bursar.rails.cardano.koios.PAGE", 5)
        assert len(await h.endpoints()[0].headers(0, 4)) == 4
        with pytest.raises(Silent, match="more may have been meant"):
            await h.endpoints()[0].headers(0, 5)

    run(case())


def test_an_answer_without_end_is_cut_off(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    async def case() -> None:
        h = make()
        monkeypatch.setattr("bursar.rails.cardano.koios.ANSWER_LIMIT_BYTES", 100)
        with pytest.raises(Silent, match="more than 100 bytes"):
            await h.endpoints()[0].headers(0, 9)

    run(case())


def test_as_many_requests_for_any_number_of_watches(make: Make) -> None:
    """A block of 30 transactions: its header, its list, three times fourteen transactions, its header again."""

    async def case() -> None:
        h = make()
        keys = [h.key() for _ in range(2)]
        cursor = await at_tip(h, h.source())
        for _ in range(30):
            h.pay(keys[0])
        h.mine()
        asked = []
        for count in (100, 10_000):
            before = h.requests()
            batch = await batch_of(h.source().follow(cursor, {*keys, *map(str, range(count - 2))}))
            assert len(batch.found) == 30
            asked.append(h.requests() - before)
        assert asked == [6, 6]

    run(case())
