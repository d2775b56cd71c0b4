"""The table of rails: a family's name, and how one of it is built from its configuration."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import AsyncExitStack
from typing import Any

from .config import RailConfig

Builder = Callable[[str, RailConfig, AsyncExitStack], Awaitable[Any]]

RAILS: Mapping[str, Builder] = {}
