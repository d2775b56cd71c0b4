"""The API, endpoint by endpoint, and what it refuses: a sentence each, and nothing half done."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from tests.harness.service import BANK, CHAIN, FOREIGN, WAY, House, house

from bursar.core.errors import CommitLost, Unusable
from bursar.core.subject import Decision, SubjectId

pytestmark = pytest.mark.anyio


async def refused(it: House, status: int, method: str, path: str, **more: Any) -> Any:
    """The problem document; nothing was written."""
    for _ in range(20):  # the loops go on meanwhile: what they write is not the request's doing
        before = it.facts()
        answer = await it.http.request(method, path, **more)
        if it.facts() == before:
            break
        await asyncio.sleep(0.1)
    assert answer.status_code == status, answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    problem = answer.json()
    assert problem["status"] == status and problem["title"] and len(problem["detail"]) > 8, problem
    assert "Traceback" not in answer.text
    assert it.facts() == before
    return problem


async def test_an_invoice_from_the_request_to_its_events(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        made = await it.invoice(price={"asset": "EUR", "value": "30.00"}, external_id="order-1", metadata={"a": "b"})
        assert (made["state"], made["mover"], made["reference_status"]) == ("awaiting_payer", "payer", "PENDING")
        way = made["ways"][0]
        assert way["expected"] == {"asset": "BTC", "value": "0.0005"} == way["due"] and way["price"] == "60000.00"
        tx = it.world.pay(way["address"], "0.0002")
        path = f"/v1/invoices/{made['id']}"
        part = await it.until(path, share_seen="2/5")
        assert part["flags"] == ["partial"] and part["ways"][0]["due"]["value"] == "0.0003" and "40 %" in part["why"]
        assert part["payments"][0]["txid"] == tx and part["payments"][0]["standing"] == "pending"
        it.world.pay(way["address"], "0.0003")
        it.world.mine(2)
        done = await it.until(path, state="settled")
        assert done["share_received"] == "1" and done["mover"] == "nobody" and done["reference_status"] == "CONFIRMED"
        assert [p["final"] for p in done["payments"]] == [True, True]
        rows = await it.get(path + "/timeline")
        assert {"spec", "decision", "fact", "event"} == {row["type"] for row in rows}
        assert [row["at"] for row in rows] == sorted(row["at"] for row in rows)
        listed = await it.get("/v1/invoices")
        assert listed == {"items": [done], "next": None}
        assert (await it.get("/v1/invoices", mover="payer"))["items"] == []


async def test_pages_by_key(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        ids = [(await it.invoice())["id"] for _ in range(5)]
        first = await it.get("/v1/invoices", limit=2)
        second = await it.get("/v1/invoices", limit=2, before=first["next"])
        third = await it.get("/v1/invoices", limit=2, before=second["next"])
        got = [item["id"] for page in (first, second, third) for item in page["items"]]
        assert got == ids[::-1] and third["next"] is None


async def test_the_same_words_are_the_same_invoice(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        body = {"price": {"asset": "BTC", "value": "1"}, "ways": [WAY], "external_id": "order-1"}
        one, again = [await it.http.post("/v1/invoices", json=body) for _ in range(2)]
        assert one.json()["id"] == again.json()["id"]
        other = body | {"price": {"asset": "BTC", "value": "2"}}
        assert "order-1" in (await refused(it, 409, "POST", "/v1/invoices", json=other))["detail"]
        del body["external_id"], other["external_id"]
        key = {"Idempotency-Key": "k1"}
        one, again = [await it.http.post("/v1/invoices", json=body, headers=key) for _ in range(2)]
        assert one.json()["id"] == again.json()["id"]
        await refused(it, 409, "POST", "/v1/invoices", json=other, headers=key)
        two = [await it.http.post("/v1/invoices", json=body) for _ in range(2)]
        assert len({answer.json()["id"] for answer in two}) == 2
        assert len({way["address"] for answer in two for way in answer.json()["ways"]}) == 2


async def test_many_who_ask_at_once_get_an_address_each(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        made = await asyncio.gather(*(it.invoice() for _ in range(40)))
        assert len({one["ways"][0]["address"] for one in made}) == 40


async def test_an_address_that_was_given_by_hand_is_stepped_over(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        body = {"price": PRICE, "ways": [{"way": WAY, "address": "demo0"}]}
        assert (await it.http.post("/v1/invoices", json=body)).status_code == 201
        made = [(await it.invoice())["ways"][0]["address"] for _ in range(2)]
        assert made == ["demo1", "demo2"]


async def test_an_act_that_is_asked_for_again_is_the_same_act(tmp_path: Path) -> None:
    """Although what it rested on has changed by it."""
    async with house(tmp_path) as it:
        made = await it.invoice()
        it.world.pay(made["ways"][0]["address"], "0.8")
        it.world.mine(2)
        over = await it.until(f"/v1/invoices/{made['id']}", state="settled", flags=["over"])
        act = {"action": "refund_excess", "reason": "too much", "payment": over["payments"][0]["id"], "txid": "ff"}
        path, key = f"/v1/invoices/{made['id']}/actions", {"Idempotency-Key": "r1"}
        answers = [await it.http.post(path, json=act, headers=key) for _ in range(2)]
        assert [answer.status_code for answer in answers] == [200, 200], answers[1].text
        assert answers[1].json()["flags"] == ["refunded"]
        await refused(it, 409, "POST", path, json=act)


async def test_one_address_is_of_one_invoice(tmp_path: Path) -> None:
    """It is watched for ever: one payment would count twice."""
    async with house(tmp_path) as it:
        body = {"price": {"asset": "BTC", "value": "0.5"}, "ways": [{"way": WAY, "address": "demo900"}]}
        first = (await it.http.post("/v1/invoices", json=body)).json()
        act = {"action": "cancel", "reason": "another one is asked for"}
        assert (await it.http.post(f"/v1/invoices/{first['id']}/actions", json=act)).status_code == 200
        problem = await refused(it, 409, "POST", "/v1/invoices", json=body)
        assert "another invoice is paid to this address" in problem["detail"]


FAR = f"BTC@{FOREIGN}"
PRICE = {"asset": "BTC", "value": "0.5"}
GOOD = "bcrt1qw508d6qejxtdg4y5r3zarvary0c5xw7kygt080"  # the program of BIP-173's examples, for regtest
MAINNET = "bc1qw508d6qejxtdg4y5r3zarvary0c5xw7kv8f3t4"
BAD: dict[str, tuple[int, str, dict[str, Any]]] = {
    "no price": (400, "price", {"ways": [WAY]}),
    "unknown field": (400, "colour", {"price": PRICE, "colour": "red"}),
    "unknown field inside": (400, "scale", {"price": PRICE | {"scale": 8}}),
    "a number for an amount": (400, "str", {"price": {"asset": "BTC", "value": 0.5}}),
    "malformed address": (422, "address", {"price": PRICE, "ways": [{"way": WAY, "address": "demo"}]}),
    "wrong network": (422, "bitcoin:mainnet", {"price": PRICE, "ways": [{"way": FAR, "address": MAINNET}]}),
    "wrong checksum": (422, GOOD[:-1], {"price": PRICE, "ways": [{"way": FAR, "address": GOOD[:-1] + "q"}]}),
    "unknown way": (422, "DOGE@moon", {"price": PRICE, "ways": ["DOGE@moon"]}),
    "unknown asset": (422, "no price in XYZ", {"price": {"asset": "XYZ", "value": "1"}, "ways": [WAY]}),
    "neither address nor key": (422, "has no address", {"price": PRICE, "ways": [FAR]}),
    "no way": (422, "needs a way", {"price": PRICE, "ways": []}),
    "a way twice": (422, "twice", {"price": PRICE, "ways": [WAY, WAY]}),
    "zero": (422, "greater than zero", {"price": {"asset": "BTC", "value": "0.000"}, "ways": [WAY]}),
    "negative": (422, "not a decimal", {"price": {"asset": "BTC", "value": "-1"}, "ways": [WAY]}),
    "not a number": (422, "not a decimal", {"price": {"asset": "BTC", "value": "1e3"}, "ways": [WAY]}),
    "window too short": (422, "window_seconds", {"price": PRICE, "ways": [WAY], "window_seconds": 59}),
    "window too long": (422, "window_seconds", {"price": PRICE, "ways": [WAY], "window_seconds": 2_592_001}),
    "tolerance": (422, "tolerance_ppm", {"price": PRICE, "ways": [WAY], "tolerance_ppm": 50_001}),
    "unknown preset": (422, "preset", {"price": PRICE, "ways": [WAY], "preset": "x"}),
    "external id too long": (422, "external_id", {"price": PRICE, "ways": [WAY], "external_id": "x" * 201}),
    "external id with a zero": (422, "external_id", {"price": PRICE, "ways": [WAY], "external_id": "a\0b"}),
}


async def test_invoices_that_make_no_sense(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        for case, (status, word, body) in BAD.items():
            problem = await refused(it, status, "POST", "/v1/invoices", json=body)
            assert word in problem["detail"], (case, problem)


async def test_more_decimals_than_the_rail_moves(tmp_path: Path) -> None:
    """No payment could hit it exactly; of a price in another asset what is due is rounded up."""
    async with house(tmp_path) as it:
        body = {"price": {"asset": "BTC", "value": "0.000000011"}, "ways": [WAY]}
        assert "finer" in (await refused(it, 422, "POST", "/v1/invoices", json=body))["detail"]
        fine = await it.invoice(price={"asset": "EUR", "value": "0.001"})
        assert fine["ways"][0]["expected"]["value"] == "0.00000002"
        paying = {"rail": BANK, "to": "payee", "amount": {"asset": "BTC", "value": "0.000000000001"}}
        assert "11 decimals" in (await refused(it, 422, "POST", "/v1/payouts", json=paying))["detail"]


async def test_requests_that_are_none(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        await refused(it, 400, "POST", "/v1/invoices", content=b"{", headers={"content-type": "application/json"})
        await refused(it, 413, "POST", "/v1/invoices", content=b"x" * 100_001)
        await refused(it, 404, "GET", "/v1/nothing")
        await refused(it, 405, "DELETE", "/v1/invoices")
        await refused(it, 400, "GET", "/v1/invoices", params={"mover": "nobody-else"})
        await refused(it, 400, "GET", "/v1/invoices", params={"limit": 101})
        await refused(it, 400, "GET", "/v1/events", params={"after": -1})
        await refused(it, 404, "GET", "/v1/invoices/inv_none")
        await refused(it, 404, "GET", "/v1/invoices/%00")
        await refused(it, 404, "GET", "/v1/payouts/po_none")
        await refused(it, 404, "GET", "/v1/invoices/inv_none/timeline")
        await refused(it, 404, "POST", "/v1/invoices/inv_none/actions", json={"action": "cancel", "reason": "x"})


async def test_who_may_ask(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        made = await it.invoice()
        mine = it.http
        for secret in ("", "bk_wrong"):
            async with it.client(secret) as it.http:
                for path in ("/v1/invoices", "/v1/payouts", "/v1/events", "/v1/alerts", "/v1/sources", "/v1/keys"):
                    problem = await refused(it, 401, "GET", path)
                    assert "API key" in problem["detail"]
                await refused(it, 401, "POST", "/v1/invoices", json={"price": PRICE})
        answer = await mine.post("/v1/keys", json={"tenant": "other", "label": "till 2"})
        secret, id = answer.json()["secret"], answer.json()["id"]
        async with it.client(secret) as it.http:
            await refused(it, 404, "GET", f"/v1/invoices/{made['id']}")
            await refused(it, 404, "GET", f"/v1/invoices/{made['id']}/timeline")
            cancel = {"action": "cancel", "reason": "mine now"}
            await refused(it, 404, "POST", f"/v1/invoices/{made['id']}/actions", json=cancel)
            assert (await it.get("/v1/invoices"))["items"] == []
            assert (await it.get("/v1/events"))["items"] == []
            await refused(it, 403, "GET", "/v1/keys")
            await refused(it, 403, "POST", "/v1/keys", json={"tenant": "main"})
            await it.invoice()
            assert [(await mine.post(f"/v1/keys/{id}/revoke")).status_code] == [204]
            await refused(it, 401, "GET", "/v1/invoices")
        it.http = mine
        keys = await it.get("/v1/keys")
        assert [(k["tenant"], k["role"], k["state"]) for k in keys] == [
            ("other", "tenant", "revoked"),
            ("main", "admin", "active"),
        ]
        assert secret not in json.dumps(keys)
        for name in ("", "system", "a b", "a/b"):
            await refused(it, 422, "POST", "/v1/keys", json={"tenant": name})
        await refused(it, 404, "POST", "/v1/keys/key_none/revoke")


async def test_the_first_key_is_its_owners_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        path = tmp_path / "admin.key"
        assert path.stat().st_mode & 0o777 == 0o600
        secret = path.read_text()
        await it.bursar.keys.first(tmp_path, "main")
        assert path.read_text() == secret
        assert secret.strip() not in repr(it.store.rows)


async def test_acts_on_an_invoice(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        made = await it.invoice()
        path = f"/v1/invoices/{made['id']}/actions"
        await refused(it, 400, "POST", path, json={"action": "burn", "reason": "x"})
        await refused(it, 400, "POST", path, json={"action": "cancel"})
        assert "reason" in (await refused(it, 422, "POST", path, json={"action": "cancel", "reason": " "}))["detail"]
        await refused(it, 409, "POST", path, json={"action": "accept", "reason": "x", "payment": "none"})
        key = {"Idempotency-Key": "act-1"}
        answers = [await it.http.post(path, json={"action": "cancel", "reason": "sold"}, headers=key) for _ in range(2)]
        assert [a.status_code for a in answers] == [200, 200] and answers[1].json()["state"] == "cancelled"
        await refused(it, 409, "POST", path, json={"action": "cancel", "reason": "sold"})
        await refused(it, 409, "POST", path, json={"action": "cancel", "reason": "else"}, headers=key)
        it.world.pay(made["ways"][0]["address"], "0.5")
        late = await it.until(f"/v1/invoices/{made['id']}", mover="operator")
        assert "accept it, or give it back" in late["why"]
        refund = {"action": "refund", "reason": "sent back", "payment": late["payments"][0]["id"]}
        assert "transaction" in (await refused(it, 409, "POST", path, json=refund))["detail"]
        done = (await it.http.post(path, json=refund | {"txid": "tx-back"})).json()
        assert done["mover"] == "nobody" and done["payments"][0]["refunded"]
        assert (done["ways"][0]["uri"], done["ways"][0]["due"]["value"]) == (None, "0")  # nobody is led to pay again
        again = {"action": "accept", "reason": "x", "payment": late["payments"][0]["id"]}
        assert "given back" in (await refused(it, 409, "POST", path, json=again))["detail"]


async def test_a_payout_is_paid_once(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        body = {"rail": BANK, "to": "payee-1", "amount": {"asset": "BTC", "value": "0.5"}, "external_id": "wage-1"}
        made = (await it.http.post("/v1/payouts", json=body)).json()
        assert made["amount"] == {"asset": "BTC", "value": "0.5"} and made["fee_limit"]["value"] == "0.005"
        path = f"/v1/payouts/{made['id']}"
        poor = await it.until(path, flags=["unfunded"])
        assert poor["mover"] == "operator" and it.world.rail.sent == 0
        await it.fund("1")
        done = await it.until(path, state="settled")
        assert done["why"] == "it has been paid"
        assert it.world.rail.sent == 1 and it.world.bank.effects("payee-1") == 1
        again = await it.http.post("/v1/payouts", json=body)
        assert again.json()["id"] == made["id"] and again.json()["state"] == "settled"
        await refused(it, 409, "POST", "/v1/payouts", json=body | {"to": "payee-2"})
        listed = (await it.get("/v1/payouts"))["items"]
        assert [item["id"] for item in listed] == [made["id"]]
        await refused(it, 409, "POST", path + "/actions", json={"action": "cancel", "reason": "too late"})
        await refused(it, 422, "POST", path + "/actions", json={"action": "close", "reason": "x"})
        assert it.world.rail.sent == 1


async def test_a_payout_leaves_only_from_what_the_ledger_knows(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        body = {"rail": BANK, "amount": {"asset": "BTC", "value": "2"}, "reason": "opening", "external_id": "o-1"}
        for _ in range(2):  # the same again is no news
            entered = (await it.http.post("/v1/balances", json=body)).json()
            assert entered == {
                "rail": BANK,
                "booked": {"asset": "BTC", "value": "2"},
                "reserved": {"asset": "BTC", "value": "0"},
                "available": {"asset": "BTC", "value": "2"},
            }
        await refused(it, 409, "POST", "/v1/balances", json=body | {"reason": "other words"})
        out = {"rail": BANK, "amount": {"asset": "BTC", "value": "0.5"}, "reason": "taken out", "direction": "out"}
        assert (await it.http.post("/v1/balances", json=out)).json()["available"]["value"] == "1.5"
        pay = {"rail": BANK, "to": "payee-1", "amount": {"asset": "BTC", "value": "1"}, "fee_limit": "0"}
        made = (await it.http.post("/v1/payouts", json=pay)).json()
        await it.until(f"/v1/payouts/{made['id']}", state="settled")
        (left,) = await it.get("/v1/balances")
        assert (left["booked"], left["reserved"]) == ({"asset": "BTC", "value": "0.5"}, {"asset": "BTC", "value": "0"})
        for wrong, word in (({"rail": "moon"}, "moon"), ({"reason": " "}, "reason"), ({"direction": "up"}, "up")):
            answer = await it.http.post("/v1/balances", json=body | wrong)
            assert answer.status_code in (400, 422) and word in answer.text, answer.text
        key = (await it.http.post("/v1/keys", json={"tenant": "shop", "role": "tenant"})).json()
        async with it.client(key["secret"]) as shop:  # a wallet is the house's: no tenant gives itself money
            assert (await shop.post("/v1/balances", json=out)).status_code == 403
            assert (await it.http.post("/v1/balances?tenant=shop", json=body)).status_code == 201
            assert (await shop.get("/v1/balances")).json()[0]["available"]["value"] == "2"
        assert (await it.http.post("/v1/balances?tenant=system", json=body)).status_code == 422


PAYOUTS: dict[str, tuple[int, str, dict[str, Any]]] = {
    "unknown rail": (422, "nothing can be paid on 'moon'", {"rail": "moon"}),
    "a rail that only looks": (422, CHAIN, {"rail": CHAIN}),
    "another asset": (422, "not EUR", {"amount": {"asset": "EUR", "value": "1"}}),
    "zero": (422, "greater than zero", {"amount": {"asset": "BTC", "value": "0"}}),
    "negative": (422, "not a decimal", {"amount": {"asset": "BTC", "value": "-0.1"}}),
    "foreign payee": (422, "no payee", {"to": "somebody"}),
    "more than there can be": (422, "than there can be", {"amount": {"asset": "BTC", "value": "99999999"}}),
    "a fee beyond everything": (422, "than there can be", {"fee_limit": "9" * 30}),
    "negative fee": (422, "not a decimal", {"fee_limit": "-1"}),
    "patience": (422, "patience_seconds", {"patience_seconds": 59}),
    "unknown field": (400, "memo", {"memo": "x"}),
    "external id": (422, "external_id", {"external_id": "a\nb"}),
}


async def test_payouts_that_make_no_sense(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        for case, (status, word, more) in PAYOUTS.items():
            body = {"rail": BANK, "to": "payee", "amount": {"asset": "BTC", "value": "0.5"}} | more
            problem = await refused(it, status, "POST", "/v1/payouts", json=body)
            assert word in problem["detail"], (case, problem)


async def test_a_payout_is_cancelled_before_it_leaves(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        body = {"rail": BANK, "to": "payee-1", "amount": {"asset": "BTC", "value": "0.5"}}
        made = (await it.http.post("/v1/payouts", json=body)).json()
        await it.until(f"/v1/payouts/{made['id']}", flags=["unfunded"])
        answer = await it.http.post(f"/v1/payouts/{made['id']}/actions", json={"action": "cancel", "reason": "left"})
        assert answer.json()["state"] == "cancelled" and "left" in answer.json()["why"]
        await it.fund("1")
        await it.until(f"/v1/payouts/{made['id']}", state="cancelled")
        assert it.world.rail.sent == 0


async def test_a_payout_that_is_asked_for_again_when_its_invoice_has_expired(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        body = {"rail": BANK, "to": "payee-expired", "amount": {"asset": "BTC", "value": "0.5"}, "external_id": "w"}
        await refused(it, 422, "POST", "/v1/payouts", json=body)


async def test_a_slow_rail_holds_up_nobody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As many payouts as can be at work wait for it."""
    monkeypatch.setattr("bursar.server.shell.BATCH", 2)
    async with house(tmp_path) as it:
        it.world.rail.slow = 6
        await it.fund("3")
        body = {"rail": BANK, "to": "payee-1", "amount": {"asset": "BTC", "value": "0.5"}}
        for _ in range(4):
            await it.http.post("/v1/payouts", json=body)
        await it.soon(lambda: it.world.rail.sent == 4)
        made = await it.invoice()
        it.world.pay(made["ways"][0]["address"], "0.5")
        await it.until(f"/v1/invoices/{made['id']}", seconds=2, share_seen="1")


