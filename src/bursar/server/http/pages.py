"""Two pages for an operator: who must move next; and one subject, its timeline, its money, why it is in this state."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from litestar import Request, Response, get, post
from litestar.response import Redirect
from litestar.static_files import create_static_files_router
from litestar.types import ControllerRouterHandler

from ...core.subject import Mover, SubjectId
from .. import encode, views
from ..commands import there, timeline
from ..wiring import Bursar
from .api import NEWEST, sources
from .auth import COOKIE, Caller, Sessions

FOLDER = Path(__file__).parent.parent / "pages"
JINJA = Environment(loader=FileSystemLoader(FOLDER), autoescape=True, undefined=StrictUndefined, trim_blocks=True)
KINDS = ("invoice", "payout", "alert")
MOVERS = {
    "operator": "needs a person",
    "bursar": "we must move",
    "rail": "waiting for the chain",
    "payer": "waiting for the payer",
    "nobody": "over",
}
CSP = (
    "default-src 'none'; style-src 'self'; img-src 'self' data:; form-action 'self'; frame-ancestors 'none';"
    " base-uri 'none'"
)
HEADERS = {"Content-Security-Policy": CSP, "X-Content-Type-Options": "nosniff", "Referrer-Policy": "no-referrer"}


def html(name: str, status: int = 200, **values: Any) -> Response[str]:
    text = JINJA.get_template(name).render(**values)
    return Response(text, status_code=status, media_type="text/html; charset=utf-8", headers=HEADERS)


def closed() -> Response[str]:
    return html("login.html", 401)


@get("/login", include_in_schema=False)
async def login(token: str = "") -> Response[str]:
    """A form, so that nothing but a person's click uses the link up: link previews fetch."""
    return html("enter.html", token=token)


@post("/login", include_in_schema=False, status_code=303)
async def enter(request: Request[Any, Any, Any], sessions: Sessions) -> Response[Any]:
    form = await request.form()
    session = sessions.begin(str(form.get("token", "")))
    if session is None:
        return closed()
    answer = Redirect("/", status_code=303)
    answer.set_cookie(COOKIE, session, httponly=True, samesite="strict", path="/")
    return answer


@get("/", include_in_schema=False)
async def overview(
    request: Request[Any, Any, Any], bursar: Bursar, sessions: Sessions, kind: str = "invoice", mover: str = ""
) -> Response[str]:
    caller = sessions.caller(request)
    if caller is None:
        return closed()
    kind = kind if kind in KINDS else "invoice"
    chosen = frozenset({Mover(mover)} if mover in MOVERS else Mover)
    rows = await rows_of(bursar, caller, kind, chosen)
    groups = [(name, MOVERS[name], [row for row in rows if row["mover"] == name]) for name in MOVERS]
    return html(
        "overview.html",
        kinds=KINDS,
        kind=kind,
        mover=mover,
        movers=MOVERS,
        groups=[group for group in groups if group[2]],
        sources=await sources(bursar),
        as_of=encode.instant(bursar.engine.now()),
    )


async def rows_of(bursar: Bursar, caller: Caller, kind: str, movers: frozenset[Mover]) -> list[dict[str, Any]]:
    """The newest fifty, each as a sentence."""
    tenants = (caller.tenant, "system") if kind == "alert" else (caller.tenant,)
    listed = [row for tenant in tenants for row in await bursar.store.page(tenant, kind, movers, NEWEST, 50)]
    cursors, out = await bursar.store.cursors(), []
    for row in listed:
        subject, _ = await bursar.store.load(row.subject)
        if subject.status is not None:
            out.append(
                encode.status(row.subject, row.version, subject.status)
                | {
                    "tenant": row.subject.tenant,
                    "why": views.why(subject, cursors),
                    "at": encode.instant(subject.spec.at),
                }
                | {"amount": views.amount(subject, bursar.scales)}
            )
    return out


@get("/subjects/{tenant:str}/{kind:str}/{id:path}", include_in_schema=False)
async def subject_page(
    request: Request[Any, Any, Any], bursar: Bursar, sessions: Sessions, tenant: str, kind: str, id: str
) -> Response[str]:
    caller = sessions.caller(request)
    if caller is None:
        return closed()
    if kind not in KINDS or tenant not in (caller.tenant, "system"):
        return html("missing.html", 404)
    name = SubjectId(tenant, kind, id.removeprefix("/"))
    subject, cursors = await there(bursar.store, name)
    assert subject.status is not None
    return html(
        "subject.html",
        kind=kind,
        body=encode.status(name, subject.version, subject.status),
        view=views.invoice(subject, cursors) if kind == "invoice" else None,
        why=views.why(subject, cursors),
        mover=MOVERS[subject.status.mover.value],
        amount=views.amount(subject, bursar.scales),
        lines=[
            (line.account, line.asset, encode.money_text(line.asset, line.minor, bursar.scales))
            for posting in subject.status.postings
            for line in posting.lines
        ],
        rows=await timeline(bursar.store, name, bursar.scales),
        as_of=encode.instant(bursar.engine.now()),
    )


ROUTES: list[ControllerRouterHandler] = [
    login,
    enter,
    overview,
    subject_page,
    create_static_files_router(path="/static", directories=[FOLDER / "static"]),
]
