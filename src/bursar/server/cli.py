"""`bursar …`: each command calls what HTTP and the library call; an error is a sentence and a hint."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
from cyclopts import App, Parameter
from msgspec.json import encode as encoded

from ..core.errors import Explained
from .config import EXAMPLE, Config, RailConfig, parse, read

app = App(name="bursar", help="Watches money on ledgers that you don't control.", version_flags=["--version"])
config_app = App(name="config", help="The configuration file.")
invoice_app = App(name="invoice", help="Invoices of a running Bursar.")
payout_app = App(name="payout", help="Payouts of a running Bursar.")
keys_app = App(name="keys", help="API keys of a running Bursar.")
for part in (config_app, invoice_app, payout_app, keys_app):
    app.command(part)

Where = Annotated[Path, Parameter(name="--config", help="the configuration file")]
HERE = Path("bursar.toml")


def main() -> None:
    """The entry point. Exit codes: 0 done, 1 refused with a sentence, 2 not understood."""
    try:
        sys.exit(app())
    except Explained as err:
        print(err.sentence, file=sys.stderr)
        if err.hint:
            print(f"  {err.hint}", file=sys.stderr)
        sys.exit(1)


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def configured(path: Path) -> Config:
    """The default where there is no bursar.toml and none was named."""
    return read(path) if path != HERE or path.exists() else parse("")


def run(main: Coroutine[Any, Any, None]) -> int:
    asyncio.run(main)
    return 0


@app.command
def up(config: Where = HERE) -> int:
    """Run Bursar as it is configured."""
    from .serve import Beside, serve

    return run(serve(configured(config), say, Beside()))


@app.command
def demo(config: Where = HERE) -> int:
    """Run Bursar with a small shop on a simulated chain beside it."""
    from .demo import Demo
    from .serve import Beside, serve

    shop = Demo(say)
    rail = shop.rail()
    beside = Beside({rail.name: rail}, {"screen": shop.show}, shop.run)
    return run(serve(shop.config(configured(config)), say, beside))


@dataclass
class Watching:
    """How an address is watched."""

    source: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    "where it is read: the address of a node, or of an endpoint; may be given again"
    since: int | None = None
    "the height of the first block to look at; else a few blocks ago"
    for_seconds: Annotated[float | None, Parameter(name="--for")] = None
    "stop after so many seconds"
    jsonl: Annotated[bool, Parameter(negative="")] = False
    "a JSON object a line"


@app.command(name="watch")
def watch_address(rail: str, address: str, *, how: Annotated[Watching | None, Parameter(name="*")] = None) -> int:
    """Print what reaches an address, a line a change: without a key, without a database."""
    from .watch import Line, text, until, watch

    how = how or Watching()

    def line(found: Line) -> None:
        print(encoded(found).decode() if how.jsonl else f"{datetime.now():%H:%M:%S} {text(found)}", flush=True)

    config = RailConfig(how.source[0] if len(how.source) == 1 else list(how.source))
    try:
        return run(until(how.for_seconds, watch(rail, address, config, how.since, line)))
    except BrokenPipeError:  # whoever read the lines has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


@config_app.command
def check(config: Where = HERE) -> None:
    """Is the configuration right?"""
    found = read(config)
    print(f"{config} is right: {len(found.rails)} rails, {len(found.sinks)} sinks, database {found.database.url}")


@config_app.command
def example() -> None:
    """Print a configuration file with every setting."""
    print(EXAMPLE, end="")


# -- of a running Bursar -----------------------------------------------------------------------
def ask(config: Path, method: str, path: str, body: Any = None, params: dict[str, str] | None = None) -> Any:
    """Raises Explained: it does not run, or what it answers."""
    found = configured(config)
    key = found.folder / "admin.key"
    demo_key = found.folder / "demo" / "admin.key"
    try:
        secret = (key if key.exists() else demo_key).read_text(encoding="utf-8").strip()
    except OSError as err:
        raise Explained(f"there is no {key}", "start Bursar first: bursar up") from err
    url = f"http://{found.http.host}:{found.http.port}{path}"
    try:
        answer = httpx.request(
            method, url, json=body, params=params, headers={"Authorization": f"Bearer {secret}"}, timeout=30
        )
    except httpx.HTTPError as err:
        raise Explained(f"nothing answers at {url}: {err}", "start Bursar first: bursar up") from err
    if answer.status_code >= 400:
        try:
            problem = answer.json()
        except ValueError:
            problem = {"detail": f"{url} answers {answer.status_code}"}
        raise Explained(str(problem.get("detail")), str(problem.get("hint", "")))
    return answer.json() if answer.content else None


def show(body: Any) -> None:
    print(json.dumps(body, indent=2, ensure_ascii=False))


@dataclass
class NewInvoice:
    """What is asked for."""

    price: str
    asset: str
    way: tuple[str, ...] = ()
    "asset@rail, or asset@rail=address; without any: all that can derive an address"
    external_id: str = ""
    window_seconds: int | None = None
    preset: str = ""


@invoice_app.command(name="create")
def create_invoice(asked: Annotated[NewInvoice, Parameter(name="*")], config: Where = HERE) -> None:
    """Ask for a payment."""
    ways = [dict(zip(("way", "address"), way.split("=", 1), strict=False)) for way in asked.way]
    body: dict[str, Any] = {"price": {"asset": asked.asset, "value": asked.price}, "ways": ways or "all"}
    body |= {"external_id": asked.external_id, "preset": asked.preset}
    if asked.window_seconds is not None:
        body["window_seconds"] = asked.window_seconds
    show(ask(config, "POST", "/v1/invoices", body))


@invoice_app.command(name="list")
def list_invoices(mover: str = "", config: Where = HERE) -> None:
    """The newest, of those who must move next (operator, payer, rail, bursar, nobody)."""
    show(ask(config, "GET", "/v1/invoices", params={"mover": mover}))


@invoice_app.command(name="show")
def show_invoice(id: str, config: Where = HERE) -> None:
    """One invoice, with its payments."""
    show(ask(config, "GET", f"/v1/invoices/{id}"))


@invoice_app.command(name="timeline")
def invoice_timeline(id: str, config: Where = HERE) -> None:
    """All that was recorded of it, a line each."""
    for row in ask(config, "GET", f"/v1/invoices/{id}/timeline"):
        print(row["at"] or " " * 25, row["type"], row["text"])


@invoice_app.command(name="act")
def act_on_invoice(id: str, act: str, *, reason: str, payment: str = "", txid: str = "", config: Where = HERE) -> None:
    """Decide about it: accepted, accepted_short, refunded, cancelled."""
    body = {"act": act, "reason": reason, "payment": payment, "txid": txid}
    show(ask(config, "POST", f"/v1/invoices/{id}/actions", body))


@payout_app.command(name="create")
def create_payout(
    rail: str, to: str, *, amount: str, asset: str, fee_limit: str = "", external_id: str = "", config: Where = HERE
) -> None:
    """Pay once."""
    body = {"rail": rail, "to": to, "amount": {"asset": asset, "value": amount}}
    show(ask(config, "POST", "/v1/payouts", body | {"fee_limit": fee_limit, "external_id": external_id}))


@payout_app.command(name="show")
def show_payout(id: str, config: Where = HERE) -> None:
    """One payout."""
    show(ask(config, "GET", f"/v1/payouts/{id}"))


@payout_app.command(name="act")
def act_on_payout(id: str, act: str, *, reason: str, config: Where = HERE) -> None:
    """Decide about it: cancelled."""
    show(ask(config, "POST", f"/v1/payouts/{id}/actions", {"act": act, "reason": reason}))


@keys_app.command(name="create")
def create_key(tenant: str, *, role: str = "tenant", label: str = "", config: Where = HERE) -> None:
    """A new API key; a tenant begins with its first key."""
    show(ask(config, "POST", "/v1/keys", {"tenant": tenant, "role": role, "label": label}))


@keys_app.command(name="list")
def list_keys(config: Where = HERE) -> None:
    """The keys, without their secrets."""
    show(ask(config, "GET", "/v1/keys"))


@keys_app.command(name="revoke")
def revoke_key(id: str, config: Where = HERE) -> None:
    """End a key."""
    ask(config, "POST", f"/v1/keys/{id}/revoke")


@app.command
def tenants(config: Where = HERE) -> None:
    """Whoever has a key."""
    for name in sorted({key["tenant"] for key in ask(config, "GET", "/v1/keys")}):
        print(name)


@app.command
def alerts(config: Where = HERE) -> None:
    """What fires, and what did."""
    show(ask(config, "GET", "/v1/alerts"))


@app.command
def login(config: Where = HERE) -> None:
    """A new single-use link to the console."""
    print(ask(config, "POST", "/v1/login-links")["url"])
