"""What the harnesses of real servers share. It starts nothing by itself."""

from __future__ import annotations

import os
from typing import NoReturn

import pytest


def missing(sentence: str) -> NoReturn:
    """Give up on a test whose server is not installed: a skip on a person's machine, a failure where CI=true.

    `sentence` says what is missing and how to get it.
    """
    if os.environ.get("CI") == "true":
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)
