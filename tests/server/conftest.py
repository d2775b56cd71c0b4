"""Tests of the service are coroutines on asyncio, and know nothing of the settings of whoever runs them."""

from __future__ import annotations

import pytest


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(autouse=True)
def own_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("BURSAR_PORT", "BURSAR_KEY"):
        monkeypatch.delenv(name, raising=False)
