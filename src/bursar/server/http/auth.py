"""Who asks: an API key in `Authorization: Bearer …`, or for the pages a session that a single-use link began."""

from __future__ import annotations

import secrets
from typing import Any

from litestar import Request
from litestar.di import NamedDependency
from litestar.exceptions import NotAuthorizedException, PermissionDeniedException
from msgspec import Struct

from ..keys import Key, Keys
from ..shell import Shell
from ..wiring import Bursar

COOKIE = "bursar_session"
SESSIONS = 100


class Caller(Struct, frozen=True):
    id: str
    tenant: str
    role: str

    def demand_admin(self) -> None:
        """Raises PermissionDeniedException."""
        if self.role != "admin":
            raise PermissionDeniedException("this key may not: it needs the role admin")


class Sessions:
    """Links and sessions of this process; they end with it."""

    def __init__(self) -> None:
        self.links: dict[str, Caller] = {}
        self.open: dict[str, Caller] = {}

    def link(self, caller: Caller) -> str:
        token = secrets.token_urlsafe(24)
        self.links = dict([*self.links.items(), (token, caller)][-SESSIONS:])
        return token

    def begin(self, token: str) -> str | None:
        """A session for a link that was not used before."""
        caller = self.links.pop(token, None)
        if caller is None:
            return None
        session = secrets.token_urlsafe(24)
        self.open = dict([*self.open.items(), (session, caller)][-SESSIONS:])
        return session

    def caller(self, request: Request[Any, Any, Any]) -> Caller | None:
        return self.open.get(request.cookies.get(COOKIE, ""))


async def caller_of(request: Request[Any, Any, Any], keys: Keys) -> Caller:
    """Raises NotAuthorizedException."""
    scheme, _, secret = request.headers.get("authorization", "").partition(" ")
    found: tuple[str, Key] | None = None
    if scheme.lower() == "bearer" and secret:
        found = await keys.whose(secret.strip())
    if found is None:
        raise NotAuthorizedException(
            "an API key is needed: Authorization: Bearer bk_… (the first one is in the file admin.key)",
            headers={"WWW-Authenticate": "Bearer"},
        )
    id, key = found
    return Caller(id, key.tenant, key.role)


House = NamedDependency[Bursar]  # what handlers are given
Loops = NamedDependency[Shell]
Logins = NamedDependency[Sessions]
Asker = NamedDependency[Caller]
