"""Who may ask: tenants and their keys, subjects like any other. Of a key only a digest is kept."""

from __future__ import annotations

import os
import secrets
from hashlib import sha256
from pathlib import Path

from msgspec import Struct, json

from ..core.errors import Clash, CommitLost, Invalid, LostRace, Missing
from ..core.ports import Controller, Refused, Seen, Store
from ..core.steps import Step, Wait
from ..core.subject import Decision, Mover, Name, Spec, Status, Subject, SubjectId
from ..engine.intake import command
from ..engine.reconcile import Engine

SYSTEM = "system"
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


def status(s: Subject) -> Status:
    key = json.decode(s.spec.body, type=Key)
    name = Name(NAME, key.digest, unique=True)
    return Status("revoked" if s.decisions("revoked") else "active", Mover.NOBODY, names=(name,))


def next_step(s: Subject, status: Status, seen: Seen) -> Step:
    return Wait()


def admit(s: Subject, record: Spec | Decision) -> Refused | None:
    if isinstance(record, Spec):
        return Refused("a key never changes: revoke it and make another") if s.records else None
    return None if record.name == "revoked" and s.records else Refused(f"no act {record.name}")


controller = Controller("key", status, next_step, admit)


class Keys:
    def __init__(self, engine: Engine, store: Store) -> None:
        self.engine, self.store = engine, store

    async def create(self, tenant: str, role: str, label: str, actor: str) -> tuple[str, str]:
        """(id, secret); the secret is shown this once. Raises Invalid."""
        if role not in ("admin", "tenant"):
            raise Invalid(f"there is no role {role!r}", "admin or tenant")
        demand_tenant(tenant)
        id, secret = "key_" + secrets.token_hex(6), "bk_" + secrets.token_urlsafe(30)
        body = json.encode(Key(tenant, role, digest(secret), label))
        await self.run(id, Spec(1, body, actor, self.engine.now()))
        return id, secret

    async def revoke(self, id: str, actor: str) -> None:
        """Raises Missing."""
        subject, _ = await self.store.load(SubjectId(SYSTEM, "key", id))
        if not subject.records:
            raise Missing(f"there is no key {id}")
        await self.run(id, Decision("revoked", "", actor, "revoked", self.engine.now(), command="revoke"))

    async def all(self) -> list[KeyView]:
        """The newest thousand."""
        out = []
        for row in await self.store.page(SYSTEM, "key", frozenset(Mover), 2**53, 1_000):
            subject, _ = await self.store.load(row.subject)
            key = json.decode(subject.spec.body, type=Key)
            out.append(KeyView(row.subject.id, key.tenant, key.role, key.label, row.status.state))
        return out

    async def run(self, id: str, record: Spec | Decision) -> None:
        for _ in range(5):
            try:
                refused = await command(self.engine, SubjectId(SYSTEM, "key", id), record)
            except (LostRace, CommitLost):
                continue
            if refused:
                raise Clash(refused.reason)
            return
        raise Clash("too many commands at once", "ask again")

    async def whose(self, secret: str) -> tuple[str, Key] | None:
        """(id, key) of a secret that is good now."""
        for name in await self.store.find(SYSTEM, NAME, digest(secret)):
            subject, _ = await self.store.load(name)
            if subject.status and subject.status.state == "active":
                return name.id, json.decode(subject.spec.body, type=Key)
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


def demand_tenant(name: str) -> None:
    """Raises Invalid."""
    if not name.replace("-", "").replace("_", "").isalnum() or name == SYSTEM:
        raise Invalid(f"{name!r} is no name for a tenant", "letters, digits, - and _")


def digest(secret: str) -> str:
    return sha256(secret.encode()).hexdigest()
