"""Cardano, read through Koios: ADA and native tokens, from two or more endpoints. It only looks; nothing is sent."""

from .koios import Endpoint
from .networks import ADA, ADA_SCALE, CONFIRMATIONS, DEPTH, GRACE, NETWORKS, Network, key_of, tokens
from .source import ACCOMPANYING, KoiosSource

__all__ = [
    "ACCOMPANYING",
    "ADA",
    "ADA_SCALE",
    "CONFIRMATIONS",
    "DEPTH",
    "GRACE",
    "NETWORKS",
    "Endpoint",
    "KoiosSource",
    "Network",
    "key_of",
    "tokens",
]
