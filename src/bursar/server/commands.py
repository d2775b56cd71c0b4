"""One command, one commit, whoever asks: HTTP, the command line and the library call these."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Container, Mapping, Sequence
from contextlib import asynccontextmanager, nullcontext
from hashlib import sha256
from typing import Any, Generic, NamedTuple, TypeVar
from uuid import uuid4

from msgspec import Struct, json
from msgspec.structs import replace

from .. import alerts
from ..balances import EnterBalance, entered
from ..core.errors import Clash, CommitLost, Invalid, LostRace, Missing, Unusable
from ..core.facts import Cursor
from ..core.ledger import RESERVED
from ..core.money import Money
from ..core.ports import Advance, Conflict, Store, Write
from ..core.subject import Decision, Mover, Spec, Subject, SubjectId
from ..core.subject import key as recorded
from ..engine.intake import command
from ..engine.observe import rebased
from ..engine.reconcile import BURSAR, Engine
from ..invoices import commands as invoices
from ..invoices import xpub
from ..invoices.commands import ActOnInvoice, CreateInvoice, Offer, asked, declare
from ..invoices.payments import PAID_TO
from ..invoices.spec import invoice_of
from ..payouts import commands as payouts
from ..payouts.commands import ActOnPayout, CreatePayout, Purse
from ..payouts.leg import wallet
from ..sources import REBASED
from . import encode, views
from .config import SYSTEM as SYSTEM
from .config import is_tenant

TRIES = 5
PATIENCE = 10  # seconds, for the turn to get the next address of a key
APP = "library"  # the actor, where the application does not say who asks
NAME = 200  # characters of an external id, of a tenant
T = TypeVar("T")


class Asked(NamedTuple):
    record: Spec | Decision
    more: tuple[Decision, ...] = ()  # our own decisions that belong into its commit ...
    others: tuple[Write, ...] = ()  # ... what it takes from other subjects ...
    advance: Advance | None = None  # ... and the cursor that it moves


class ClearAlert(Struct, frozen=True, forbid_unknown_fields=True):
    """What a person says of an alert that does not clear by itself."""

    alert: str
    reason: str


class Rebase(Struct, frozen=True, forbid_unknown_fields=True):
    """Of a rail that has forked more deeply than we can follow: what was read above this block is read anew."""

    above: int
    reason: str


class Page(Struct, Generic[T], frozen=True):
    """A page of a list, newest first; `next`, given as `before`, leads to the older ones."""

    items: tuple[T, ...]
    next: int | None


class Desk(Generic[T]):
    """What all commands share, about subjects of one kind."""

    kind = ""
    taken = ("another one has this name", "choose another one")

    def __init__(self, engine: Engine, store: Store, scales: encode.Scales) -> None:
        self.engine, self.store, self.scales = engine, store, scales

    def name(self, tenant: str, id: str) -> SubjectId:
        return SubjectId(tenant, self.kind, id)

    async def there(self, name: SubjectId) -> Subject:
        """With its status as of now: what is recorded may be newer than what was told. Raises Missing: another
        tenant's is not there either."""
        subject = (await self.store.load(name))[0] if name.id.isprintable() else None
        if subject is None or subject.status is None:
            raise Missing(f"there is no {name.kind} {name.id}")
        return replace(subject, status=self.engine.controllers[name.kind].status(subject))

    async def get(self, tenant: str, id: str) -> T:
        """Raises Missing."""
        found: T = (await self.views([self.name(tenant, id)]))[0]
        return found

    async def views(self, names: Sequence[SubjectId]) -> list[Any]:
        """With the cursors of all rails, for people. Raises Missing."""
        subjects, cursors = await asyncio.gather(*map(self.there, names)), await self.store.cursors()
        return [views.view(subject, cursors, self.scales) for subject in subjects]

    async def page(self, tenant: str, movers: Container[Mover], before: int, limit: int) -> Page[T]:
        rows = await self.store.page(tenant, self.kind, movers, before, limit)
        items = await self.views([row.subject for row in rows])
        return Page(tuple(items), rows[-1].serial if len(rows) == limit else None)

    async def timeline(self, name: SubjectId) -> list[encode.Row]:
        """All that was recorded of it, and the first thousand of what was told. Raises Missing."""
        subject, told = await asyncio.gather(self.there(name), self.store.told(name, 0, 1_000))
        return encode.timeline(subject, told, self.scales)

    async def run(self, to: SubjectId, asked: Callable[[Subject], Awaitable[Asked]]) -> None:
        """`asked`: what is asked for, given what is there. Raises Clash, Unusable."""
        lost: CommitLost | None = None
        for _ in range(TRIES):
            subject, _ = await self.store.load(to)
            record, more, others, advance = await asked(subject)
            try:
                refused = await command(self.engine, to, record, *more, others=others, advance=advance)
            except LostRace as err:
                if err.args and isinstance(err.args[0], Conflict) and err.args[0].what == "name":
                    raise Clash(*self.taken) from err
            except CommitLost as err:
                lost = err  # read again: it may be there
            else:
                if refused:
                    raise Clash(refused.reason)
                return
        if lost:
            raise Unusable("the database does not answer", "ask again, with the same words") from lost
        raise Clash("too many commands at once", "ask again")


