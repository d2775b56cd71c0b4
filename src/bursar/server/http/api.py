"""The API under /v1. Money is {"asset", "value"} with an exact decimal string; lists are pages by key."""

from __future__ import annotations

from datetime import datetime
from functools import partial
from typing import Annotated

import litestar
from litestar.openapi import ResponseSpec
from litestar.params import FromPath, HeaderParameter, JSONBody, QueryParameter
from msgspec import Struct

from ...balances import EnterBalance
from ...core.subject import Mover, SubjectId
from ...invoices.commands import ActOnInvoice, CreateInvoice
from ...payouts.commands import ActOnPayout, CreatePayout
from .. import encode, views
from ..commands import SYSTEM, ClearAlert, Page, Rebase
from ..keys import KeyView
from ..wiring import Bursar
from .auth import Asker, House, Logins
from .problems import Problem

Key = Annotated[str, HeaderParameter(name="Idempotency-Key", description="the same key and words: the same thing")]
Limit = Annotated[int, QueryParameter(ge=1, le=100)]
Before = Annotated[int, QueryParameter(ge=1, description="`next` of the page before")]
Id = FromPath[str]
Tenant = Annotated[str, QueryParameter(description="whose; without it the key's own")]
Movers = Annotated[Mover | None, QueryParameter(description="those who must move next; without it all")]
NEWEST = 2**53
WHY = {
    400: "it is not understood",
    401: "no key, or a wrong one",
    403: "the key may not",
    404: "there is none of this name",
    409: "it means something else already, or is not possible now",
    422: "it makes no sense",
    503: "the database can not be used now: ask again, with the same external id or Idempotency-Key",
}
PROBLEMS = {
    status: ResponseSpec(Problem, generate_examples=False, description=why, media_type="application/problem+json")
    for status, why in WHY.items()
}
get = partial(litestar.get, responses=PROBLEMS, response_description="as asked")
post = partial(litestar.post, responses=PROBLEMS, response_description="as asked")


class CreateKey(Struct, frozen=True, forbid_unknown_fields=True):
    tenant: str
    role: str = "tenant"
    label: str = ""


class Created(Struct, frozen=True):
    """A new key: the secret is shown this once."""

    id: str
    secret: str


class Link(Struct, frozen=True):
    url: str


class Source(Struct, frozen=True, kw_only=True):
    """How far a rail has been read."""

    rail: str
    state: str
    position: int
    as_of: datetime | None  # all that had reached it by then is recorded; None: it was not read yet
    lag_seconds: int | None


class Events(Struct, frozen=True):
    """Oldest first; `next`, given as `after`, leads to the newer ones."""

    items: tuple[encode.Event, ...]
    next: int


def movers(one: Mover | None) -> frozenset[Mover]:
    return frozenset({one} if one else Mover)


@post("/v1/invoices", summary="Ask for a payment")
async def create_invoice(data: JSONBody[CreateInvoice], caller: Asker, bursar: House, key: Key = "") -> views.Invoice:
    return await bursar.invoices.create(caller.tenant, data, key, caller.id)


@get("/v1/invoices", summary="Invoices, newest first")
async def list_invoices(
    caller: Asker, bursar: House, mover: Movers = None, before: Before = NEWEST, limit: Limit = 50
) -> Page[views.Invoice]:
    return await bursar.invoices.page(caller.tenant, movers(mover), before, limit)


@get("/v1/invoices/{id:str}", summary="One invoice, with its payments")
async def get_invoice(id: Id, caller: Asker, bursar: House) -> views.Invoice:
    return await bursar.invoices.get(caller.tenant, id)


@get("/v1/invoices/{id:str}/timeline", summary="All that was recorded of it, and all that was told, in order")
async def invoice_timeline(id: Id, caller: Asker, bursar: House) -> list[encode.Row]:
    return await bursar.invoices.timeline(SubjectId(caller.tenant, "invoice", id))


@post("/v1/invoices/{id:str}/actions", status_code=200, summary="Decide about it, with a reason")
async def act_on_invoice(
    id: Id, data: JSONBody[ActOnInvoice], caller: Asker, bursar: House, key: Key = ""
) -> views.Invoice:
    return await bursar.invoices.act(caller.tenant, id, data, key, caller.id)


@post("/v1/payouts", summary="Pay once")
async def create_payout(data: JSONBody[CreatePayout], caller: Asker, bursar: House, key: Key = "") -> views.Payout:
    return await bursar.payouts.create(caller.tenant, data, key, caller.id)


@get("/v1/payouts", summary="Payouts, newest first")
async def list_payouts(
    caller: Asker, bursar: House, mover: Movers = None, before: Before = NEWEST, limit: Limit = 50
) -> Page[views.Payout]:
    return await bursar.payouts.page(caller.tenant, movers(mover), before, limit)


