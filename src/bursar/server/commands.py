"""One command, one commit, whoever asks: HTTP, the command line and the library call these."""

from __future__ import annotations

from collections.abc import Container, Mapping
from hashlib import sha256
from typing import Any
from uuid import uuid4

from msgspec import Struct, json
from msgspec.structs import replace

from ..core.errors import Clash, CommitLost, Invalid, LostRace, Missing
from ..core.money import Money, minor_of
from ..core.ports import Refused, Store, Write
from ..core.subject import Decision, Mover, Spec, Subject, SubjectId
from ..engine.intake import command
from ..engine.reconcile import BURSAR, Engine
from ..invoices import xpub
from ..invoices.commands import CreateInvoice, Offer, Price, asked, declare
from ..invoices.spec import invoice_of
from ..payouts.leg import Leg
from . import encode, views

TRIES = 5
PATIENCE = 3_600_000_000  # an open attempt is shown to a person after this long


class Act(Struct, frozen=True, forbid_unknown_fields=True):
    """What an operator decides about a subject."""

    act: str
    reason: str
    payment: str = ""  # the payment that it is about
    txid: str = ""  # with which it was given back


class CreatePayout(Struct, frozen=True, forbid_unknown_fields=True):
    """The request: pay `amount` to `to` (a bolt11 invoice, an address) on a rail, once."""

    rail: str
    to: str
    amount: Price
    fee_limit: str = ""  # decimal, in the amount's asset; empty: the rail's usual one
    external_id: str = ""


class Page(Struct, frozen=True):
    """A page of a list, newest first; `next` leads to the older ones."""

    items: list[dict[str, Any]]
    next: int | None


class Invoices:
    def __init__(self, engine: Engine, store: Store, offers: Mapping[str, Offer]) -> None:
        self.engine, self.store, self.offers = engine, store, offers

    async def create(self, tenant: str, request: CreateInvoice, key: str = "", actor: str = "api") -> dict[str, Any]:
        """The same `external_id`, else the same idempotency `key`, with the same words is the same invoice.

        Raises Invalid; Clash where the words differ."""
        digest = sha256(json.encode(request, order="deterministic")).hexdigest()
        to = SubjectId(tenant, "invoice", "inv_" + identity(request.external_id, key))
        ways = asked(request, self.offers)
        for _ in range(TRIES):
            subject, cursors = await self.store.load(to)
            if subject.records:
                if invoice_of(subject.spec.body).request != digest:
                    raise Clash(
                        f"{request.external_id or key} names another invoice", "use a new id, or the same words"
                    )
                return views.invoice(subject, cursors)
            others, addresses = list[Write](), list[tuple[Offer, str]]()
            for offer, address in ways:
                if address is None:
                    address, write = await self.derive(offer, to)
                    others.append(write)
                addresses.append((offer, address))
            read, now = await self.store.cursors(), self.engine.now()
            invoice, first = declare(request, addresses, read, self.engine.prices(), now)
            spec = Spec(1, json.encode(replace(invoice, request=digest)), actor, now)
            try:
                accepted(await command(self.engine, to, spec, first, others=tuple(others)))
            except (LostRace, CommitLost):
                continue  # read again: it may be there
            subject, cursors = await self.store.load(to)
            return views.invoice(subject, cursors)
        raise Clash("too many commands at once", "ask again")

    async def derive(self, offer: Offer, to: SubjectId) -> tuple[str, Write]:
        """The next address of the offer's extended public key, and what takes it."""
        assert offer.derive is not None
        page = 0
        while True:
            name = SubjectId("system", "xpub", f"{sha256(offer.derive(0).encode()).hexdigest()[:16]}-{page}")
            subject, _ = await self.store.load(name)
            index = xpub.following(subject, page)
            if index is not None:
                spec = () if subject.records else (Spec(1, b"", BURSAR),)
                record = xpub.issue(index, str(to), self.engine.now())
                return offer.derive(index), Write(name, (*spec, record), subject.version)
            page += 1

    async def get(self, tenant: str, id: str) -> dict[str, Any]:
        """Raises Missing."""
        subject, cursors = await there(self.store, SubjectId(tenant, "invoice", id))
        return views.invoice(subject, cursors)

    async def act(self, tenant: str, id: str, act: Act, key: str, actor: str) -> dict[str, Any]:
        """Raises Missing; Clash where the act is not possible now."""
        await decide(self.engine, self.store, SubjectId(tenant, "invoice", id), act, key, actor)
        return await self.get(tenant, id)


