"""All benchmarks one after another, or those that are named: a table on the screen, and bench/out/latest.json."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from collections.abc import Callable

from .blocks import concerned, requests
from .commits import commits
from .database import Cluster
from .rows import HEADER, Row, line, write
from .service import memory, starts
from .simulated import simulated

Part = Callable[[Cluster], list[Row]]
PARTS: dict[str, Part] = {
    "requests": lambda cluster: asyncio.run(requests(cluster)),
    "concerned": lambda cluster: asyncio.run(concerned(cluster)),
    "commits": lambda cluster: asyncio.run(commits(cluster)),
    "memory": memory,
    "starts": lambda _: starts(),
    "simulated": lambda _: simulated(),
}


def main(names: list[str]) -> int:
    """0 when every budget holds."""
    if unknown := set(names) - set(PARTS):
        print(f"there is no benchmark {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}", file=sys.stderr)
        return 2
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(1))  # an exit clears away: servers, folders
    began, rows = time.perf_counter(), list[Row]()
    print(HEADER)
    with Cluster() as cluster:
        for part in names or PARTS:
            for row in PARTS[part](cluster):
                print(line(row), flush=True)
                rows.append(row)
    if not names:
        write(rows)
    print(f"{time.perf_counter() - began:.0f} s")
    return 0 if all(row.holds for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
