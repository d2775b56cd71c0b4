"""The hostile Koios: its shapes against the published document, its traps K1 to K10, its chain against the ledger."""

from __future__ import annotations

import textwrap
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from jsonschema import Draft202012Validator
from tests.harness import missing

from bursar.testing.fakes import koios
from bursar.testing.fakes.koios import Backend, Fault, Kind, Koios
from bursar.testing.fakes.koios_chain import BLOCK_SECONDS, Chain, Pay, Wallet
from bursar.testing.fakes.koios_ledger import Ledger, Missing, Refused
from bursar.testing.fakes.koios_rows import CALLS, Registry, View

OPENAPI = Path(__file__).resolve().parents[3] / "shared/vectors/koios-openapi.yaml"
ADA = 1_000_000
TOKEN = b"TOK".hex()


@pytest.fixture(scope="module")
def ledger() -> Iterator[Ledger]:
    try:
        ledger = Ledger()
    except Missing as reason:
        missing(str(reason))
    yield ledger
    ledger.close()


class Net:
    """One world: a chain, a Koios with the given backends before it, a shop, and Alice who has 2,000 ADA."""

    def __init__(self, ledger: Ledger, *backends: Backend, seed: int = 1) -> None:
        self.chain = Chain(ledger, seed=seed)
        self.shop, self.alice = Wallet(self.chain, "shop"), Wallet(self.chain, "alice")
        self.chain.faucet.pay(Pay(self.alice.address, 1_000 * ADA), Pay(self.alice.address, 1_000 * ADA))
        self.chain.mine()
        self.koios = Koios(self.chain, backends or [Backend("one")], seed=seed, burst=10_000)
        self.http = httpx.Client(base_url=self.koios.url, timeout=5)

    def get(self, call: str, query: str = "") -> Any:
        return self.http.get(f"/{call}?{query}").raise_for_status().json()

    def post(self, call: str, query: str = "", **body: object) -> Any:
        return self.http.post(f"/{call}?{query}", json=body).raise_for_status().json()

    def outputs(self, *addresses: str, above: int = 0) -> list[str]:
        rows = self.post("address_outputs", _addresses=addresses, _after_block_height=above)
        return [row["tx_hash"] for row in rows]


@pytest.fixture
def net(ledger: Ledger) -> Iterator[Callable[..., Net]]:
    made: list[Net] = []

    def make(*backends: Backend, seed: int = 1) -> Net:
        made.append(Net(ledger, *backends, seed=seed))
        return made[-1]

    yield make
    for each in made:
        each.http.close()
        each.koios.close()


Make = Callable[..., Net]


# The published document

@pytest.fixture(scope="module")
def document() -> Any:
    if not OPENAPI.exists():
        pytest.skip("the published Koios document is not here: shared/vectors/koios-openapi.yaml beside the repository")
    return yaml.load(OPENAPI.read_bytes(), Loader=yaml.CSafeLoader)


def busy(net: Make) -> tuple[Net, dict[str, dict[str, Any]]]:
    """A chain with tokens, a sweep and a failed script, and a body for every call that has rows on it."""
    w = net()
    asset, blank = (w.alice.policy, TOKEN), (w.alice.policy, "")
    w.koios.registry.known[asset] = {"name": "Token", "ticker": "TOK", "decimals": 6}
    paid = w.alice.pay(Pay(w.shop.address, 2 * ADA, {asset: 5, blank: 7}), mint={TOKEN: 100, "": 7})
    w.chain.mine()
    w.shop.sweep(w.alice.address)
    failed = w.chain.submit(w.alice.build_failing(Pay(w.shop.address, 9 * ADA)))
    w.chain.mine()
    hashes = [block.hash for block in w.chain.tip.path()]
    flags = ("_inputs", "_metadata", "_assets", "_withdrawals", "_certs", "_scripts", "_bytecode", "_governance")
    both = [w.shop.address, w.alice.address]
    return w, {
        "tip": {},
        "blocks": {},
        "block_info": {"_block_hashes": hashes},
        "block_txs": {"_block_hashes": hashes},
        "tx_info": {"_tx_hashes": [paid, failed], **dict.fromkeys(flags, True)},
        "tx_status": {"_tx_hashes": [paid, failed, "00" * 31 + "ff"]},
        "address_utxos": {"_addresses": both, "_extended": True},
        "credential_utxos": {"_payment_credentials": [w.alice.cred], "_extended": True},
        "utxo_info": {"_utxo_refs": [f"{paid}#0", f"{paid}#1", "ff" * 32 + "#0"], "_extended": True},
        "address_outputs": {"_addresses": both, "_after_block_height": 0},
        "address_txs": {"_addresses": both, "_after_block_height": 0},
        "credential_txs": {"_payment_credentials": [w.alice.cred], "_after_block_height": 0},
        "asset_info": {"_asset_list": [list(asset), list(blank)]},
    }


