"""A Cardano chain behind one or more hostile Koios, as a world for tests and for the rail conformance suite.

The ledger's rules are not ours (see `bursar.testing.fakes`); blocks, branches and hostility are the fake's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Self, get_args

from tests.harness import missing

from bursar.core.money import Instant, Money
from bursar.rails.cardano.koios import Endpoint
from bursar.rails.cardano.networks import ADA, NETWORKS
from bursar.rails.cardano.source import WIDTH, KoiosSource
from bursar.testing.conformance.rail import Payment, Traits
from bursar.testing.fakes.koios import Backend, Fault, Kind, Koios
from bursar.testing.fakes.koios_chain import Chain, Pay, Wallet
from bursar.testing.fakes.koios_ledger import Ledger, Missing, read_tx

LOVELACE = 1_000_000
KINDS: tuple[Kind, ...] = get_args(Kind)


@contextmanager
def a_ledger() -> Iterator[Ledger]:
    """The child process that judges transactions; the test is given up where it can not be had."""
    try:
        ledger = Ledger()
    except Missing as reason:
        missing(str(reason))
    try:
        yield ledger
    finally:
        ledger.close()


class CardanoHarness:
    """`nets`: the backends of each endpoint. Alice has many coins and pays; our keys are wallets by their address."""

    rail, network = "cardano:preview", NETWORKS["preview"]
    timeout_seconds = 0.5
    traits = Traits(WIDTH, can_reorg=True, troubles=("behind", "fork", "disagree", *KINDS))

    def __init__(self, ledger: Ledger, *nets: Sequence[Backend], seed: int = 1) -> None:
        self.chain, self.seed = Chain(ledger, seed=seed), seed
        self.alice = Wallet(self.chain, "alice")
        self.wallets: dict[str, Wallet] = {}
        for _ in range(3):
            self.chain.faucet.pay(Pay(self.alice.address, 1_000 * LOVELACE))
            self.chain.mine()
        self.left = self.chain.tip
        self.nets = [Koios(self.chain, net, seed=seed + n) for n, net in enumerate(nets or ([Backend("one")],))]
        self.well = [list(net.backends) for net in self.nets]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for net in self.nets:
            net.close()

    def now(self) -> Instant:
        return int(self.chain.clock.now * 1_000_000)

    async def sleep(self, seconds: float) -> None:
        self.chain.clock.now += seconds

    def endpoints(self) -> list[Endpoint]:
        return [Endpoint(net.url, self.now, self.sleep, self.timeout_seconds) for net in self.nets]

    def source(self, assets: Mapping[str, str] = {}) -> KoiosSource:
        return KoiosSource(self.rail, self.network, self.endpoints(), assets)

    def requests(self) -> int:
        return sum(sum(net.calls.values()) for net in self.nets)

    def key(self) -> str:
        wallet = Wallet(self.chain, f"shop{len(self.wallets)}")
        self.wallets[wallet.address] = wallet
        return wallet.address

    def pay(self, key: str) -> Payment:
        lovelace = 5 * LOVELACE + self.requests()
        return Payment(f"{self.alice.pay(Pay(key, lovelace))}#0", Money(ADA, lovelace))

    def sweep(self, key: str) -> None:
        self.wallets[key].sweep(self.alice.address)

    def mine(self, blocks: int = 1) -> None:
        self.chain.mine(blocks)

    def leave(self, blocks: int) -> None:
        self.left = self.chain.tip
        self.chain.rollback(blocks)
        self.chain.mine(blocks + 1, take=[])

    def back(self) -> None:
        longer = self.chain.tip.height - self.left.height + 1
        self.chain.switch(self.left)
        self.chain.mine(longer, take=[])

    def outrun(self, movement: str) -> None:
        tx = movement.split("#")[0]
        coins = read_tx(tx, self.chain.waiting[tx]).used
        self.chain.rollback(0, drop=[tx])
        self.chain.submit(self.alice.build(spend=coins))
        self.chain.mine()

    def replace(self, movement: str) -> None:
        raise ValueError("nothing is seen before it is in a block")

    confirm = drop = replace

    def mislead(self, trouble: str) -> None:
        for net, well in zip(self.nets, self.well, strict=True):
            backends, net.faults = list(well), []
            if trouble in ("fork", "disagree"):  # a minority, and a database that was not taken out
                self.chain.fork("minority", 2)
                self.chain.mine(1, branch="minority", take=[])
                backends = [Backend("fork", "minority")] if trouble == "fork" else [*well, Backend("fork", "minority")]
            if trouble in ("behind", "disagree"):
                backends.append(Backend("behind", lag_blocks=6))
            net.backends = backends
            if trouble in KINDS:
                kind: Kind = next(kind for kind in KINDS if kind == trouble)
                rarely = 6 if trouble in ("hang", "drip") else 3  # these take real time
                net.faults = [Fault(kind, one_in=rarely, seconds=2 * self.timeout_seconds)]
