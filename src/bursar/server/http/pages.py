"""Two pages for an operator: who must move next; and one subject, its timeline, its money, why it is in this state."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from fractions import Fraction
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response, get, post
from litestar.params import FromPath, FromQuery
from litestar.response import Redirect
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler
from msgspec import Struct, json

from ...core.errors import Missing
from ...core.money import Amount
from ...core.ports import Listed
from ...core.subject import Mover, SubjectId
from .. import encode, views
from ..commands import SYSTEM
from ..wiring import Bursar
from .api import NEWEST, sources
from .auth import COOKIE, Caller, House, Logins

FOLDER = Path(__file__).parent.parent / "pages"
KINDS = ("invoice", "payout", "alert")
SHOWN, WALKED = 25, 1_000  # rows of a group; of those who need a person, to find the oldest
MOVERS = {
    Mover.OPERATOR: "needs a person",
    Mover.BURSAR: "Bursar is about to act",
    Mover.RAIL: "waiting for the rail",
    Mover.PAYER: "waiting for the payer",
    Mover.NOBODY: "finished",
}
CSP = "default-src 'none'; style-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
HEADERS = {
    "Content-Security-Policy": CSP,
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}


Asked = Request[Any, Any, Any]


class Line(Struct, frozen=True):
    """A subject in a list."""

    name: SubjectId
    view: views.View

    @property
    def title(self) -> str:
        if isinstance(self.view, views.Alert):
            return f"alert: {self.view.flag.replace('_', ' ')}"
        return self.view.external_id or self.view.id

    @property
    def money(self) -> Amount | None:
        match self.view:
            case views.Invoice(price=money) | views.Payout(amount=money):
                return money
        return None


def ago(at: datetime, now: datetime) -> str:
    seconds = max(0, int((now - at).total_seconds()))
    for size, unit in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {unit} ago"
    return f"{seconds} s ago"


def words(text: str) -> str:
    return text.replace("_", " ")


JINJA = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
JINJA.filters |= {"ago": ago, "words": words, "pretty": lambda x: json.format(json.encode(x)).decode(), "float": float}


def html(name: str, status: int = 200, **values: Any) -> Response[str]:
    text = JINJA.get_template(name).render(movers=MOVERS, **values)
    return Response(text, status_code=status, media_type="text/html", headers=HEADERS)


def closed() -> Response[str]:
    return html("login.html", 401)


@get("/login", include_in_schema=False)
async def login(token: FromQuery[str] = "") -> Response[str]:
    """A form, so that nothing but a person's click uses the link up: link previews fetch."""
    return html("enter.html", token=token)


@post("/login", include_in_schema=False, status_code=303)
async def enter(request: Asked, sessions: Logins) -> Response[Any]:
    form = await request.form()
    session = sessions.begin(str(form.get("token", "")))
    if session is None:
        return closed()
    answer = Redirect("/", status_code=303)
    answer.set_cookie(COOKIE, session, httponly=True, samesite="strict", path="/")
    return answer


@get("/", include_in_schema=False)
async def overview(
    request: Asked, bursar: House, sessions: Logins, kind: FromQuery[str] = "", mover: FromQuery[str] = ""
) -> Response[str]:
    caller = sessions.caller(request)
    if caller is None:
        return closed()
    kinds = (kind,) if kind in KINDS else KINDS
    groups, seen = list[tuple[Mover, list[Line]]](), set[str]()
    for who in [m for m in MOVERS if mover in ("", m.value)]:
        lines = await lines_of(bursar, caller, kinds, who)
        seen |= {f"{line.name.kind}/{line.name.id}" for line in lines}
        # of an alert about something that is listed itself the row says it all
        lines = [x for x in lines if not isinstance(x.view, views.Alert) or kind or x.view.about not in seen]
        groups.append((who, lines[:SHOWN]))
    return html(
        "overview.html",
        kinds=KINDS,
        kind=kind,
        mover=mover,
        groups=[group for group in groups if group[1]],
        shown=SHOWN,
        sources=await sources(bursar),
        balances=await bursar.payouts.balances(caller.tenant),
        now=encode.instant(bursar.engine.now()),
    )


async def lines_of(bursar: Bursar, caller: Caller, kinds: Sequence[str], mover: Mover) -> list[Line]:
    """Of those who need a person the oldest first, of the others the newest."""
    oldest, found = mover is Mover.OPERATOR, list[Listed]()
    for kind in kinds:
        for tenant in (caller.tenant, SYSTEM) if kind == "alert" else (caller.tenant,):
            rows, before = list[Listed](), NEWEST
            while len(rows) < WALKED:
                page = await bursar.store.page(tenant, kind, {mover}, before, 100 if oldest else SHOWN)
                rows += page
                if not oldest or len(page) < 100:
                    break
                before = page[-1].serial
            found += rows
    found = sorted(found, key=lambda row: row.serial, reverse=not oldest)[:SHOWN]
    shown = await bursar.desk.views([row.subject for row in found])
    return [Line(row.subject, view) for row, view in zip(found, shown, strict=True)]


@get("/subjects/{tenant:str}/{kind:str}/{id:path}", include_in_schema=False)
async def subject_page(
    request: Asked,
    bursar: House,
    sessions: Logins,
    tenant: FromPath[str],
    kind: FromPath[str],
    id: FromPath[str],
) -> Response[str]:
    caller = sessions.caller(request)
    if caller is None:
        return closed()
    name = SubjectId(tenant, kind, id.removeprefix("/"))
    try:
        if kind not in KINDS or tenant not in (caller.tenant, SYSTEM):
            raise Missing("")
        subject, (view,) = await bursar.desk.there(name), await bursar.desk.views([name])
    except Missing:
        return html("missing.html", 404)
    assert subject.status is not None
    bars = views.bars(subject) if kind == "invoice" else []
    return html(
        "subject.html",
        kinds=KINDS,
        kind=kind,
        line=Line(name, view),
        bars=bars,
        wide=max(Fraction(100), sum((width for *_, width in bars), Fraction(0))),
        entries=[
            (line.account, line.asset, encode.value(line.asset, line.minor, bursar.scales))
            for posting in subject.status.postings
            for line in posting.lines
        ],
        rows=await bursar.desk.timeline(name),
        now=encode.instant(bursar.engine.now()),
    )


ROUTES: list[ControllerRouterHandler] = [
    login,
    enter,
    overview,
    subject_page,
    create_static_files_router(path="/static", directories=[FOLDER / "static"]),
]