def just(record: Spec | Decision) -> Callable[[Subject], Awaitable[Asked]]:
    async def asked(_: Subject) -> Asked:
        return Asked(record)

    return asked


class Invoices(Desk[views.Invoice]):
    kind = "invoice"
    taken = ("another invoice is paid to this address", "give each its own")

    def __init__(self, engine: Engine, store: Store, scales: encode.Scales, offers: Mapping[str, Offer]) -> None:
        super().__init__(engine, store, scales)
        self.offers = offers
        self.deriving = asyncio.Lock()  # whoever asks for the next address at once would take it from each other
        self.pages: dict[str, int] = {}  # of each way's key: those before are full

    async def create(self, tenant: str, request: CreateInvoice, key: str = "", actor: str = APP) -> views.Invoice:
        """The same `external_id`, else the same idempotency `key`, with the same words is the same invoice.

        Raises Invalid; Clash where the words differ."""
        digest = sha256(json.encode(request, order="deterministic")).hexdigest()
        to = self.name(tenant, "inv_" + identity(request.external_id, key))

        async def invoice(s: Subject) -> Asked:
            if not s.records:
                return await self.declared(to, request, digest, actor)
            if invoice_of(s.spec.body).request != digest:
                what = f"the external id {request.external_id}" if request.external_id else "the idempotency key"
                raise Clash(f"{what} names another invoice", "use a new one, or the same words")
            return Asked(s.spec)

        derives = request.ways == "all" or any(isinstance(way, str) or not way.address for way in request.ways)
        async with self.in_turn() if derives else nullcontext():
            await self.run(to, invoice)
        return await self.get(tenant, to.id)

    @asynccontextmanager
    async def in_turn(self) -> AsyncIterator[None]:
        """Raises Unusable: the store is too slow for all who ask."""
        try:
            async with asyncio.timeout(PATIENCE):
                await self.deriving.acquire()
        except TimeoutError as err:
            raise Unusable("too many ask for an address at once", "ask again, with the same words") from err
        try:
            yield
        finally:
            self.deriving.release()

    async def declared(self, to: SubjectId, request: CreateInvoice, digest: str, actor: str) -> Asked:
        """Raises Invalid."""
        others, addresses = list[Write](), list[tuple[Offer, str]]()
        for offer, address in asked(request, self.offers):
            if address is None:
                address, write = await self.derive(offer, to)
                others.append(write)
            addresses.append((offer, address))
        read, now = await self.store.cursors(), self.engine.now()
        invoice, first = declare(request, addresses, read, self.engine.prices(), now)
        spec = Spec(1, json.encode(replace(invoice, request=digest)), actor, now)
        return Asked(spec, (first,), tuple(others))

    async def derive(self, offer: Offer, to: SubjectId) -> tuple[str, Write]:
        """The next address of the offer's extended public key, and what takes it: also those before it that somebody
        gave by hand."""
        assert offer.derive is not None
        while True:
            page = self.pages.setdefault(offer.way, 0)
            name = SubjectId(SYSTEM, "xpub", f"{sha256(offer.derive(0).encode()).hexdigest()[:16]}-{page}")
            subject, _ = await self.store.load(name)
            version, records = subject.version, () if subject.records else (Spec(1, b"", BURSAR),)
            while (index := xpub.following(subject.plus(*records), page)) is not None:
                address, records = offer.derive(index), (*records, xpub.issue(index, str(to), self.engine.now()))
                if not await self.store.find(to.tenant, PAID_TO, f"{offer.rail}/{offer.key_of(address)}"):
                    return address, Write(name, records, version)
            self.pages[offer.way] = page + 1

    async def act(self, tenant: str, id: str, act: ActOnInvoice, key: str = "", actor: str = APP) -> views.Invoice:
        """The same key again is the same act. Raises Missing; Clash where it is not possible now."""
        to, name = self.name(tenant, id), key or uuid4().hex
        await self.there(to)

        async def acted(s: Subject) -> Asked:
            return Asked(invoices.act(s, act, actor, name, self.engine.now()))

        await self.run(to, acted)
        return await self.get(tenant, id)


