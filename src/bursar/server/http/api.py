"""The API under /v1. Money is {"asset", "value"} with an exact decimal string; lists are pages by key."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import get, post
from litestar.params import Parameter
from msgspec import Struct

from ...core.subject import Mover, SubjectId
from ...invoices.commands import CreateInvoice
from .. import encode
from ..commands import Act, CreatePayout, Page, page, timeline
from ..wiring import Bursar
from .auth import Caller, Sessions

Key = Annotated[str, Parameter(header="Idempotency-Key")]
Limit = Annotated[int, Parameter(ge=1, le=100)]
Before = Annotated[int, Parameter(ge=1)]
NEWEST = 2**53


class CreateKey(Struct, frozen=True, forbid_unknown_fields=True):
    tenant: str
    role: str = "tenant"
    label: str = ""


class Created(Struct, frozen=True):
    """A new key: the secret is shown this once."""

    id: str
    secret: str


def movers(text: str) -> frozenset[Mover]:
    """ "operator,payer": those who must move next; empty: all."""
    named = {m for m in Mover if m.value in text.split(",")}
    return frozenset(named if text else Mover)


@post("/v1/invoices", summary="Ask for a payment")
async def create_invoice(data: CreateInvoice, caller: Caller, bursar: Bursar, key: Key = "") -> dict[str, Any]:
    return await bursar.invoices.create(caller.tenant, data, key, caller.id)


@get("/v1/invoices", summary="Invoices, newest first")
async def list_invoices(
    caller: Caller, bursar: Bursar, mover: str = "", before: Before = NEWEST, limit: Limit = 50
) -> Page:
    return await page(bursar.store, caller.tenant, "invoice", movers(mover), before, limit)


@get("/v1/invoices/{id:str}", summary="One invoice, with its payments")
async def get_invoice(id: str, caller: Caller, bursar: Bursar) -> dict[str, Any]:
    return await bursar.invoices.get(caller.tenant, id)


@get("/v1/invoices/{id:str}/timeline", summary="All that was recorded of it, in order, and all that was told")
async def invoice_timeline(id: str, caller: Caller, bursar: Bursar) -> list[dict[str, Any]]:
    return await timeline(bursar.store, SubjectId(caller.tenant, "invoice", id), bursar.scales)


@post("/v1/invoices/{id:str}/actions", status_code=200, summary="Decide about it: accepted, refunded, cancelled …")
async def act_on_invoice(id: str, data: Act, caller: Caller, bursar: Bursar, key: Key = "") -> dict[str, Any]:
    return await bursar.invoices.act(caller.tenant, id, data, key, caller.id)


@post("/v1/payouts", summary="Pay once")
async def create_payout(data: CreatePayout, caller: Caller, bursar: Bursar, key: Key = "") -> dict[str, Any]:
    return await bursar.payouts.create(caller.tenant, data, key, caller.id)


@get("/v1/payouts", summary="Payouts, newest first")
async def list_payouts(
    caller: Caller, bursar: Bursar, mover: str = "", before: Before = NEWEST, limit: Limit = 50
) -> Page:
    return await page(bursar.store, caller.tenant, "payout", movers(mover), before, limit)


@get("/v1/payouts/{id:str}", summary="One payout, with its attempts")
async def get_payout(id: str, caller: Caller, bursar: Bursar) -> dict[str, Any]:
    return await bursar.payouts.get(caller.tenant, id)


@post("/v1/payouts/{id:str}/actions", status_code=200, summary="Decide about it: cancelled …")
async def act_on_payout(id: str, data: Act, caller: Caller, bursar: Bursar, key: Key = "") -> dict[str, Any]:
    return await bursar.payouts.act(caller.tenant, id, data, key, caller.id)


@get("/v1/alerts", summary="Alerts of the tenant and of the house, newest first")
async def list_alerts(caller: Caller, bursar: Bursar, mover: str = "") -> list[dict[str, Any]]:
    rows = [
        row
        for tenant in (caller.tenant, "system")
        for row in await bursar.store.page(tenant, "alert", movers(mover), NEWEST, 100)
    ]
    return [encode.status(row.subject, row.version, row.status) | {"runbook": runbook(row.subject)} for row in rows]


def runbook(alert: SubjectId) -> str:
    return f"docs/runbook/{alert.id.split('/')[0]}.md"


@get("/v1/sources", summary="How far each rail has been read")
async def list_sources(caller: Caller, bursar: Bursar) -> list[dict[str, Any]]:
    return await sources(bursar)


async def sources(bursar: Bursar) -> list[dict[str, Any]]:
    cursors = await bursar.store.cursors()
    out = []
    for name in bursar.observers:
        subject, _ = await bursar.store.load(SubjectId("system", "source", name))
        cursor = cursors.get(name)
        read = cursor.watermark if cursor else 0
        out.append(
            {
                "rail": name,
                "state": subject.status.state if subject.status else "starting",
                "position": cursor.position if cursor else 0,
                "as_of": encode.instant(read) if read else None,
                "lag_seconds": (bursar.engine.now() - read) // 1_000_000 if read else None,
            }
        )
    return out


@get("/v1/events", summary="Events after a number, oldest first")
async def list_events(
    caller: Caller, bursar: Bursar, after: Annotated[int, Parameter(ge=0)] = 0, limit: Limit = 100
) -> dict[str, Any]:
    told = await bursar.store.events(caller.tenant, after, limit)
    items = [{"number": n} | encode.event(event) for n, event in told]
    return {"items": items, "next": told[-1][0] if told else after}


@post("/v1/keys", summary="A new API key (role admin)")
async def create_key(data: CreateKey, caller: Caller, bursar: Bursar) -> Created:
    caller.demand_admin()
    return Created(*await bursar.keys.create(data.tenant, data.role, data.label, caller.id))


@get("/v1/keys", summary="The keys of all tenants, without their secrets (role admin)")
async def list_keys(caller: Caller, bursar: Bursar) -> list[dict[str, Any]]:
    caller.demand_admin()
    return await bursar.keys.all()


@post("/v1/login-links", summary="A single-use link to the console")
async def create_link(caller: Caller, bursar: Bursar, sessions: Sessions) -> dict[str, str]:
    http = bursar.config.http
    return {"url": f"http://{http.host}:{http.port}/login?token={sessions.link(caller)}"}


@post("/v1/keys/{id:str}/revoke", status_code=204, summary="End an API key (role admin)")
async def revoke_key(id: str, caller: Caller, bursar: Bursar) -> None:
    caller.demand_admin()
    await bursar.keys.revoke(id, caller.id)


ROUTES = [
    create_invoice,
    list_invoices,
    get_invoice,
    invoice_timeline,
    act_on_invoice,
    create_payout,
    list_payouts,
    get_payout,
    act_on_payout,
    list_alerts,
    list_sources,
    list_events,
    create_key,
    list_keys,
    revoke_key,
    create_link,
]
