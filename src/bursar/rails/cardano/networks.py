"""The table of Cardano's networks, what is watched for an address, and the list of tokens that have a name here.

Nothing here talks to anybody. Addresses of the Byron era and pointer addresses are refused: no wallet shows one now."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple

from ..bech32 import BECH32, decode, to_bytes

ADA, ADA_SCALE = "ADA", 6
SECOND = 1_000_000
CONFIRMATIONS = 15  # where the configuration says nothing
DEPTH = 15  # reorganisations up to this many blocks are ordinary; mostly they are one to three
GRACE = 120 * SECOND  # how long inclusion may take: a block comes about every 20 s
ASSET = re.compile(r"[0-9a-f]{56}\.([0-9a-f]{2}){0,32}")
BASE, ENTERPRISE = range(4), (6, 7)  # the kinds of Shelley addresses that can be paid, by their first four bits


class Network(NamedTuple):
    name: str
    prefix: str
    id: int  # the last four bits of an address's first byte
    start: int  # time of a block less its slot, in seconds since 1970: tells the networks apart
    endpoints: tuple[str, ...]  # Koios of the public; without a token it takes 1 kB and some thousand requests a day


NETWORKS = {
    row.name: row
    for row in (
        Network("mainnet", "addr", 1, 1_591_566_291, ("https://api.koios.rest/api/v1",)),
        Network("preprod", "addr_test", 0, 1_655_683_200, ("https://preprod.koios.rest/api/v1",)),
        Network("preview", "addr_test", 0, 1_666_656_000, ("https://preview.koios.rest/api/v1",)),
    )
}


def key_of(address: str, network: Network) -> str:
    """What is watched for an address: itself, in lower case. Raises ValueError with a sentence: malformed, no address
    that can be paid, or one of another network."""
    try:
        prefix, values, left = decode(address)
        raw = to_bytes(values)
    except ValueError as err:
        raise ValueError(f"{address!r} is not a Cardano address: {err}") from None
    kind, id = divmod(raw[0], 16) if raw else (15, 0)
    size = 57 if kind in BASE else 29 if kind in ENTERPRISE else 0
    whose = [row.name for row in NETWORKS.values() if (row.prefix, row.id) == (prefix, id)]
    if left != BECH32 or len(raw) != size or not whose:
        raise ValueError(f"{address!r} is not a Cardano address that can be paid")
    if network.name not in whose:
        raise ValueError(f"{address!r} is an address of {' or '.join(whose)}, not of {network.name}")
    return address.lower()


def tokens(configured: Mapping[str, str]) -> dict[str, str]:
    """By policy and asset name, the name that we give: from {"USDM": "policy.namehex"}. Raises ValueError with a
    sentence. A policy alone is never enough: one policy can make many assets."""
    out: dict[str, str] = {}
    for name, id in configured.items():
        if name == ADA or not ASSET.fullmatch(id):
            raise ValueError(f"{name} = {id!r}: a token is a policy of 56 hex digits, a point, and its name in hex")
        if out.setdefault(id, name) != name:
            raise ValueError(f"{name} and {out[id]} are one token")
    return out
