"""What is outside our processes: time, the store that lies between them, the receiver of events, clients and their
wishes. Each scene adds a corner of it. The world knows nothing of what our processes believe."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any, Protocol

from msgspec import json

from .. import balances
from ..core.ledger import Line, transfers
from ..core.money import Instant
from ..core.outcomes import Attempt
from ..core.ports import Claim, Controller, Event, Write
from ..core.subject import Decision, Spec, Status, Subject, SubjectId
from ..rails.sim.world import SECOND, SKEW, Pause, Trouble
from ..store.memory import MemoryStore
from .drive import Step, pause
from .plan import Plan

START = 1_000 * SECOND
Clock = Callable[[], Instant]


class Store(MemoryStore):
    """The memory store, telling the auditor what was written."""

    fresh: list[Write]
    world: World

    async def claim(self, limit: int) -> Sequence[Claim]:
        dice = self.world.dice
        if self.rows and dice.random() < self.world.trouble.spurious / 2:  # a wake-up may come at any time
            self.wake(dice.choice(list(self.rows)))
        return await super().claim(limit)

    def write(self, w: Write) -> int:
        self.fresh.append(w)
        return super().write(w)


class Receiver:
    def __init__(self) -> None:
        self.heard: dict[SubjectId, list[int]] = {}
        self.events: dict[str, Event] = {}
        self.twice = ""

    async def deliver(self, event: Event) -> None:
        await pause()
        if self.events.setdefault(event.id, event) != event:
            self.twice = event.id
        if event.version not in self.heard.setdefault(event.subject, []):
            self.heard[event.subject].append(event.version)


Wish = tuple[SubjectId, Spec | Decision, tuple[Decision, ...]]  # with what must be in its commit


class World:
    def __init__(self, plan: Plan, store: type[Store]) -> None:
        self.plan, self.dice, self.trouble = plan, Random(f"course {plan.seed}"), plan.trouble
        self.now, self.steps, self.serial = START, 0, 0
        self.story: list[str] | None = None  # told only to whoever asks
        self.late: list[tuple[Instant, int, Callable[[], object]]] = []
        self.wishes: list[Wish] = []
        self.declared: set[str] = set()
        self.granted: list[tuple[SubjectId, Decision]] = []  # acts that were admitted
        self.blind_until: dict[str, Instant] = {}
        self.prices: dict[str, str] = {}
        self.receiver = Receiver()
        self.store = store(self.clock(0), self.open_transaction)
        self.store.fresh, self.store.world = [], self
        self.store.undone["hook"] = {}  # the sink is known from the start

    def clock(self, skew: int) -> Clock:
        """A clock that is off, and that may show two calls the same instant."""
        grain = SECOND if self.dice.random() < self.trouble.coarse else 1
        return lambda: (self.now + skew) // grain * grain

    def skewed(self) -> Clock:
        return self.clock(self.dice.randint(-SKEW // 2, SKEW // 2))

    async def open_transaction(self) -> None:
        for _ in range(20 if self.dice.random() < self.trouble.slow_commit / 2 else 1):
            await Step()

    def tell(self, what: str) -> None:
        if self.story is not None:
            self.story.append(f"{(self.now - START) / SECOND:7.1f} s  {what}")

    def later(self, at: Instant, what: Callable[[], object]) -> None:
        self.serial += 1
        self.late.append((at, self.serial, what))
        self.late.sort(key=lambda x: x[:2])

    def arrivals(self) -> None:
        while self.late and self.late[0][0] <= self.now:
            self.late.pop(0)[2]()

    def delay(self, place: Any, attempt: Attempt) -> None:
        """It arrives late, aimed at the deadline that it names: uniform dice hardly ever hit one."""
        d, ends = self.dice, attempt.prepared.expires_at
        aimed = ends is not None and d.random() < 0.6
        promised = not self.trouble.renege or d.random() < 0.5
        near = d.randint(-10, 3) if promised else d.randint(5, 60)
        due = (ends or 0) + near * SECOND if aimed else self.now + d.randint(0, 90) * SECOND
        self.later(max(due, self.now), lambda: place.arrive(attempt))

    # -- clients ----------------------------------------------------------------------------
    def declare(self, kind: str, name: str, body: object, *more: Decision) -> SubjectId:
        to = SubjectId("t", kind, name)
        self.declared.add(name)
        self.wishes.append((to, Spec(1, json.encode(body), "client"), more))
        return to

    def act(self, to: SubjectId, name: str, about: str, body: bytes = b"") -> None:
        """Asked for by a person, under an id of its own."""
        self.serial += 1
        act = Decision(name, about, "operator", "as they wish", self.now, body=body, command=f"act-{self.serial}")
        self.wishes.append((to, act, ()))

    def fund(self, account: str, minor: int) -> None:
        """Money from outside: it is there at once, however hostile the world."""
        self.serial += 1
        lines = (Line(account, "BTC", minor), Line("equity", "BTC", -minor))
        spec = Spec(1, json.encode(balances.Balance(lines, "top-up")), "world")
        to = SubjectId("t", "balance", f"b{self.serial}")
        status = balances.status(Subject(to, 0, (spec,)))
        self.store.write(Write(to, (spec,), 0, status, transfers((), status.postings), None, ()))

    def blind(self, source: str, seconds: int) -> None:
        self.tell(f"{source} answers nothing for {seconds} s")
        self.blind_until[source] = max(self.blind_until.get(source, 0), self.now + seconds * SECOND)


class Scene(Protocol):
    """A corner of the world: what may happen there, what of it our processes can reach, and what must hold of it.
    Every audit judges by the world, never by what the engine believes of itself, and throws no dice of the course."""

    @property
    def controllers(self) -> tuple[Controller, ...]: ...

    @property
    def sources(self) -> tuple[str, ...]:
        """Rails that are followed."""

    def happen(self, kind: str, dice: Random) -> bool:
        """False: it is none of its kinds."""

    def rails(self, now: Clock, pause: Pause) -> dict[str, Any]:
        """Of one process: rail -> adapter, a source or an executor or both. An executor's `bank.arrive(attempt)` is
        where an attempt lands, at once or later."""

    def passed(self) -> None:
        """Time has passed; when the world is kind, what is waited for comes."""

    def stepped(self) -> None:
        """Audit after every step: it must cost next to nothing where nothing happened."""

    def glanced(self, subject: SubjectId) -> None:
        """Audit now and then."""

    def decided(self, subject: SubjectId, decision: Decision) -> None: ...

    def stated(self, subject: SubjectId, status: Status) -> None: ...

    def calmed(self, trouble: Trouble) -> None:
        """The world has become kind: all that was held back comes."""

    def ended(self, subject: SubjectId, status: Status) -> None:
        """Audit when all has come to rest."""

    def finished(self) -> None:
        """The same, of the scene as a whole."""
