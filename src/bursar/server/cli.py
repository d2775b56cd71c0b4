"""`bursar …`: each command calls what HTTP and the library call; an error is a sentence and a hint."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
from cyclopts import App, Parameter
from msgspec.json import encode as encoded

from ..core.errors import Explained
from .config import EXAMPLE, Config, RailConfig, parse, read
from .rails import build

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
    except ModuleNotFoundError as err:
        print(f"this command needs {err.name}, which is not installed", file=sys.stderr)
        print("  pip install 'bursar[server,postgres,bitcoin,lightning]'", file=sys.stderr)
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
def up(*, config: Where = HERE) -> int:
    """Run Bursar as it is configured."""
    from .serve import Beside, serve

    return run(serve(configured(config), say, Beside()))


@app.command
def demo(*, config: Where = HERE) -> int:
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
def check(*, config: Where = HERE) -> None:
    """Is the configuration right? Nothing is opened, nobody is asked."""
    found = read(config)
    for sink in found.sinks.values():
        if not Path(sink.jsonl).absolute().parent.is_dir():
            raise Explained(f"{sink.jsonl} can not be written: its folder is not there", "make the folder first")
    asyncio.run(built(found))
    rails, sinks = ", ".join(found.rails) or "none", ", ".join(found.sinks) or "none"
    print(f"{config} is right: database {found.database.url.split('@')[-1]}, rails {rails}, sinks {sinks}")


async def built(config: Config) -> None:
    async with AsyncExitStack() as stack:
        for name, rail in config.rails.items():
            await build(name, rail, stack)


@config_app.command
def example() -> None:
    """Print a configuration file with every setting."""
    print(EXAMPLE, end="")


@app.command
def doctor(*, config: Where = HERE) -> int:
    """Does the database still say what its records amount to: statuses, sums, cursors, wake-ups, version?"""
    from .checks import doctor as check

    return looked(config, check)


@dataclass
class Replay:
    verify: Annotated[bool, Parameter(negative="", required=True)]
    "compare every status, and the last event of each, with what the records alone amount to; nothing is written"


@app.command
def replay(how: Annotated[Replay, Parameter(name="*")], *, config: Where = HERE) -> int:
    """Compute every status again from its records."""
    from .checks import replay as check

    return looked(config, check)


def looked(config: Path, check: Any) -> int:
    from .checks import look

    found = asyncio.run(look(configured(config), check))
    for finding in found:
        print(f"{finding.what}: {finding.place}: {finding.said}")
    print(f"{len(found)} findings" if found else "all is as it should be")
    return 1 if found else 0


@dataclass
class Worlds:
    """What is simulated."""

    seeds: int = 100
    "so many worlds, each from its seed"
    seed: int | None = None
    "the first of them"
    show: Annotated[bool, Parameter(negative="")] = False
    "tell the story of each that fails"
    mutants: Annotated[bool, Parameter(negative="")] = False
    "hunt known-wrong variants instead: each must be caught"


@app.command
def simulate(*, how: Annotated[Worlds | None, Parameter(name="*")] = None) -> int:
    """Run the engine in seeded hostile worlds, audited after every step."""
    from ..testing.report import main as report

    how = how or Worlds()
    return report(how.seeds, how.seed, show=how.show, mutants=how.mutants)


# -- of a running Bursar -----------------------------------------------------------------------
def secrets(config: Config) -> list[str]:
    """BURSAR_KEY, else the admin's key, else the demo's. Raises Explained."""
    if key := os.environ.get("BURSAR_KEY"):
        return [key]
    paths = [config.folder / "admin.key", config.folder / "demo" / "admin.key"]
    try:
        found = [path.read_text(encoding="utf-8").strip() for path in paths if path.exists()]
    except OSError as err:
        raise Explained(f"{err.filename} can not be read: {err.strerror}", "or put a key into BURSAR_KEY") from err
    if not found:
        raise Explained(f"there is no {paths[0]}", "start Bursar first: bursar up; or put a key into BURSAR_KEY")
    return found


def ask(config: Path, method: str, path: str, body: Any = None, **params: str) -> Any:
    """Raises Explained: it does not run, or what it answers."""
    found = configured(config)
    url = f"http://{found.http.host}:{found.http.port}{path}"
    for secret in secrets(found):
        key = {"Authorization": f"Bearer {secret}"}
        given = {name: value for name, value in params.items() if value}
        try:
            answer = httpx.request(method, url, json=body, params=given, headers=key, timeout=30, trust_env=False)
        except httpx.HTTPError as err:
            raise Explained(f"nothing answers at {url}: {err}", "start Bursar first: bursar up") from err
        if answer.status_code != 401:
            break
    try:
        said = answer.json() if answer.content else {}
    except ValueError as err:
        raise Explained(f"{url} answers {answer.status_code}, and no JSON", "is another program on this port?") from err
    if answer.status_code >= 400:
        raise Explained(str(said.get("detail")), str(said.get("hint", "")))
    return said


def show(body: Any) -> None:
    print(json.dumps(body, indent=2, ensure_ascii=False))


@dataclass
class NewInvoice:
    """What is asked for."""

    price: str
    "a decimal number"
    asset: str
    "of the price: BTC, EUR"
    way: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    "asset@rail, or asset@rail=address; may be given again; without any: all that can derive an address"
    external_id: str = ""
    "the same id and words: the same invoice"
    window_seconds: int | None = None
    "how long it may be paid"
    preset: str = ""
    "a named set of tolerances"


@invoice_app.command(name="create")
def create_invoice(asked: Annotated[NewInvoice, Parameter(name="*")], *, config: Where = HERE) -> None:
    """Ask for a payment."""
    ways = [dict(zip(("way", "address"), way.split("=", 1), strict=False)) for way in asked.way]
    body: dict[str, Any] = {"price": {"asset": asked.asset, "value": asked.price}, "ways": ways or "all"}
    body |= {"external_id": asked.external_id, "preset": asked.preset, "window_seconds": asked.window_seconds}
    show(ask(config, "POST", "/v1/invoices", body))


@invoice_app.command(name="list")
def list_invoices(*, mover: str = "", config: Where = HERE) -> None:
    """The newest, of those who must move next (operator, payer, rail, bursar, nobody)."""
    show(ask(config, "GET", "/v1/invoices", mover=mover))


@invoice_app.command(name="show")
def show_invoice(id: str, *, config: Where = HERE) -> None:
    """One invoice, with its payments."""
    show(ask(config, "GET", f"/v1/invoices/{id}"))


@invoice_app.command(name="timeline")
def invoice_timeline(id: str, *, config: Where = HERE) -> None:
    """All that was recorded of it, a line each."""
    for row in ask(config, "GET", f"/v1/invoices/{id}/timeline"):
        print((row["at"] or "")[:19].ljust(19), row["type"].ljust(8), row["text"])


@invoice_app.command(name="act")
def act_on_invoice(
    id: str, action: str, *, reason: str, payment: str = "", txid: str = "", config: Where = HERE
) -> None:
    """Decide about it: accept, accept_short, refund, refund_excess, cancel."""
    body = {"action": action, "reason": reason, "payment": payment, "txid": txid}
    show(ask(config, "POST", f"/v1/invoices/{id}/actions", body))


@dataclass
class NewPayout:
    """What is to be paid, and what it may cost."""

    amount: str
    "a decimal number"
    asset: str
    fee_limit: str | None = None
    "the most that the rail may take on top; else its usual"
    external_id: str = ""
    "the same id and words: the same payout"


@payout_app.command(name="create")
def create_payout(
    rail: str, to: str, *, asked: Annotated[NewPayout, Parameter(name="*")], config: Where = HERE
) -> None:
    """Pay once."""
    body = {"rail": rail, "to": to, "amount": {"asset": asked.asset, "value": asked.amount}}
    more = {"fee_limit": asked.fee_limit, "external_id": asked.external_id}
    show(ask(config, "POST", "/v1/payouts", body | more))


@payout_app.command(name="list")
def list_payouts(*, mover: str = "", config: Where = HERE) -> None:
    """The newest, of those who must move next (operator, rail, bursar, nobody)."""
    show(ask(config, "GET", "/v1/payouts", mover=mover))


@payout_app.command(name="show")
def show_payout(id: str, *, config: Where = HERE) -> None:
    """One payout."""
    show(ask(config, "GET", f"/v1/payouts/{id}"))


@dataclass
class Closing:
    """What belongs to some acts."""

    to: str = ""
    "replace: another invoice for the same amount"
    outcome: Literal["paid", "not_paid"] | None = None
    "close: what was found outside"
    reference: str = ""
    "close: by which somebody else can check it"


@payout_app.command(name="act")
def act_on_payout(
    id: str,
    action: str,
    *,
    reason: str,
    more: Annotated[Closing | None, Parameter(name="*")] = None,
    config: Where = HERE,
) -> None:
    """Decide about it: cancel, close, acknowledge, replace."""
    body = {"action": action, "reason": reason} | asdict(more or Closing())
    show(ask(config, "POST", f"/v1/payouts/{id}/actions", body))


@keys_app.command(name="create")
def create_key(tenant: str, *, role: str = "tenant", label: str = "", config: Where = HERE) -> None:
    """A new API key; a tenant begins with its first key."""
    show(ask(config, "POST", "/v1/keys", {"tenant": tenant, "role": role, "label": label}))


@keys_app.command(name="list")
def list_keys(*, config: Where = HERE) -> None:
    """The keys, without their secrets."""
    show(ask(config, "GET", "/v1/keys"))


@keys_app.command(name="revoke")
def revoke_key(id: str, *, config: Where = HERE) -> None:
    """End a key."""
    ask(config, "POST", f"/v1/keys/{id}/revoke")


@app.command
def tenants(*, config: Where = HERE) -> None:
    """Whoever has a key."""
    for name in sorted({key["tenant"] for key in ask(config, "GET", "/v1/keys")}):
        print(name)


@app.command
def alerts(*, config: Where = HERE) -> None:
    """What fires, and what did: of the tenant, then of the rails."""
    show([alert for of in ("", "system") for alert in ask(config, "GET", "/v1/alerts", of=of)["items"]])


@app.command
def clear(alert: str, *, reason: str, config: Where = HERE) -> None:
    """Say of an alert that it is dealt with."""
    show(ask(config, "POST", "/v1/alerts/clear", {"alert": alert, "reason": reason}))


@app.command
def sources(*, config: Where = HERE) -> None:
    """How far each rail has been read."""
    show(ask(config, "GET", "/v1/sources"))


@app.command
def login(*, config: Where = HERE) -> None:
    """A new single-use link to the console."""
    print(ask(config, "POST", "/v1/login-links")["url"])
