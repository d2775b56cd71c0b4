"""Invoices on real chains and a real database, through kills: the second example."""

from __future__ import annotations

import runpy
import sys

import pytest

pytestmark = pytest.mark.real


def test_the_second_example(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["02_an_invoice_is_paid"])
    runpy.run_module("examples.02_an_invoice_is_paid", run_name="__main__")
