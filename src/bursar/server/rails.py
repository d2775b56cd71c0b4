"""The table of rails: a family's name, and how one of it is built from its configuration."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from functools import partial

from msgspec import Struct

from ..core.errors import Explained
from ..core.ports import Executor, Source
from ..engine import clock
from ..invoices.commands import Offer
from ..payouts.commands import Purse
from ..rails.bitcoin import addresses, xpub
from ..rails.bitcoin.rpc import Node
from ..rails.bitcoin.source import SCALE, STEP, BitcoinSource
from ..rails.cardano.koios import Endpoint
from ..rails.cardano.networks import ADA, ADA_SCALE, CONFIRMATIONS, DEPTH, GRACE, NETWORKS, key_of, tokens
from ..rails.cardano.source import KoiosSource
from ..rails.lightning.bolt11 import NETWORKS as LIGHTNING
from ..rails.lightning.bolt11 import usual_fee
from ..rails.lightning.lnbits import Account, LnbitsExecutor
from .config import RailConfig

SECOND = 1_000_000


class Rail(Struct, frozen=True):
    """One configured place outside, ready for use."""

    name: str
    source: Source | None = None
    executor: Executor | None = None
    offers: tuple[Offer, ...] = ()  # ways to pay us ...
    purse: Purse | None = None  # ... and what we pay out of
    scales: Mapping[str, int] = {}
    blind_after: int = 600 * SECOND
    pause: float = 1.0  # seconds between two reads of a source that has nothing new


Builder = Callable[[str, RailConfig, AsyncExitStack], Awaitable[Rail]]


async def bitcoin(name: str, config: RailConfig, stack: AsyncExitStack) -> Rail:
    """Bitcoin, Litecoin: one node. Raises Explained."""
    chain = next((row for row in addresses.CHAINS.values() if row.name == name), None)
    if chain is None:
        known = ", ".join(row.name for row in addresses.CHAINS.values())
        raise Explained(f"there is no rail {name!r}", f"known: {known}")
    if not config.source or not isinstance(config.source, str):
        raise Explained(f"{name} needs the address of one node", "such as http://user:password@127.0.0.1:8332")
    pace = min(10, chain.block_seconds)
    try:
        node = Node(config.source, timeout_seconds=2 + 2 * pace)
    except ValueError as err:
        raise Explained(f"the source of {name} is not the address of a node", str(err)) from err
    stack.push_async_callback(node.close)
    source = BitcoinSource(name, chain, node, clock.now, lag=pace * SECOND)
    offer = Offer(
        f"{chain.asset}@{name}",
        name,
        chain.asset,
        SCALE,
        STEP,
        confirmations(name, config, chain.finality),
        grace=3 * chain.block_seconds * SECOND,
        depth=10,
        key_of=lambda address: addresses.script_of(address, chain).hex(),
        derive=deriving(name, config.xpub, chain) if config.xpub else None,
    )
    return Rail(
        name,
        source,
        offers=(offer,),
        scales={chain.asset: SCALE},
        blind_after=config.blind_after_seconds * SECOND,
        pause=pace / 2,
    )


async def cardano(name: str, config: RailConfig, stack: AsyncExitStack) -> Rail:
    """ADA and the tokens that are listed, through one or more Koios endpoints. Raises Explained."""
    network = NETWORKS.get(name.partition(":")[2])
    if network is None:
        raise Explained(f"there is no rail {name!r}", "known: " + ", ".join(f"cardano:{known}" for known in NETWORKS))
    if config.xpub:
        raise Explained(f"{name} derives no addresses", "leave xpub out: each invoice brings its own address")
    urls = [config.source] if isinstance(config.source, str) and config.source else config.source or network.endpoints
    try:
        listed = tokens({asset: token.id for asset, token in config.assets.items()})
        endpoints = [Endpoint(url, clock.now) for url in urls]
    except ValueError as err:
        raise Explained(f"{name} is configured wrongly: {err}") from err
    source = KoiosSource(name, network, endpoints, listed)
    stack.push_async_callback(source.close)
    scales = {ADA: ADA_SCALE} | {asset: token.decimals for asset, token in config.assets.items()}
    needed, key = confirmations(name, config, CONFIRMATIONS), partial(key_of, network=network)
    return Rail(
        name,
        source,
        offers=tuple(
            Offer(f"{asset}@{name}", name, asset, scale, 1, needed, GRACE, DEPTH, key)
            for asset, scale in scales.items()
        ),
        scales=scales,
        blind_after=config.blind_after_seconds * SECOND,
        pause=10.0,  # a block comes about every 20 s
    )


async def lightning(name: str, config: RailConfig, stack: AsyncExitStack) -> Rail:
    """A wallet on LNbits, to pay out of. Raises Explained."""
    wallet = config.wallet
    if wallet is None:
        raise Explained(f"{name} has no wallet", 'wallet = { url = "https://…", key = "LNBITS_ADMIN_KEY" }')
    if wallet.network not in LIGHTNING:
        raise Explained(f"{name}: there is no network {wallet.network!r}", "known: " + ", ".join(LIGHTNING))
    if not wallet.url.startswith(("http://", "https://")):
        raise Explained(f"{name}: {wallet.url!r} is no address of a wallet", "such as https://lnbits.example")
    secret = os.environ.get(wallet.key)
    if not secret:
        raise Explained(f"{name}: the environment variable {wallet.key} is empty", "it holds the wallet's admin key")
    try:
        account = Account(wallet.url, secret, wallet.network, wallet.refuses_expired)
        executor = LnbitsExecutor(account, clock.now)
    except ValueError as err:
        raise Explained(f"{name} is configured wrongly: {err}") from err
    stack.push_async_callback(executor.close)
    purse = Purse(name, "BTC", SCALE, 1, account.check, usual_fee)
    return Rail(name, executor=executor, purse=purse, scales={"BTC": SCALE})


def confirmations(name: str, config: RailConfig, usual: int) -> int:
    """Raises Explained."""
    if config.confirmations is not None and config.confirmations < 1:
        raise Explained(f"{name}: confirmations = {config.confirmations}", "a payment in the newest block has one")
    return usual if config.confirmations is None else config.confirmations


def deriving(name: str, key: str, chain: addresses.Chain) -> Callable[[int], str]:
    """Raises Explained."""
    derive = partial(xpub.derive, key, chain=chain)
    try:
        derive(0)
    except ValueError as err:
        raise Explained(f"the xpub of {name} is wrong: {err}") from err
    except ImportError as err:
        raise Explained("an extended public key needs an extra", "pip install 'bursar[bitcoin]'") from err
    return derive


RAILS: Mapping[str, Builder] = {"bitcoin": bitcoin, "litecoin": bitcoin, "cardano": cardano, "lightning": lightning}


async def build(name: str, config: RailConfig, stack: AsyncExitStack) -> Rail:
    """`name`: family:network. Raises Explained."""
    family = name.split(":")[0]
    if family not in RAILS:
        raise Explained(f"there is no rail {name!r}", "known: " + ", ".join(f"{r}:…" for r in sorted(RAILS)))
    return await RAILS[family](name, config, stack)
