"""The console: who gets in, what comes first, what a page says. How it looks in a browser: tests/browser."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from tests.harness.service import CHAIN, House, house

from bursar.server.http.auth import Caller

pytestmark = pytest.mark.anyio


@asynccontextmanager
async def console(it: House, tenant: str = "main") -> AsyncIterator[httpx.AsyncClient]:
    """Somebody who has logged in by a link."""
    async with it.client() as browser:
        token = it.sessions.link(Caller("console", tenant, "admin"))
        assert (await browser.post("/login", data={"token": token})).status_code == 303
        yield browser


async def short_paid(it: House, **more: Any) -> Any:
    """An invoice with a part of its price: it waits for its payer."""
    made = await it.invoice(**more)
    it.world.pay(made["ways"][0]["address"], "0.2")
    return await it.until(f"/v1/invoices/{made['id']}", share_seen="2/5")


async def needs_a_person(it: House, **more: Any) -> Any:
    """An invoice that was cancelled, and then paid."""
    made = await it.invoice(**more)
    path = f"/v1/invoices/{made['id']}"
    await it.http.post(path + "/actions", json={"action": "cancel", "reason": "sold out"})
    it.world.pay(made["ways"][0]["address"], "0.5")
    await it.until(path, mover="operator")
    name = next(n for n in it.store.rows if n.id == made["id"])
    await it.soon(lambda: (status := it.store.rows[name].status) and status.mover.value == "operator")
    return made


async def test_who_gets_in(tmp_path: Path) -> None:
    async with house(tmp_path) as it, it.client() as stranger:
        for path in ("/", "/subjects/main/invoice/x"):
            answer = await stranger.get(path)
            assert answer.status_code == 401 and "bursar login" in answer.text
        url = (await it.http.post("/v1/login-links")).json()["url"]
        token = url.split("token=")[1]
        for _ in range(2):  # a preview of the link does not use it up
            assert "The link works once" in (await stranger.get("/login", params={"token": token})).text
        answer = await stranger.post("/login", data={"token": token})
        cookie = answer.headers["set-cookie"]
        assert answer.status_code == 303 and "HttpOnly" in cookie and "samesite=strict" in cookie.lower()
        assert (await stranger.get("/")).status_code == 200
        async with it.client() as second:
            assert (await second.post("/login", data={"token": token})).status_code == 401
            assert (await second.post("/login", data={"token": ""})).status_code == 401


async def test_what_a_page_says(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        evil = "<script>alert(1)</script>"
        made = await short_paid(it, external_id=evil)
        path = f"/subjects/main/invoice/{made['id']}"
        async with console(it) as browser:
            for url in ("/", path):
                answer = await browser.get(url)
                assert answer.status_code == 200 and "script" not in answer.headers["content-security-policy"]
                assert "default-src 'none'" in answer.headers["content-security-policy"]
                assert answer.headers["cache-control"] == "no-store"
                assert "<script" not in answer.text and "style=" not in answer.text and "As of " in answer.text
                assert "&lt;script&gt;" in answer.text and "UTC" in answer.text
            page = (await browser.get(path)).text
            assert "40 % of the price is here" in page and 'aria-label="40 % pending, 60 % missing"' in page
            rects = re.findall(r'<rect class="(pending|missing)" x="([^"]+)" width="([^"]+)"', page)
            assert rects == [("pending", "0.0", "40.0"), ("missing", "40.0", "60.0")]
            assert "Ways to pay" in page and "What happened" in page and "inbound:" in page
            for gone in ("/subjects/main/invoice/none", "/subjects/main/key/x", "/subjects/other/invoice/x"):
                answer = await browser.get(gone)
                assert answer.status_code == 404 and "Nothing here" in answer.text
        async with console(it, "other") as browser:
            assert (await browser.get(path)).status_code == 404
            assert made["id"] not in (await browser.get("/")).text


async def test_who_needs_a_person_comes_first_and_the_oldest_of_them(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        old = await needs_a_person(it, external_id="old-trouble")
        await it.invoice(external_id="waits")
        await needs_a_person(it, external_id="new-trouble")
        async with console(it) as browser:
            page = (await browser.get("/")).text
            order = [page.index(word) for word in ("needs a person", "old-trouble", "new-trouble", ">waits<")]
            assert order == sorted(order)
            assert "waits" not in (await browser.get("/", params={"mover": "operator"})).text
            assert "old-trouble" not in (await browser.get("/", params={"kind": "payout"})).text
            detail = (await browser.get(f"/subjects/main/invoice/{old['id']}")).text
            assert f"bursar invoice act {old['id']} ACTION --reason" in detail


async def test_no_link_leads_nowhere(tmp_path: Path) -> None:
    async with house(tmp_path, blind_after=500_000) as it, console(it) as browser:
        await it.fund("1.5")
        await needs_a_person(it)
        it.world.source.silent = "unplugged"
        await it.soon(lambda: any(n.id.startswith("blind/") for n in it.store.rows))
        todo, seen = ["/"], dict[str, str]()
        while todo:
            path = todo.pop()
            answer = await browser.get(path)
            assert answer.status_code == 200, path
            seen[path] = answer.text
            links = {link.replace("&amp;", "&") for link in re.findall(r'href="(/[^"]*)"', answer.text)}
            todo += links - {*seen, *todo}
        assert "1.5 BTC</span> available" in seen["/"]
        assert {"paid_after_cancel", "blind"} <= {path.split("/")[4] for path in seen if "/alert/" in path}
        said = {"alert": f"blind/source/{CHAIN}", "reason": "this rail is no more"}
        cleared = await it.http.post("/v1/alerts/clear", json=said)
        assert cleared.status_code == 200 and cleared.json()["state"] == "cleared"