def test_every_answer_fits_the_published_document(net: Make, document: Any) -> None:
    w, bodies = busy(net)
    assert bodies.keys() == CALLS.keys()
    for call, body in bodies.items():
        rows = w.post(call, **body) if body else w.get(call)
        described = document["paths"][f"/{call}"]["get" if not body else "post"]
        schema = described["responses"]["200"]["content"]["application/json"]["schema"]
        for row in rows:
            if row.get("child_hash", "") is None:  # the document forgets that the tip has no child, the SQL does not
                assert row["hash"] == w.chain.tip.hash
                row["child_hash"] = ""
            if row.get("parent_hash", "") is None:  # nor the first block a parent
                assert row["block_height"] == 0
                row["parent_hash"] = ""
        whole = {**schema, "components": document["components"]}
        errors = [f"{each.message} at {list(each.path)}" for each in Draft202012Validator(whole).iter_errors(rows)]
        assert rows and not errors, call
        fields = document["components"]["schemas"][schema["$ref"].rsplit("/", 1)[1]]["items"]["properties"]
        lately = {"block_height"} if call == "tip" else set()  # newer than the document
        assert set(rows[0]) == set(fields) | lately, call
        for name in ("outputs", "inputs"):
            puts = [put for row in rows for put in row.get(name, ())]
            assert all(set(put) == set(fields["outputs"]["items"]["properties"]) for put in puts)
        assert call != "tx_info" or (rows[0]["inputs"] and rows[0]["outputs"])


def test_every_call_takes_the_documented_arguments(document: Any) -> None:
    for name, call in CALLS.items():
        if call.method == "POST":
            ref = document["paths"][f"/{name}"]["post"]["requestBody"]["$ref"].rsplit("/", 1)[1]
            schema = document["components"]["requestBodies"][ref]["content"]["application/json"]["schema"]
            assert set(schema["properties"]) == set(call.args), name
            assert set(schema["required"]) == {arg for arg, default in call.args.items() if default is None}, name


# The chain and the ledger

def test_the_ledger_refuses_a_double_spend_and_both_can_be_built(net: Make) -> None:
    w = net()
    ref = next(iter(w.alice.holds()))
    first, second = (w.alice.build(Pay(address, 5 * ADA), spend=[ref]) for address in (w.shop.address, w.alice.address))
    w.chain.submit(first)
    with pytest.raises(Refused, match="[Mm]issing inputs"):
        w.chain.submit(second)
    w.chain.mine()
    with pytest.raises(Refused, match="[Mm]issing inputs"):
        w.chain.submit(second)
    w.chain.rollback(1, drop=list(w.chain.waiting) + [tx.id for tx in w.chain.tip.txs])
    assert w.chain.mine().txs == () and w.chain.submit(second)


