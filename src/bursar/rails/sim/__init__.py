"""Simulated rails: pure worlds, and the adapters in front of them.

A world knows nothing of us; its adapter knows only what a node or a bank would say, and judges it. They serve the
simulator, the demo and the conformance suites; nothing of a real rail lives here."""

from .bank import TERMS, Bank, BankRail, Landing
from .chain import Block, Chain, ChainSource, State, Tx
from .world import LAG, SECOND, SKEW, Pause, Trouble

__all__ = [
    "LAG",
    "SECOND",
    "SKEW",
    "TERMS",
    "Bank",
    "BankRail",
    "Block",
    "Chain",
    "ChainSource",
    "Landing",
    "Pause",
    "State",
    "Trouble",
    "Tx",
]
