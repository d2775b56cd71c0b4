"""The application that uvicorn serves."""

from __future__ import annotations

from importlib.metadata import version
from typing import Any

from litestar import Litestar, Request
from litestar.di import Provide
from litestar.openapi import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme

from ..shell import Shell
from ..wiring import Bursar
from . import api, health, pages, problems
from .auth import Caller, Sessions, caller_of

OPENAPI = OpenAPIConfig(
    "Bursar",
    version("bursar"),
    description="What was paid to you, and what is paid out once. Errors are problem documents (RFC 9457).",
    components=Components(security_schemes={"key": SecurityScheme("http", scheme="bearer")}),
    security=[{"key": []}],
    path="/openapi.json",
    render_plugins=[JsonRenderPlugin(path="/")],
)


def application(bursar: Bursar, shell: Shell, sessions: Sessions) -> Litestar:
    async def caller(request: Request[Any, Any, Any]) -> Caller:
        return await caller_of(request, bursar.keys)

    return Litestar(
        [*api.ROUTES, *health.ROUTES, *pages.ROUTES],
        dependencies={
            "bursar": Provide(lambda: bursar, sync_to_thread=False),
            "shell": Provide(lambda: shell, sync_to_thread=False),
            "sessions": Provide(lambda: sessions, sync_to_thread=False),
            "caller": Provide(caller),
        },
        exception_handlers=problems.HANDLERS,
        openapi_config=OPENAPI,
        request_max_body_size=100_000,
        logging_config=None,
    )