async def test_events_page_by_page(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        made = [await it.invoice() for _ in range(4)]
        for one in made:
            it.world.pay(one["ways"][0]["address"], "0.5")
        it.world.mine(2)
        for one in made:
            await it.until(f"/v1/invoices/{one['id']}", state="settled")
        whole, seen, after = (await it.get("/v1/events"))["items"], list[Any](), 0
        while page := (await it.get("/v1/events", after=after, limit=3))["items"]:
            seen += page
            after = (await it.get("/v1/events", after=after, limit=3))["next"]
        assert seen == whole and len({event["id"] for event in whole}) == len(whole)
        for one in made:
            mine = [event for event in whole if event["subject"] == one["id"]]
            assert [event["version"] for event in mine] == sorted(event["version"] for event in mine)
            assert (mine[0]["type"], mine[-1]["state"]) == ("invoice.awaiting_payer.v1", "settled")
        assert (await it.get("/v1/events", after=after)) == {"items": [], "next": after}


async def test_health_and_sources(tmp_path: Path) -> None:
    async with house(tmp_path) as it, it.client() as it.http:
        assert await it.get("/livez") == {"status": "alive"}
        assert (await it.http.get("/metrics")).status_code == 200
        assert (await it.get("/readyz"))["ready"]
        it.world.source.silent = "the node is down"
        await it.soon(lambda: it.shell.silent)
        ready = await it.get("/readyz")
        assert ready["ready"] and ready["silent"] == {CHAIN: "the node is down"}
        assert f'bursar_silent{{name="{CHAIN}"}} 1.0' in (await it.http.get("/metrics")).text
        assert it.said == [f"{CHAIN} does not answer: the node is down"]
        it.world.source.silent = ""
        await it.soon(lambda: not it.shell.silent)
        assert it.said[1:] == [f"{CHAIN} answers again"]


async def test_sources_say_how_far_they_are(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.world.mine(3)
        await it.soon(lambda: it.store.rail(CHAIN).cursor.position == 3)
        rows = {row["rail"]: row for row in await it.get("/v1/sources")}
        assert set(rows) == {CHAIN, BANK} and rows[CHAIN]["position"] == 3
        assert rows[CHAIN]["state"] == "reading" and rows[CHAIN]["lag_seconds"] >= 0


async def test_a_fault_of_ours_has_a_reference(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    async with house(tmp_path) as it:
        it.bursar.invoices.create = None  # type: ignore[method-assign,assignment]
        problem = await refused(it, 500, "POST", "/v1/invoices", json={"price": PRICE})
        reference = problem["detail"].split()[-1]
        assert reference in capsys.readouterr().err


async def test_a_rail_is_read_anew_where_a_person_says_so(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        it.world.mine(5)
        await it.soon(lambda: it.store.rail(CHAIN).cursor.position == 5)
        path, act = f"/v1/sources/{CHAIN}/rebase", {"above": 3, "reason": "the chain has forked below all that we kept"}
        assert (await it.http.post(path, json=act, headers={"Idempotency-Key": "r1"})).status_code == 200
        await it.soon(lambda: it.store.rail(CHAIN).cursor.position == 5 and it.store.rail(CHAIN).cursor.branch == 1)
        said = it.store.rows[SubjectId("system", "source", CHAIN)].records[-1]
        assert isinstance(said, Decision) and (said.name, said.about) == ("rebased", "3")
        for wrong, status in (({"above": 9}, 422), ({"above": 0}, 422), ({"reason": " "}, 409)):
            await refused(it, status, "POST", path, json=act | wrong)
        await refused(it, 404, "POST", "/v1/sources/moon/rebase", json=act)


async def test_a_database_that_can_not_be_used_is_nobodys_mistake(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def dead(*_: object) -> Any:
        raise Unusable("PostgreSQL does not answer", "Start it again.")

    async def cut(*_: object) -> Any:
        raise CommitLost("the connection is gone")

    async with house(tmp_path) as it:
        body = {"price": PRICE, "ways": [WAY], "external_id": "order-1"}
        monkeypatch.setattr(it.store, "commit", cut)
        answer = await it.http.post("/v1/invoices", json=body)
        assert answer.status_code == 503 and "ask again" in answer.json()["hint"]
        monkeypatch.undo()
        assert (await it.http.post("/v1/invoices", json=body)).status_code == 201
        monkeypatch.setattr(it.store, "cursors", dead)
        for path in ("/readyz", "/v1/sources"):
            answer = await it.http.get(path)
            assert answer.status_code == 503 and "does not answer" in answer.json()["detail"]
        monkeypatch.undo()
