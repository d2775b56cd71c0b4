"""The commands that ask a running Bursar over HTTP: each is one call, and its answer is printed."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import httpx
from cyclopts import App, Parameter

from ..core.errors import Explained
from .config import Config, parse, read

Where = Annotated[Path, Parameter(name="--config", help="the configuration file")]
HERE = Path("bursar.toml")

invoice_app = App(name="invoice", help="Invoices of a running Bursar.")
payout_app = App(name="payout", help="Payouts of a running Bursar.")
keys_app = App(name="keys", help="API keys of a running Bursar.")
remote = App()
balance_app = App(name="balance", help="What is in the wallets that payouts leave from.")
for part in (invoice_app, payout_app, balance_app, keys_app):
    remote.command(part)


def configured(path: Path) -> Config:
    """The default where there is no bursar.toml and none was named."""
    return read(path) if path != HERE or path.exists() else parse("")


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
def list_invoices(*, mover: str = "", before: str = "", config: Where = HERE) -> None:
    """The newest, of those who must move next (operator, payer, rail, bursar, nobody); `next` of a page is the
    `before` of the one after it."""
    show(ask(config, "GET", "/v1/invoices", mover=mover, before=before))


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
    """Decide about it: accept, accept_short, refund, refund_excess, write_off, cancel."""
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
def list_payouts(*, mover: str = "", before: str = "", config: Where = HERE) -> None:
    """The newest, of those who must move next (operator, rail, bursar, nobody); `next` of a page is the `before` of
    the one after it."""
    show(ask(config, "GET", "/v1/payouts", mover=mover, before=before))


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


@dataclass
class Entry:
    """What has come into a wallet, or left it, past Bursar."""

    amount: str
    "a decimal number"
    asset: str
    reason: str
    "kept with the entry"
    direction: Literal["in", "out"] = "in"
    external_id: str = ""
    "the same id and words: the same entry"


@balance_app.command(name="enter")
def enter_balance(rail: str, *, entry: Annotated[Entry, Parameter(name="*")], config: Where = HERE) -> None:
    """Say what is in a wallet: payouts leave only from what the ledger knows."""
    body = {"rail": rail, "amount": {"asset": entry.asset, "value": entry.amount}, "reason": entry.reason}
    show(ask(config, "POST", "/v1/balances", body | {"direction": entry.direction, "external_id": entry.external_id}))


@balance_app.command(name="list")
def list_balances(*, config: Where = HERE) -> None:
    """Of each wallet: booked, reserved, available."""
    show(ask(config, "GET", "/v1/balances"))


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


@remote.command
def tenants(*, config: Where = HERE) -> None:
    """Whoever has a key."""
    for name in sorted({key["tenant"] for key in ask(config, "GET", "/v1/keys")}):
        print(name)


@remote.command
def alerts(*, config: Where = HERE) -> None:
    """What fires, and what did: of the tenant, then of the rails."""
    show([alert for of in ("", "system") for alert in ask(config, "GET", "/v1/alerts", of=of)["items"]])


@remote.command
def clear(alert: str, *, reason: str, config: Where = HERE) -> None:
    """Say of an alert that it is dealt with."""
    show(ask(config, "POST", "/v1/alerts/clear", {"alert": alert, "reason": reason}))


@remote.command
def sources(*, config: Where = HERE) -> None:
    """How far each rail has been read."""
    show(ask(config, "GET", "/v1/sources"))


@remote.command
def rebase(rail: str, *, above: int, reason: str, config: Where = HERE) -> None:
    """Read a rail anew from a block on: after a fork that is deeper than Bursar follows by itself."""
    show(ask(config, "POST", f"/v1/sources/{rail}/rebase", {"above": above, "reason": reason}))


@remote.command
def login(*, config: Where = HERE) -> None:
    """A new single-use link to the console."""
    print(ask(config, "POST", "/v1/login-links")["url"])