@pytest.mark.parametrize("what", ["min-ADA", "expired", "no transaction"])
def test_the_ledger_refuses(net: Make, what: str) -> None:
    w = net()
    raws: dict[str, bytes] = {
        "min-ADA": w.alice.build(Pay(w.shop.address, 1_000)),
        "expired": w.alice.build(Pay(w.shop.address, ADA), ttl=w.chain.slot() - 1),
        "no transaction": b"\x80",
    }
    with pytest.raises(Refused):
        w.chain.submit(raws[what])
    assert not w.chain.waiting


def test_a_rollback_moves_a_payment_to_another_block_or_drops_it(net: Make) -> None:
    w = net()
    moved = w.alice.pay(Pay(w.shop.address, 5 * ADA))
    w.chain.mine()
    dropped = w.alice.pay(Pay(w.shop.address, 6 * ADA))
    before = w.chain.mine(2)
    old = w.post("tx_info", _tx_hashes=[moved])[0]
    w.chain.rollback(4, drop=[dropped])  # the block that paid Alice is gone too: its payment comes back first
    assert not w.post("tx_info", _tx_hashes=[moved])
    w.chain.mine(2, take=[])
    w.chain.mine(4)
    new = w.post("tx_info", _tx_hashes=[moved])[0]
    assert new["block_hash"] != old["block_hash"] and new["block_height"] != old["block_height"]
    assert not w.post("block_info", _block_hashes=[old["block_hash"]])
    assert [row["num_confirmations"] for row in w.post("tx_status", _tx_hashes=[moved, dropped])] == [3, None]
    w.chain.switch(before)
    assert w.post("tx_info", _tx_hashes=[moved])[0] == old  # the block that was left comes back as it was
    assert w.outputs(w.shop.address) == [dropped, moved]


def test_a_failed_script_leaves_its_collateral_only(net: Make) -> None:
    w = net()
    paid = w.alice.pay(Pay(w.shop.address, 9 * ADA))
    w.chain.mine()
    w.chain.rollback(1, drop=[paid])  # and the payer comes with one that fails instead
    failed = w.chain.submit(w.alice.build_failing(Pay(w.shop.address, 9 * ADA)))
    w.chain.mine()
    assert [each["num_confirmations"] for each in w.post("tx_status", _tx_hashes=[paid, failed])] == [None, 0]
    row = w.post("tx_info", _tx_hashes=[failed], _assets=True, _inputs=True, _scripts=True)[0]
    assert row["valid_contract"] is False
    assert [put["payment_addr"]["bech32"] for put in row["outputs"]] == [w.alice.address]
    assert row["outputs"] == row["collateral_output"] and row["outputs"][0]["tx_index"] == 2
    assert row["inputs"] == row["collateral_inputs"]
    assert not w.post("address_utxos", _addresses=[w.shop.address]) and not w.shop.holds()


@pytest.mark.parametrize("seed", range(3))
def test_the_index_agrees_with_the_ledger_on_every_branch(net: Make, seed: int) -> None:
    w = net(seed=seed)
    for turn in range(4):
        w.alice.pay(Pay(w.shop.address, 5 * ADA, {(w.alice.policy, TOKEN): 1}), mint={TOKEN: 2})
        w.chain.mine()
        if turn == 1:
            w.chain.fork("minority", 1)
        if turn == 2:
            w.shop.sweep(w.alice.address)
            w.chain.mine(branch="minority")
            w.chain.submit(w.alice.build_failing(Pay(w.shop.address, 9 * ADA)))
    for tip in w.chain.tips.values():
        for block in tip.path():
            view = View(block, Registry())
            unspent = {ref: out for ref, out in view.outs.items() if ref not in view.spent}
            assert unspent == w.chain.ledger.utxos(block.state)


def test_blocks_link_and_come_every_20_seconds(net: Make) -> None:
    w = net()
    w.chain.mine(5)
    rows = w.get("blocks", "order=block_height.asc&block_height=gte.1")
    for parent, child in zip(rows, rows[1:], strict=False):
        assert child["parent_hash"] == parent["hash"] and child["block_time"] - parent["block_time"] == BLOCK_SECONDS
    assert rows[0]["tx_count"] == 1 and rows[-1]["tx_count"] == 0
    assert w.get("tip")[0]["hash"] == w.chain.tip.hash == rows[-1]["hash"]


