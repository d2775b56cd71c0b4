"""Who may ask: tenants and their keys, subjects like any other. Of a key only a digest is kept."""

from __future__ import annotations

import asyncio
import os
import secrets
from hashlib import sha256
from pathlib import Path

from msgspec import Struct, json

from ..core.errors import Invalid
from ..core.ports import Controller, Refused, Seen
from ..core.steps import Step, Wait
from ..core.subject import Decision, Mover, Name, Spec, Status, Subject
from .commands import SYSTEM, Desk, demand_tenant, just

NAME = "key.digest"


class Key(Struct, frozen=True):
    tenant: str
    role: str  # "admin": also tenants and keys; "tenant": what is its tenant's
    digest: str
    label: str = ""


class KeyView(Struct, frozen=True):
    id: str
    tenant: str
    role: str
    label: str
    state: str


def key_of(s: Subject) -> Key:
    return json.decode(s.spec.body, type=Key)


def viewed(s: Subject) -> KeyView:
    key = key_of(s)
    return KeyView(s.id.id, key.tenant, key.role, key.label, status(s).state)


def status(s: Subject) -> Status:
    key = key_of(s)
    name = Name(NAME, key.digest, unique=True)
    return Status("revoked" if s.decisions("revoked") else "active", Mover.NOBODY, names=(name,))


def next_step(s: Subject, status: Status, seen: Seen) -> Step:
    return Wait()


def admit(s: Subject, record: Spec | Decision) -> Refused | None:
    if isinstance(record, Spec):
        return Refused("a key never changes: revoke it and make another") if s.records else None
    return None if record.name == "revoked" and s.records else Refused(f"no act {record.name}")


controller = Controller("key", status, next_step, admit)


class Keys(Desk[KeyView]):
    kind = "key"

    async def create(self, tenant: str, role: str, label: str, actor: str) -> tuple[str, str]:
        """(id, secret); the secret is shown this once. Raises Invalid."""
        if role not in ("admin", "tenant"):
            raise Invalid(f"there is no role {role!r}", "admin or tenant")
        demand_tenant(tenant)
        id, secret = "key_" + secrets.token_hex(6), "bk_" + secrets.token_urlsafe(30)
        spec = Spec(1, json.encode(Key(tenant, role, digest(secret), label)), actor, self.engine.now())
        await self.run(self.name(SYSTEM, id), just(spec))
        return id, secret

    async def revoke(self, id: str, actor: str) -> None:
        """Raises Missing."""
        await self.there(self.name(SYSTEM, id))
        act = Decision("revoked", "", actor, "revoked", self.engine.now(), command="revoke")
        await self.run(self.name(SYSTEM, id), just(act))

    async def all(self) -> list[KeyView]:
        """The newest thousand."""
        rows = await self.store.page(SYSTEM, self.kind, frozenset(Mover), 2**53, 1_000)
        subjects = await asyncio.gather(*(self.there(row.subject) for row in rows))
        return [viewed(s) for s in subjects]

    async def whose(self, secret: str) -> tuple[str, Key] | None:
        """(id, key) of a secret that is good now."""
        for name in await self.store.find(SYSTEM, NAME, digest(secret)):
            subject, _ = await self.store.load(name)
            if subject.status and subject.status.state == "active":
                return name.id, key_of(subject)
        return None

    async def first(self, folder: Path, tenant: str) -> None:
        """The first admin key, in a file that only its owner reads."""
        path = folder / "admin.key"
        if path.exists() and await self.whose(path.read_text(encoding="utf-8").strip()):
            return
        _, secret = await self.create(tenant, "admin", "first", "bursar")
        path.unlink(missing_ok=True)
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(secret + "\n")


def digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
