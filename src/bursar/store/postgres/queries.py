"""SQL files, cut into named statements. It sends nothing."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

FOLDER = Path(__file__).parent.parent / "sql"


def named(file: str) -> dict[str, str]:
    """Each statement of a file by its name."""
    parts = re.split(r"^-- name: (\w+)\n", (FOLDER / file).read_text(), flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


QUERIES, COMMIT = named("queries.sql"), named("commit.sql")


@cache
def query(name: str, limit: int = 0) -> bytes:
    return QUERIES[name].replace(":limit", str(int(limit))).encode()


@cache
def composed(name: str, present: frozenset[str]) -> bytes:
    """A statement of a commit without what this one does not need: a few combinations, each prepared once."""
    lines, keep = [], [True]
    for line in COMMIT[name].splitlines():
        match line.split():
            case ["--", "when", *words]:
                keep.append(keep[-1] and present >= set(words) - {"and"})
            case ["--", "end"]:
                keep.pop()
            case ["--", *_]:
                continue
            case _ if keep[-1]:
                lines.append(line)
    return "\n".join(lines).encode()