# The traps

def test_k1_assets_are_null_unless_extended(net: Make) -> None:
    w = net()
    paid = w.alice.pay(Pay(w.shop.address, 2 * ADA, {(w.alice.policy, ""): 7}), mint={"": 7})
    w.alice.pay(Pay(w.shop.address, 2 * ADA))
    w.chain.mine()
    assert [row["asset_list"] for row in w.post("address_utxos", _addresses=[w.shop.address])] == [None, None]
    lists = [row["asset_list"] for row in w.post("address_utxos", _addresses=[w.shop.address], _extended=True)]
    assert sorted(map(len, lists)) == [0, 1]
    plain, full = (w.post("tx_info", _tx_hashes=[paid], _assets=assets)[0] for assets in (False, True))
    assert [put["asset_list"] for put in plain["outputs"]] == [[], []] and plain["inputs"] == []
    token = next(put for put in full["outputs"] if put["payment_addr"]["bech32"] == w.shop.address)["asset_list"][0]
    assert (token["asset_name"], token["quantity"]) == ("", "7")


def test_k2_the_first_transaction_of_the_boundary_block_is_lost(net: Make) -> None:
    w = net()
    txs = [w.alice.pay(Pay(w.shop.address, 5 * ADA)) for _ in range(3)]
    height = w.chain.mine().height
    assert [tx.id for tx in w.chain.tip.txs] == txs
    assert set(w.outputs(w.shop.address, above=height)) == set(txs[1:])
    assert set(w.outputs(w.shop.address, above=height - 1)) == set(txs)
    rows = w.post("address_txs", _addresses=[w.shop.address], _after_block_height=height)
    assert {row["tx_hash"] for row in rows} == set(txs)


def test_k2_one_block_lower_does_not_help_where_that_block_is_empty(net: Make) -> None:
    w = net()
    w.chain.mine()
    paid = w.alice.pay(Pay(w.shop.address, 5 * ADA))
    height = w.chain.mine().height
    assert w.outputs(w.shop.address, above=height - 1) == []
    assert w.outputs(w.shop.address, above=height - 2) == [paid]


def test_k3_a_height_above_the_tip_gives_an_empty_array(net: Make) -> None:
    w = net(Backend("behind", lag_blocks=10))
    w.chain.mine(10)
    w.alice.pay(Pay(w.shop.address, 5 * ADA))
    w.chain.mine()
    assert w.outputs(w.alice.address) and w.outputs(w.alice.address, above=w.chain.tip.height - 1) == []


def test_k4_backends_disagree_and_one_is_on_a_fork(net: Make) -> None:
    w = net(Backend("main"), Backend("behind", lag_blocks=10), Backend("fork", branch="minority"))
    w.chain.mine(10)
    w.chain.fork("minority", 1)
    w.alice.pay(Pay(w.shop.address, 5 * ADA))
    w.chain.mine()
    w.chain.mine(2, branch="minority", take=[])
    tips = {w.get("tip")[0]["hash"] for _ in range(20)}
    assert tips == {w.koios.tip(backend).hash for backend in w.koios.backends} and len(tips) == 3
    found = [len(w.post("address_utxos", _addresses=[w.shop.address])) for _ in range(30)]
    assert 0 < sum(found) < 30
    answered = [asked.backend == "main" for asked in w.koios.log if asked.call == "address_utxos"]
    assert answered == [n == 1 for n in found]


