"""What a seed decides before anything runs: what happens when, on which rails, and how hostile the world is.

A plan is plain data: a run of it is repeated exactly, and a part of it can be run alone."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random

from msgspec import Struct

from ..rails.sim.bank import TERMS
from ..rails.sim.world import Trouble

STEPS = 1100
RATE = 0.03  # of steps at which something happens
ANYWHERE = ("blind", "third")  # happens to whatever is there
# scene -> (what always happens there, what happens in some worlds): kind of happening -> how often, against the others
STORIES: Mapping[str, tuple[Mapping[str, int], tuple[str, ...]]] = {
    "shop": (
        {"mine": 6, "invoice": 2},
        ("reorg", "undo", "back", "rbf", "snipe", "ambush", "evict", "old", "act", "price"),
    ),
    "treasury": ({"leg": 3, "fund": 1}, ("split", "squat", "cancel", "give_up", "again")),
    "desk": ({"group": 2, "trade": 4, "race": 4, "drop": 1, "withdraw": 2, "close": 1}, ()),
    "vault": (
        {"seal": 8, "handle": 2, "send": 6, "fork": 1, "unfork": 1, "bump": 1, "award": 1, "person": 2},
        (),
    ),
}
FOUL = ("renege", "lie")  # faults that break a promise, not only a reply: in some worlds only


class Happening(Struct, frozen=True):
    step: int
    kind: str
    salt: int  # of its own dice: taking one away leaves the others as they are

    def dice(self) -> Random:
        return Random(self.salt)


class Aim(Struct, frozen=True):
    """What the dice are loaded with. Empty: the seed's choice."""

    story: Mapping[str, int] = {}  # kind of happening -> how often
    rails: tuple[str, ...] = ()
    trouble: Mapping[str, float] = {}
    early: float = 0.2  # share of invoices that are paid before anybody watches
    fed: bool | None = None  # can the banks' own records be read?
    steps: int = STEPS


class Plan(Struct, frozen=True):
    seed: int
    steps: int
    happenings: tuple[Happening, ...]
    rails: tuple[str, ...]
    fed: tuple[str, ...]
    trouble: Trouble
    early: float


ANY = Aim()


def draw(seed: int, aim: Aim = ANY) -> Plan:
    d = Random(seed)
    trouble = Trouble(*(d.choice((0.0, 0.02, 0.2, 0.5)) for _ in Trouble.__struct_fields__))
    for name in FOUL:
        setattr(trouble, name, d.choice((0.0, 0.0, 0.0, 0.3)))
    for name, intensity in aim.trouble.items():
        setattr(trouble, name, intensity)
    rails = aim.rails or tuple(d.sample(list(TERMS), d.randint(1, 3)))
    fed = d.random() < 0.5 if aim.fed is None else aim.fed
    weights = dict(aim.story) or story(d)
    happenings = tuple(
        Happening(step, d.choices([*weights], [*weights.values()])[0], d.getrandbits(32))
        for step in range(aim.steps)
        if d.random() < RATE
    )
    return Plan(seed, aim.steps, happenings, rails, rails if fed else (), trouble, aim.early)


def story(d: Random) -> dict[str, int]:
    """Of one scene, or of two that share the store and the clocks."""
    weights = dict[str, int]()
    for name in d.sample([*STORIES], d.choice((1, 1, 2))):
        always, maybe = STORIES[name]
        weights |= always
        weights |= {kind: d.choice((0, 1, 1, 3)) for kind in (*maybe, *ANYWHERE)}
    return weights


def plays(plan: Plan, scene: str) -> bool:
    """Does anything of this scene happen?"""
    always, maybe = STORIES[scene]
    return not {happening.kind for happening in plan.happenings}.isdisjoint((*always, *maybe))