class Payouts:
    def __init__(self, engine: Engine, store: Store, scales: encode.Scales) -> None:
        self.engine, self.store, self.scales = engine, store, scales

    async def create(self, tenant: str, request: CreatePayout, key: str = "", actor: str = "api") -> dict[str, Any]:
        """As of invoices. Raises Invalid, Clash."""
        if request.rail not in self.engine.executors:
            known = ", ".join(self.engine.executors) or "none is configured"
            raise Invalid(f"{request.rail!r} is no rail that pays", f"known: {known}")
        if request.amount.asset not in self.scales:
            raise Invalid(f"{request.amount.asset!r} is no asset of a configured rail")
        scale = self.scales[request.amount.asset]
        try:
            money = Money(request.amount.asset, minor_of(request.amount.value, scale))
            fee = minor_of(request.fee_limit, scale) if request.fee_limit else 0
        except ValueError as err:
            raise Invalid(str(err)) from err
        to = SubjectId(tenant, "payout", "po_" + identity(request.external_id, key))
        body = json.encode(Leg(request.rail, request.to, money, PATIENCE, fee=fee))
        for _ in range(TRIES):
            try:
                accepted(await command(self.engine, to, Spec(1, body, actor, self.engine.now())))
                return await self.get(tenant, to.id)
            except (LostRace, CommitLost):
                continue
        raise Clash("too many commands at once", "ask again")

    async def get(self, tenant: str, id: str) -> dict[str, Any]:
        """Raises Missing."""
        subject, _ = await there(self.store, SubjectId(tenant, "payout", id))
        return views.payout(subject, self.scales)

    async def act(self, tenant: str, id: str, act: Act, key: str, actor: str) -> dict[str, Any]:
        """Raises Missing; Clash where the act is not possible now."""
        await decide(self.engine, self.store, SubjectId(tenant, "payout", id), act, key, actor)
        return await self.get(tenant, id)


async def decide(engine: Engine, store: Store, to: SubjectId, act: Act, key: str, actor: str) -> None:
    """Record an operator's act; the same key again is the same act. Raises Missing, Clash."""
    await there(store, to)
    name, now = key or uuid4().hex, engine.now()
    record = Decision(act.act, act.payment, actor, act.reason, now, body=act.txid.encode(), command=name)
    for _ in range(TRIES):
        try:
            return accepted(await command(engine, to, record))
        except (LostRace, CommitLost):
            continue
    raise Clash("too many commands at once", "ask again")


def accepted(refused: Refused | None) -> None:
    if refused is not None:
        raise Clash(refused.reason)


def identity(external_id: str, key: str) -> str:
    if external_id:
        return sha256(b"external/" + external_id.encode()).hexdigest()[:24]
    return sha256(b"key/" + key.encode()).hexdigest()[:24] if key else uuid4().hex[:24]


async def there(store: Store, name: SubjectId) -> tuple[Subject, Mapping[str, Any]]:
    """The subject with the cursors of all rails, for people. Raises Missing: another tenant's is not there either."""
    subject, _ = await store.load(name)
    if subject.status is None:
        raise Missing(f"there is no {name.kind} {name.id}")
    return subject, await store.cursors()


async def page(store: Store, tenant: str, kind: str, movers: Container[Mover], before: int, limit: int) -> Page:
    rows = await store.page(tenant, kind, movers, before, limit)
    items = [encode.status(row.subject, row.version, row.status) for row in rows]
    return Page(items, rows[-1].serial if len(rows) == limit else None)


async def timeline(store: Store, name: SubjectId, scales: encode.Scales) -> list[dict[str, Any]]:
    """Records and events in the order of their times; what has none stands where it was recorded."""
    subject, _ = await there(store, name)
    told = await store.events(name.tenant, 0, 1_000, name)
    rows: list[tuple[int, dict[str, Any]]] = []
    last = 0
    for record in subject.records:
        last = encode.when(record) or last
        rows.append((last, encode.row(record, scales)))
    for _, event in told:
        text = f"{event.previous or 'nothing'} → {event.state}" if event.previous != event.state else "updated"
        flags = [change for change in event.changes if "=" not in change]
        body = {"at": encode.instant(event.at), "type": "event", "text": " ".join([text, *flags])}
        rows.append((event.at, body | {"evidence": encode.event(event)}))
    return [row for _, row in sorted(rows, key=lambda x: x[0])]