def test_k5_each_backend_has_its_own_order(net: Make) -> None:
    w = net(Backend("a"), Backend("b"))
    w.alice.pay(*[Pay(w.shop.address, 2 * ADA)] * 20)
    w.chain.mine()
    answers = [w.post("address_outputs", _addresses=[w.shop.address]) for _ in range(9)]
    assert len({tuple(row["tx_index"] for row in rows) for rows in answers}) == 2
    total = "order=block_height.asc,tx_hash.asc,tx_index.asc"
    pages = [w.post("address_outputs", f"{total}&limit=7&offset={n}", _addresses=[w.shop.address]) for n in (0, 7, 14)]
    assert [row["tx_index"] for page in pages for row in page] == list(range(20))


def test_k6_a_page_ends_at_1000_rows(net: Make) -> None:
    w = net()
    for n in (150,) * 6 + (101,):
        w.alice.pay(*[Pay(w.shop.address, ADA)] * n)
    w.chain.mine()
    answer = w.http.post("/address_outputs", json={"_addresses": [w.shop.address]})
    assert (answer.status_code, len(answer.json()), answer.headers["content-range"]) == (200, 1_000, "0-999/*")
    count = {"Prefer": "count=estimated"}
    answer = w.http.post("/address_outputs?offset=1000", json={"_addresses": [w.shop.address]}, headers=count)
    assert (answer.status_code, len(answer.json()), answer.headers["content-range"]) == (206, 1, "1000-1000/1001")


def test_k7_a_swept_payment_shows_as_spent_and_in_no_utxo_list(net: Make) -> None:
    w = net()
    paid = w.alice.pay(Pay(w.shop.address, 5 * ADA))
    w.chain.mine()
    assert not w.post("utxo_info", _utxo_refs=[f"{paid}#0"])[0]["is_spent"]
    swept = w.shop.sweep(w.alice.address)
    w.chain.mine()
    assert w.post("address_utxos", _addresses=[w.shop.address]) == []
    assert [row["is_spent"] for row in w.post("address_outputs", _addresses=[w.shop.address])] == [True]
    assert w.post("utxo_info", _utxo_refs=[f"{paid}#0"])[0]["is_spent"]
    rows = w.post("address_txs", _addresses=[w.shop.address])
    assert [row["tx_hash"] for row in rows] == [swept, paid]


def test_k8_decimals_are_what_the_registry_cached(net: Make) -> None:
    w = net()
    right, unknown, fresh = ((w.alice.policy, name) for name in ("aa", "bb", "cc"))
    w.koios.registry.known[right] = {"decimals": 6}
    w.koios.registry.uncached.add(fresh)
    paid = w.alice.pay(Pay(w.shop.address, 2 * ADA, {right: 1, unknown: 1, fresh: 1}), mint=dict(aa=1, bb=1, cc=1))
    w.chain.mine()
    rows = w.post("address_utxos", _addresses=[w.shop.address], _extended=True)[0]["asset_list"]
    assert {row["asset_name"]: row["decimals"] for row in rows} == {"aa": 6, "bb": 0, "cc": None}
    minted = w.post("tx_info", _tx_hashes=[paid], _assets=True)[0]["assets_minted"]
    assert {row["asset_name"]: row["decimals"] for row in minted} == {"aa": 6, "bb": 0, "cc": 0}
    info = w.post("asset_info", _asset_list=[list(right), list(unknown), list(fresh)])
    assert {row["asset_name"]: bool(row["token_registry_metadata"]) for row in info} == {"aa": True, "bb": False}


def test_k9_refusals_are_json_objects_and_never_rows(net: Make) -> None:
    w = net()
    known = {"_addresses": [w.alice.address]}
    refusals: list[tuple[str, dict[str, Any], int, str]] = [
        ("tx_infos", {}, 404, "PGRST202"),
        ("tx_info", {"_tx_hash": []}, 404, "PGRST202"),
        ("tx_info", {}, 404, "PGRST202"),
        ("tx_info", {"_tx_hashes": "ab"}, 400, "22P02"),
        ("utxo_info", {"_utxo_refs": ["ab#x"]}, 400, "22P02"),
        ("address_txs?order=size.asc", known, 400, "42703"),
        ("address_txs?select=size", known, 400, "42703"),
        ("address_txs?block_height=over.3", known, 400, "PGRST100"),
        ("address_txs?block_height=gte.x", known, 400, "22P02"),
        ("address_txs?limit=all", known, 400, "PGRST100"),
    ]
    for target, body, status, code in refusals:
        answer = w.http.post(f"/{target}", json=body)
        assert (answer.status_code, answer.json()["code"]) == (status, code), target
        assert set(answer.json()) == {"code", "details", "hint", "message"}
    assert w.http.post("/tx_info", content=b"{").json()["code"] == "PGRST102"