@get("/v1/payouts/{id:str}", summary="One payout")
async def get_payout(id: Id, caller: Asker, bursar: House) -> views.Payout:
    return await bursar.payouts.get(caller.tenant, id)


@post("/v1/payouts/{id:str}/actions", status_code=200, summary="Decide about it, with a reason")
async def act_on_payout(
    id: Id, data: JSONBody[ActOnPayout], caller: Asker, bursar: House, key: Key = ""
) -> views.Payout:
    return await bursar.payouts.act(caller.tenant, id, data, key, caller.id)


@post("/v1/balances", summary="Enter what has come into a wallet, or left it, past Bursar (role admin)")
async def enter_balance(
    data: JSONBody[EnterBalance], caller: Asker, bursar: House, key: Key = "", tenant: Tenant = ""
) -> views.Balance:
    caller.demand_admin()
    return await bursar.payouts.enter(tenant or caller.tenant, data, key, caller.id)


@get("/v1/balances", summary="What the ledger says is in each wallet")
async def list_balances(caller: Asker, bursar: House) -> list[views.Balance]:
    return await bursar.payouts.balances(caller.tenant)


@get("/v1/alerts", summary="Alerts of the tenant, or of the rails (of=system), newest first")
async def list_alerts(
    caller: Asker,
    bursar: House,
    mover: Movers = None,
    of: Annotated[str, QueryParameter(pattern="^(system)?$")] = "",
    before: Before = NEWEST,
    limit: Limit = 50,
) -> Page[views.Alert]:
    return await bursar.alerts.page(of or caller.tenant, movers(mover), before, limit)


@post("/v1/alerts/clear", status_code=200, summary="Say of an alert that it is dealt with, with a reason")
async def clear_alert(data: JSONBody[ClearAlert], caller: Asker, bursar: House, key: Key = "") -> views.Alert:
    of_rails = data.alert.split("/")[1:2] == ["source"]
    if of_rails:
        caller.demand_admin()
    return await bursar.alerts.clear(SYSTEM if of_rails else caller.tenant, data, key, caller.id)


@get("/v1/sources", summary="How far each rail has been read")
async def list_sources(caller: Asker, bursar: House) -> list[Source]:
    return await sources(bursar)


@post("/v1/sources/{rail:str}/rebase", status_code=200, summary="Read a rail anew from a block on (role admin)")
async def rebase_source(
    rail: FromPath[str], data: JSONBody[Rebase], caller: Asker, bursar: House, key: Key = ""
) -> list[Source]:
    caller.demand_admin()
    await bursar.sources.rebase(rail, data, key, caller.id)
    return await sources(bursar)


async def sources(bursar: Bursar) -> list[Source]:
    cursors, out = await bursar.store.cursors(), []
    for name in bursar.observers:
        subject, _ = await bursar.store.load(SubjectId(SYSTEM, "source", name))
        cursor = cursors.get(name)
        read = cursor.watermark if cursor else 0
        out.append(
            Source(
                rail=name,
                state=subject.status.state if subject.status else "starting",
                position=cursor.position if cursor else 0,
                as_of=encode.instant(read) if read else None,
                lag_seconds=max(0, bursar.engine.now() - read) // 1_000_000 if read else None,
            )
        )
    return out


@get("/v1/events", summary="Events after a number, oldest first")
async def list_events(
    caller: Asker, bursar: House, after: Annotated[int, QueryParameter(ge=0)] = 0, limit: Limit = 100
) -> Events:
    told = await bursar.store.events(caller.tenant, after, limit)
    return Events(tuple(encode.event(event) for _, event in told), told[-1][0] if told else after)


@post("/v1/keys", summary="A new API key (role admin)")
async def create_key(data: JSONBody[CreateKey], caller: Asker, bursar: House) -> Created:
    caller.demand_admin()
    return Created(*await bursar.keys.create(data.tenant, data.role, data.label, caller.id))


@get("/v1/keys", summary="The keys of all tenants, without their secrets (role admin)")
async def list_keys(caller: Asker, bursar: House) -> list[KeyView]:
    caller.demand_admin()
    return await bursar.keys.all()


@post("/v1/keys/{id:str}/revoke", status_code=204, summary="End an API key (role admin)")
async def revoke_key(id: Id, caller: Asker, bursar: House) -> None:
    caller.demand_admin()
    await bursar.keys.revoke(id, caller.id)


@post("/v1/login-links", summary="A single-use link to the console")
async def create_link(caller: Asker, bursar: House, sessions: Logins) -> Link:
    http = bursar.config.http
    return Link(f"http://{http.host}:{http.port}/login?token={sessions.link(caller)}")


ROUTES = [
    *(create_invoice, list_invoices, get_invoice, invoice_timeline, act_on_invoice),
    *(create_payout, list_payouts, get_payout, act_on_payout, enter_balance, list_balances),
    *(list_alerts, clear_alert, list_sources, rebase_source, list_events),
    *(create_key, list_keys, revoke_key, create_link),
]