class Payouts(Desk[views.Payout]):
    kind = "payout"
    taken = ("the invoice is paid by another payout", "one invoice is paid by one payout")

    def __init__(self, engine: Engine, store: Store, scales: encode.Scales, purses: Mapping[str, Purse]) -> None:
        super().__init__(engine, store, scales)
        self.purses = purses

    async def create(self, tenant: str, request: CreatePayout, key: str = "", actor: str = APP) -> views.Payout:
        """As of invoices. Raises Invalid, Clash."""
        to = self.name(tenant, "po_" + identity(request.external_id, key))

        async def payout(s: Subject) -> Asked:
            """The same words are judged as of when they were first said: an invoice may have expired since."""
            first = s.records[0] if s.records else None
            at, who = (first.at, first.actor) if isinstance(first, Spec) else (self.engine.now(), actor)
            return Asked(Spec(1, json.encode(payouts.declare(request, self.purses, at)), who, at))

        await self.run(to, payout)
        return await self.get(tenant, to.id)

    async def act(self, tenant: str, id: str, act: ActOnPayout, key: str = "", actor: str = APP) -> views.Payout:
        """The same key again is the same act. Raises Missing, Invalid; Clash where it is not possible now."""
        to, name = self.name(tenant, id), key or uuid4().hex
        await self.there(to)

        async def acted(s: Subject) -> Asked:
            return Asked(*payouts.act(s, act, self.purses, actor, name, self.engine.now()))

        await self.run(to, acted)
        return await self.get(tenant, id)

    async def enter(self, tenant: str, request: EnterBalance, key: str = "", actor: str = APP) -> views.Balance:
        """What is in a wallet, before anything can be paid out of it. As of invoices. Raises Invalid, Clash."""
        demand_tenant(tenant)
        minor = payouts.amount_of(request.rail, request.amount, self.purses)
        if not request.reason.strip():
            raise Invalid("an entry needs a reason", "it is kept with the entry")
        body = json.encode(entered(wallet(request.rail), Money(request.amount.asset, minor), request))
        to = SubjectId(tenant, "balance", "bal_" + identity(request.external_id, key))
        await self.run(to, just(Spec(1, body, actor, self.engine.now())))
        return next(balance for balance in await self.balances(tenant) if balance.rail == request.rail)

    async def balances(self, tenant: str) -> list[views.Balance]:
        """Of every wallet: what the ledger says."""
        accounts = {name: wallet(name) for name in self.purses}
        sums = await self.store.sums(tenant, [*accounts.values(), *(a + RESERVED for a in accounts.values())])
        return [
            views.balance(name, self.purses[name].asset, account, sums, self.scales)
            for name, account in accounts.items()
        ]


class Alerts(Desk[views.Alert]):
    kind = "alert"

    async def clear(self, tenant: str, act: ClearAlert, key: str = "", actor: str = APP) -> views.Alert:
        """About the news that there is now. Raises Missing; Clash where it is not firing."""
        to, name = self.name(tenant, act.alert), key or uuid4().hex

        async def cleared(s: Subject) -> Asked:
            n = str(alerts.edges(s)[-1][0].n)
            return Asked(Decision("cleared", n, actor, act.reason, self.engine.now(), command=name))

        if not act.reason.strip():
            raise Invalid("an act needs a reason", "it is kept with the alert")
        await self.there(to)
        await self.run(to, cleared)
        return await self.get(tenant, act.alert)


class Sources(Desk[Any]):
    kind = "source"

    async def rebase(self, rail: str, act: Rebase, key: str = "", actor: str = APP) -> None:
        """The same key again is the same act. Raises Missing, Invalid; Clash where it is not possible now."""
        to, name = self.name(SYSTEM, rail), key or uuid4().hex
        await self.there(to)

        async def rebasing(s: Subject) -> Asked:
            cursor = (await self.store.cursors()).get(rail, Cursor())
            said = Decision(REBASED, str(act.above), actor, act.reason, self.engine.now(), command=name)
            if not 0 < act.above < cursor.position and recorded(said) not in map(recorded, s.records):
                raise Invalid(f"{rail} has been read up to block {cursor.position}: name one below it", "a common one")
            return Asked(said, advance=rebased(rail, cursor, act.above))

        await self.run(to, rebasing)


def demand_tenant(name: str) -> None:
    """Raises Invalid."""
    if not is_tenant(name):
        raise Invalid(f"{name[:NAME]!r} is no name for a tenant", f"up to {NAME} letters, digits, - and _")


def identity(external_id: str, key: str) -> str:
    """Raises Invalid."""
    if len(external_id) > NAME or not external_id.isprintable():
        raise Invalid(f"an external_id has at most {NAME} printable characters")
    if external_id:
        return sha256(b"external/" + external_id.encode()).hexdigest()[:24]
    return sha256(b"key/" + key.encode()).hexdigest()[:24] if key else uuid4().hex[:24]