def test_k10_the_burst_limit_is_per_call_and_lasts_a_minute(net: Make) -> None:
    w = net()
    w.koios.burst = 100
    statuses = [w.http.get("/tip").status_code for _ in range(102)]
    assert statuses == [200] * 100 + [429, 429]
    assert w.http.get("/blocks").status_code == 200
    w.chain.clock.now += 59
    refused = w.http.get("/tip")
    assert refused.status_code == 429 and refused.text.startswith("<html>") and "retry-after" not in refused.headers
    w.chain.clock.now += 1
    assert w.http.get("/tip").status_code == 200
    assert w.koios.calls == {"tip": 104, "blocks": 1}


# PostgREST, limits, faults

def test_filters_columns_and_orders(net: Make) -> None:
    w = net()
    w.alice.pay(Pay(w.shop.address, 5 * ADA))
    w.chain.mine(3)
    heights = {
        "block_height=gte.2": [4, 3, 2],
        "block_height=lt.2&order=block_height.asc": [0, 1],
        "block_height=in.(1,3)": [3, 1],
        "block_height=not.eq.2": [4, 3, 1, 0],
        "parent_hash=is.null": [0],
        "parent_hash=not.is.null&block_height=neq.4": [3, 2, 1],
        "or=(block_height.eq.1,and_more.eq.1)": None,
        "or=(block_height.eq.1,block_height.in.(3,4))": [4, 3, 1],
        "limit=2&offset=1": [3, 2],
        "order=parent_hash.desc.nullslast&limit=1&offset=4": [0],
    }
    for query, wanted in heights.items():
        answer = w.http.get(f"/blocks?{query}")
        if wanted is None:
            assert answer.status_code == 400, query
        else:
            assert [row["block_height"] for row in answer.json()] == wanted, query
    assert w.get("blocks", "select=hash,tx_count&limit=1") == [{"hash": w.chain.tip.hash, "tx_count": 0}]
    answer = w.http.get("/blocks?offset=9", headers={"Prefer": "count=exact"})
    assert (answer.status_code, answer.json()["code"]) == (416, "PGRST103")
    assert w.http.get("/blocks?offset=9").headers["content-range"] == "*/*"


def test_a_body_over_the_limit_is_refused(net: Make) -> None:
    w = net()
    bodies = {size: b'{"_tx_hashes":[]}'.ljust(size) for size in (1_024, 1_025, 5_120, 5_121)}
    statuses = [w.http.post("/tx_status", content=body).status_code for body in bodies.values()]
    assert statuses == [200, 413, 413, 413]
    bearer = {"Authorization": "Bearer x"}
    statuses = [w.http.post("/tx_status", content=body, headers=bearer).status_code for body in bodies.values()]
    assert statuses == [200, 200, 200, 413]


