"""Alerts: raised once, cleared with evidence, and a page of the runbook for each."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args, get_type_hints

import pytest
from cyclopts import CycloptsError
from tests.harness.service import CHAIN, SECOND, House, World, house

from bursar.core.subject import Decision, Report
from bursar.engine import clock
from bursar.invoices.commands import ActOnInvoice
from bursar.payouts.commands import ActOnPayout
from bursar.server.cli import app
from bursar.server.demo import WORDS
from bursar.server.http.pages import FOLDER as PAGES
from bursar.server.wiring import ALERTS
from bursar.store.memory import MemoryStore

pytestmark = pytest.mark.anyio
RUNBOOK = Path(__file__).parent.parent.parent / "docs/runbook"
WINDOW = 2 * SECOND


async def blind(it: House) -> Any:
    return next(a for a in (await it.get("/v1/alerts", of="system"))["items"] if a["flag"] == "blind")


def state(it: House) -> str:
    found = [row.status for name, row in it.store.rows.items() if name.kind == "alert" and row.status]
    return found[0].state if found else ""


async def test_a_blind_source_raises_one_alert_and_clears_with_evidence_across_restarts(tmp_path: Path) -> None:
    world, store = World(), MemoryStore(clock.now)
    async with house(tmp_path, world, store, blind_after=WINDOW) as it:
        made = await it.invoice()
        world.source.silent = "the node is down"
        await it.soon(lambda: CHAIN in it.shell.silent)
    async with house(tmp_path, world, store, blind_after=WINDOW) as it:  # the window goes on over a restart
        await it.soon(lambda: state(it) == "firing")
        first = await blind(it)
        assert (first["state"], first["mover"], first["episodes"]) == ("firing", "operator", 1)
        assert (await it.get(f"/v1/invoices/{made['id']}"))["version"] == made["version"]
    async with house(tmp_path, world, store, blind_after=WINDOW) as it:  # restarting neither clears nor raises again
        before = await blind(it)
        assert before == first
        world.source.silent = ""
        await it.soon(lambda: state(it) == "cleared")
        after = await blind(it)
        assert after["episodes"] == 1 and after["mover"] == "nobody" and "reading" in after["why"]
        turns = [e for _, e in await store.events("system", 0, 100) if e.subject.kind == "alert"]
        assert [e.state for e in turns] == ["firing", "cleared"]
    records = next(row.records for name, row in store.rows.items() if name.kind == "alert")
    cleared = next(r for r in records if isinstance(r, Decision) and r.name == "cleared")
    evidence = next(r for r in records if isinstance(r, Report) and str(r.n) == cleared.about)
    assert evidence.state == "reading" and "blind" not in evidence.flags


async def test_a_latched_alert_is_cleared_by_a_person_with_a_reason(tmp_path: Path) -> None:
    async with house(tmp_path) as it:
        made = await it.invoice()
        it.world.pay(made["ways"][0]["address"], "0.5")
        it.world.mine(2)
        await it.until(f"/v1/invoices/{made['id']}", state="settled")
        chain = it.world.chain
        chain.now = clock.now()
        tx = chain.txs.pop()
        chain.move(chain.head.blocks[:-2])
        chain.mine(3)  # the chain without the payment is longer
        gone = await it.until(f"/v1/invoices/{made['id']}", mover="operator")
        assert "reorged" in gone["flags"] and "took a payment back" in gone["why"]
        await it.soon(lambda: any(n.kind == "alert" and r.status for n, r in it.store.rows.items()))
        alert = (await it.get("/v1/alerts"))["items"][0]
        assert (alert["flag"], alert["about"], alert["state"]) == ("reorged", f"invoice/{made['id']}", "firing")
        chain.broadcast(tx)
        it.world.mine(2)
        back = await it.until(f"/v1/invoices/{made['id']}", mover="nobody")
        assert back["state"] == "settled" and back["flags"] == []
        latched = (await it.get("/v1/alerts"))["items"][0]
        assert latched["state"] == "firing"
        for body, status in (({"reason": " "}, 422), ({"alert": "reorged/invoice/x", "reason": "x"}, 404)):
            answer = await it.http.post("/v1/alerts/clear", json={"alert": alert["id"]} | body)
            assert answer.status_code == status and answer.json()["detail"]
        said = {"alert": alert["id"], "reason": "mined again"}
        cleared = (await it.http.post("/v1/alerts/clear", json=said)).json()
        assert cleared["state"] == "cleared" and "mined again" in cleared["why"]
        assert (await it.http.post("/v1/alerts/clear", json=said)).status_code == 409


def pages() -> dict[str, str]:
    return {path.stem: path.read_text() for path in RUNBOOK.glob("*.md")}


def test_each_alert_has_its_page() -> None:
    assert pages().keys() == {flag for _, flag in ALERTS}
    for flag, text in pages().items():
        assert text.startswith(f"# {flag}\n")
        for part in ("What it means", "What Bursar does by itself", "What to check", "What to decide"):
            assert f"\n## {part}\n" in text, flag


def test_the_pages_name_commands_that_exist() -> None:
    """Here, on the console's pages and in what the demo says."""
    html = [re.sub(r"{{[^}]*}}", "ID", (PAGES / name).read_text()) for name in ("subject.html", "overview.html")]
    texts = [*pages().values(), *WORDS.values(), *html]
    named = {line for text in texts for line in re.findall(r"(?:`|>|; )bursar ([^`<]+)", text)}
    assert len(named) > 12
    acts = {action for kind in (ActOnInvoice, ActOnPayout) for action in get_args(get_type_hints(kind)["action"])}
    for line in named:
        words = line.replace("HEIGHT", "700000").split()
        try:
            app.parse_args(words, exit_on_error=False, print_error=False)
        except CycloptsError as err:
            pytest.fail(f"bursar {line}: {err}")
        assert words[1:2] != ["act"] or words[3] in acts | {"ACTION"}, line
