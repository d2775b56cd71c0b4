"""A shop on a chain that reorganises: invoices, and payers of all kinds. What must hold of what we say of them stands
in `verdicts`."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

from msgspec import json
from msgspec.structs import replace

from .. import invoices
from ..core.money import Instant, Money
from ..core.subject import Decision, Status, Subject, SubjectId
from ..invoices.commands import ACTS, ActOnInvoice, act
from ..invoices.spec import Invoice, Way, quote
from ..rails.sim.chain import Block, Chain, ChainSource, Tx
from ..rails.sim.world import SECOND, Pause, Trouble
from .plan import STORIES
from .verdicts import ASSET, CONFIRMATIONS, GRACE, RAIL, Asked, Verdicts
from .world import Clock, World

FULL, DEPTH = 100, 6
LAKE = "lake"  # a second rail, on which some invoices could be paid and none is: its silence counts all the same
PRICES = {"BTC/EUR": "1"}
PAID: tuple[list[int], ...] = ([100], [100], [100], [33, 67], [60, 40], [50], [98], [150], [100, 100], [])


class Shop:
    controllers = (invoices.controller,)
    sources = (RAIL, LAKE)
    back = DEPTH  # an invoice is scanned for from so far below the cursor at its declaration

    def __init__(self, world: World, source: type[ChainSource]) -> None:
        self.world, self.source, self.chain, self.lake = world, source, Chain(world.dice), Chain(world.dice)
        self.invoices: dict[str, Asked] = {}
        world.prices |= PRICES
        self.kind = False
        self.verdicts = Verdicts(world, self.chain, self.invoices)

    # -- what happens -----------------------------------------------------------------------
    def happen(self, kind: str, dice: Random) -> bool:
        chain, pool = self.chain, self.chain.head.mempool
        match kind:
            case "mine":
                chain.mine()
                self.world.tell(f"block {len(chain.head.blocks) - 1} {said(chain.head.blocks[-1])}")
            case "reorg":
                self.reorg(dice.randint(1, 4))
            case "undo":
                self.undo(dice)
            case "back":
                chain.back()
                self.world.tell(f"an orphaned branch is the chain again, up to block {len(chain.head.blocks) - 1}")
            case "old":
                chain.mine_old()
                self.world.tell(f"block {len(chain.head.blocks) - 1} {said(chain.head.blocks[-1])}: an old one")
            case "rbf" if pool:
                tx = dice.choice(pool)
                self.replace(tx, tx.outs[0][0] if dice.random() < 0.3 else "elsewhere")
            case "evict" if pool:
                self.evict(dice.choice(pool), dice)
            case "snipe" if self.invoices:
                self.snipe(dice)
            case "ambush" if self.invoices:
                self.ambush(dice)
            case "invoice" if len(self.invoices) < 5:
                self.invoice(dice)
            case "act" if self.invoices:
                self.act(dice)
            case "price":
                self.price(dice)
        return kind in STORIES["shop"][0] or kind in STORIES["shop"][1]

    def invoice(self, dice: Random) -> None:
        """Asked for now. The early ones are known to their payers before we hear of them: the client is slow; or it
        uses an old address, from which what is there already is meant, or is not."""
        name, now = f"i{len(self.invoices)}", self.world.now
        early = dice.choice(("slow", "known", "old")) if dice.random() < self.world.plan.early else ""
        spec = Invoice(
            dice.choice((ASSET, ASSET, "EUR")),
            str(FULL),
            (),
            dice.randint(20, 90),
            tolerance_ppm=dice.choice((0, 0, 30_000)),
            repricings=dice.choice((0, 0, 1)),
            patience_seconds=dice.choice((30, 200)),
        )
        rails = (RAIL, LAKE) if dice.random() < 0.2 else (RAIL,)
        asked = self.invoices[name] = Asked(replace(spec, ways=self.ways(name, rails, early)), self.ends(spec))
        if not early or early == "slow":
            asked.before = self.verdicts.mined()

        def declare() -> None:
            if early == "known":
                asked.spec, asked.before = (
                    replace(asked.spec, ways=self.ways(name, rails, early)),
                    self.verdicts.mined(),
                )
            self.declare(name, asked)

        self.world.later(now + bool(early) * dice.randint(5, 60) * SECOND, declare)
        for part in dice.choice(PAID):
            cheap, at = dice.random() < 0.1, now + dice.randint(0, 3) * SECOND
            if dice.random() > 0.7:  # aimed: around the deadline
                at = max(now, asked.ends + dice.randint(-30, 40) * SECOND)
            self.world.later(at, self.payer(name, part, cheap, dice.choice((ASSET,) * 9 + ("DOGE",))))

    def ends(self, spec: Invoice) -> Instant:
        return self.world.now + spec.window_seconds * SECOND

    def ways(self, name: str, rails: tuple[str, ...], early: str) -> tuple[Way, ...]:
        return tuple(self.way(name, rail, early) for rail in rails)

    def way(self, name: str, rail: str, early: str) -> Way:
        cursor = self.world.store.rail(rail).cursor
        position, since, trail = cursor.position, max(0, cursor.position - self.back), cursor.trail
        if early == "old":
            position, since, trail = -1, 0, ()
        judged = CONFIRMATIONS, GRACE, since, position, trail
        return Way(f"{ASSET}@{rail}", rail, ASSET, name, name, 0, 1, *judged)

    def declare(self, name: str, asked: Asked) -> None:
        spec = asked.spec
        self.world.tell(f"invoice {name}: {FULL} {spec.price_asset} within {spec.window_seconds} s")
        first = quote(spec, PRICES, asked.ends - spec.window_seconds * SECOND)
        decision = Decision("quote", "", "client", "as asked", self.world.now, body=json.encode(first))
        self.world.declare("invoice", name, spec, decision)

    def payer(self, to: str, minor: int, cheap: bool, asset: str) -> Callable[[], object]:
        return lambda: self.pay(to, minor, cheap=cheap, asset=asset)

    def pay(self, to: str, minor: int, spends: tuple[str, ...] = (), *, cheap: bool, asset: str = ASSET) -> Tx:
        self.world.serial += 1
        name = f"t{self.world.serial}"
        tx = Tx(name, spends or (f"coin-{name}",), ((to, Money(asset, minor)),), self.world.now, cheap)
        self.world.tell(f"{name} pays {minor} {asset} to {to}, spends {', '.join(tx.spends)}")
        self.chain.broadcast(tx)
        return tx

    def replace(self, tx: Tx, to: str) -> None:
        self.pay(to, tx.outs[0][1].minor, tx.spends, cheap=False)

    def snipe(self, dice: Random) -> None:
        """Paid, replaced, and the rival is mined at once: a node that lags shows the payment beside the block."""
        tx = self.pay(dice.choice(list(self.invoices)), FULL, cheap=False)

        def strike() -> None:
            if tx in self.chain.head.mempool:
                self.replace(tx, "elsewhere")
                self.chain.mine(share=1.0)
                self.world.tell(f"block {len(self.chain.head.blocks) - 1} {said(self.chain.head.blocks[-1])}")

        self.world.later(self.world.now + dice.randint(1, 8) * SECOND, strike)

    def ambush(self, dice: Random) -> None:
        """Paid while we are blind, and mined just before we see again."""
        name, blind = dice.choice(list(self.invoices)), dice.randint(13, 30)
        self.world.blind(RAIL, blind)
        self.world.later(self.world.now + dice.randint(0, blind - 12) * SECOND, self.payer(name, FULL, False, ASSET))

        def mines() -> None:
            self.chain.mine(share=1.0)
            self.world.tell(f"block {len(self.chain.head.blocks) - 1} {said(self.chain.head.blocks[-1])}")

        self.world.later(self.world.now + blind * SECOND - dice.randint(0, 4 * SECOND), mines)

    def evict(self, tx: Tx, dice: Random) -> None:
        self.chain.evict(tx)
        self.world.tell(f"{tx.id} is evicted")
        if dice.random() < 0.6:
            at = self.world.now + dice.randint(5, 60) * SECOND

            def again() -> None:
                self.world.tell(f"{tx.id} is broadcast again")
                self.chain.broadcast(tx)

            self.world.later(at, again)

    def reorg(self, depth: int) -> None:
        self.world.tell(f"reorg of {depth} blocks")
        self.chain.reorg(depth)

    def undo(self, dice: Random) -> None:
        """A reorg that is aimed at a payment: the deepest that may still be undone."""
        blocks = self.chain.head.blocks
        hit = [n for n, b in enumerate(blocks[-6:], 1) if any(t.outs[0][0] in self.invoices for t in b.txs)]
        if hit:
            self.reorg(min(7, len(blocks[-6:]) + 1) - dice.choice(hit))

    def act(self, dice: Random) -> None:
        """A person, who knows no more than the pages show."""
        to = SubjectId("t", "invoice", dice.choice(list(self.invoices)))
        row = self.world.store.rows.get(to)
        action = dice.choice(list(ACTS))
        if row is None or row.status is None:
            return
        of_one = action not in ("accept_short", "cancel") and row.status.parts
        about = dice.choice(row.status.parts)[0] if of_one else ""
        request = ActOnInvoice(action, "as they wish", about, "tx")
        asked = act(Subject(to, row.version, row.records), request, "operator", "", self.world.now)
        self.world.tell(f"operator: {to.id} {asked.name} {about}")
        self.world.act(to, asked.name, about, asked.body)

    def price(self, dice: Random) -> None:
        self.world.prices.clear()
        if value := dice.choice(("", "1", "0.5", "2")):
            self.world.prices["BTC/EUR"] = value

    # -- the scene --------------------------------------------------------------------------
    def rails(self, now: Clock, pause: Pause) -> dict[str, Any]:
        world = self.world
        chains = {RAIL: self.chain, LAKE: self.lake}
        return {rail: self.source(rail, chain, world.dice, now, pause, world.trouble) for rail, chain in chains.items()}

    def passed(self) -> None:
        self.chain.now = self.lake.now = self.world.now
        if self.kind:
            self.chain.mine(share=1.0)

    def calmed(self, trouble: Trouble) -> None:
        self.kind = True
        self.world.prices |= PRICES

    # -- audits -----------------------------------------------------------------------------
    def stepped(self) -> None:
        self.verdicts.stepped()

    def glanced(self, subject: SubjectId) -> None:
        self.verdicts.glanced(subject)

    def decided(self, subject: SubjectId, decision: Decision) -> None:
        self.verdicts.decided(subject, decision)

    def stated(self, subject: SubjectId, status: Status) -> None:
        self.verdicts.stated(subject, status)

    def ended(self, subject: SubjectId, status: Status) -> None:
        self.verdicts.ended(subject, status)

    def finished(self) -> None: ...


def said(block: Block) -> str:
    return "with " + ", ".join(tx.id for tx in block.txs) if block.txs else "empty"