def test_faults_come_at_the_calls_named(net: Make) -> None:
    w = net()
    w.chain.mine(2)
    now = w.chain.clock.now

    def strike(kind: Kind) -> httpx.Response:
        w.koios.faults[:] = [Fault(kind, "blocks", first=w.koios.calls["blocks"] + 1, last=w.koios.calls["blocks"] + 1)]
        answer = w.http.get("/blocks")
        assert len(w.get("blocks")) == 4  # and the next call is well again
        return answer

    assert strike("empty").json() == []
    assert strike("html").status_code == 502 and strike("html").text.startswith("<html>")
    assert strike("database").status_code == 503 and strike("database").json()["code"] == "08006"
    assert isinstance(strike("object").json(), dict)
    assert [row["block_height"] for row in strike("duplicates").json()] == [3, 3, 2, 2, 1, 1, 0, 0]
    assert [row["block_height"] for row in strike("short").json()] == [3, 2, 1]
    cut = strike("truncated")
    assert cut.status_code == 200
    with pytest.raises(ValueError):
        cut.json()
    with pytest.raises(httpx.ReadError):
        strike("reset")
    assert strike("timeout").status_code == 504 and w.chain.clock.now == now + 30
    w.koios.faults[:] = [Fault("nulls")]
    assert w.post("address_utxos", _addresses=[w.alice.address], _extended=True)[0]["asset_list"] is None
    w.koios.faults[:] = [Fault("limit", "tip", first=1, last=1)]
    assert [w.http.get("/tip").status_code for _ in range(2)] == [429, 429]
    with pytest.raises(ValueError, match="no such fault"):
        Fault("html", "tipp")


@pytest.mark.parametrize("kind", ["drip", "hang"])
def test_slow_answers(net: Make, kind: Kind) -> None:
    w = net()
    w.koios.faults.append(Fault(kind, seconds=0.4))
    with pytest.raises(httpx.ReadTimeout):
        w.http.get("/blocks", timeout=0.01)
    if kind == "drip":
        assert len(w.get("blocks")) == 2
    else:
        with pytest.raises(httpx.RemoteProtocolError):
            w.http.get("/blocks")


def test_a_run_replays_from_its_seed(net: Make) -> None:
    def run(seed: int) -> tuple[list[Any], list[str]]:
        w = net(Backend("a"), Backend("b", lag_blocks=2), Backend("c"), seed=seed)
        w.koios.faults.append(Fault("empty", "address_utxos", one_in=3))
        w.koios.faults.append(Fault("html", backend="b", one_in=2))
        for _ in range(10):
            w.alice.pay(Pay(w.shop.address, 2 * ADA))
            w.chain.mine()
            w.http.get("/tip")
            w.http.post("/address_utxos", json={"_addresses": [w.shop.address]})
        return list(w.koios.log), [block.hash for block in w.chain.tip.path()]

    first, again, other = run(7), run(7), run(8)
    assert first == again and first[0] != other[0] and not set(first[1]) & set(other[1])
    assert {asked.fault for asked in first[0]} == {"", "empty", "html"}


def test_our_key_with_a_foreign_stake_part_is_another_address(net: Make) -> None:
    w = net()
    odd = w.shop.address_staked_by(w.alice)
    paid = w.alice.pay(Pay(odd, 5 * ADA))
    w.chain.mine()
    assert len(odd) == len(w.shop.address) == 108 and odd != w.shop.address
    assert w.outputs(w.shop.address) == [] and w.outputs(odd) == [paid]
    rows = w.post("credential_utxos", _payment_credentials=[w.shop.cred])
    assert [row["address"] for row in rows] == [odd]
    assert [row["tx_hash"] for row in w.post("credential_txs", _payment_credentials=[w.shop.cred])] == [paid]


def test_the_example_of_the_module_runs(ledger: Ledger, capsys: pytest.CaptureFixture[str]) -> None:
    code = textwrap.dedent(str(koios.__doc__).split("\n\n")[-1])
    names = {"closing": closing, "httpx": httpx, "Ledger": Ledger, "Chain": Chain, "Wallet": Wallet, "Pay": Pay}
    exec(code, names | {"Koios": Koios, "Backend": Backend, "Fault": Fault})
    assert "5000000" in capsys.readouterr().out


def test_nothing_answers_after_closing(net: Make) -> None:
    w = net()
    assert w.get("tip")
    w.koios.close()
    with pytest.raises(httpx.TransportError):
        w.http.get("/tip")
