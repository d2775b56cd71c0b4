"""The console in headless Chromium, two widths, light and dark: nothing is wider than the screen, nothing is loaded
from elsewhere, nothing is wrong that axe-core can find. The pictures lie in .cache/shots for whoever wants to look."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from tests.harness import missing
from tests.harness.service import House, house
from tests.server.test_cli import free_port
from tests.server.test_pages import needs_a_person, short_paid

from bursar.server.http.auth import Caller
from bursar.server.serve import Server

pytestmark = pytest.mark.anyio
ROOT = Path(__file__).parent.parent.parent
AXE = ROOT / "tools/node/node_modules/axe-core/axe.min.js"
RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"]
SHOTS = ROOT / ".cache/shots"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def chromium() -> Path:
    found = Path("/usr/bin/chromium")
    if not found.exists() or not AXE.exists():
        missing("Chromium or axe-core is not installed: make setup as root, or apt-get install chromium")
    SHOTS.mkdir(parents=True, exist_ok=True)
    return found


@asynccontextmanager
async def listening(it: House) -> AsyncIterator[str]:
    """The address of a real server in front of it."""
    port = int(free_port())
    server = Server(uvicorn.Config(it.app, port=port, log_config=None, lifespan="off"))
    serving = asyncio.create_task(server.serve())
    await it.soon(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        server.should_exit = True
        await serving


@pytest.mark.real
async def test_the_pages_in_a_browser(tmp_path: Path, chromium: Path) -> None:
    from playwright.async_api import async_playwright

    async with house(tmp_path) as it, listening(it) as base, async_playwright() as p:
        await needs_a_person(it, external_id="order-1")
        part = await short_paid(it, external_id="order-2")
        whole = await it.invoice(external_id="order-3")
        it.world.pay(whole["ways"][0]["address"], "0.7")
        it.world.mine(2)
        await it.until(f"/v1/invoices/{whole['id']}", state="settled")
        browser = await p.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        subjects = [f"/subjects/main/invoice/{one['id']}" for one in (part, whole)]
        requests = list[str]()
        urls = ["/", "/?kind=alert", *subjects, "/subjects/main/invoice/none", "/login?token=x"]
        for scheme in ("light", "dark"):
            for width in (390, 1280):
                size: Any = {"width": width, "height": 844}
                context = await browser.new_context(color_scheme=scheme, viewport=size, bypass_csp=True)
                page = await context.new_page()
                page.on("request", lambda request: requests.append(request.url))
                await page.goto(f"{base}/login?token={it.sessions.link(Caller('console', 'main', 'admin'))}")
                await page.keyboard.press("Tab")
                await page.keyboard.press("Tab")
                await page.keyboard.press("Enter")  # the keyboard is enough
                await page.wait_for_selector("h1")
                for n, url in enumerate(urls):
                    await page.goto(base + url)
                    await page.screenshot(path=SHOTS / f"{n}-{width}-{scheme}.png", full_page=True)
                    assert await page.evaluate("document.documentElement.scrollWidth") <= width, url
                    await page.add_script_tag(path=AXE)
                    found = await page.evaluate(f"axe.run({{runOnly: {RULES}}})")
                    bad = [(v["id"], v["nodes"][0]["html"]) for v in found["violations"]]
                    assert not bad, (url, width, scheme, bad)
                assert all(url.startswith(base) for url in requests)
                await context.close()
        await browser.close()
