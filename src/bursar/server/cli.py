"""`bursar …`: each command calls what HTTP and the library call; an error is a sentence and a hint."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Coroutine
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

from cyclopts import App, Parameter
from msgspec.json import encode as encoded

from ..core.errors import Explained
from .config import EXAMPLE, Config, RailConfig, read
from .rails import build
from .remote import HERE, Where, configured, remote

app = App(name="bursar", help="Watches money on ledgers that you don't control.", version_flags=["--version"])
config_app = App(name="config", help="The configuration file.")
app.command(config_app)
app.update(remote)


def main() -> None:
    """The entry point. Exit codes: 0 done, 1 refused with a sentence, 2 not understood."""
    try:
        sys.exit(app())
    except Explained as err:
        print(err.sentence, file=sys.stderr)
        if err.hint:
            print(f"  {err.hint}", file=sys.stderr)
        sys.exit(1)
    except BrokenPipeError:  # whoever read has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except ModuleNotFoundError as err:
        print(f"this command needs {err.name}, which is not installed", file=sys.stderr)
        print("  pip install 'bursar[server,postgres,bitcoin,lightning]'", file=sys.stderr)
        sys.exit(1)


def say(text: str) -> None:
    print(f"{datetime.now():%H:%M:%S} {text}", flush=True)


def run(main: Coroutine[Any, Any, None]) -> int:
    asyncio.run(main)
    return 0


@app.command
def up(*, config: Where = HERE) -> int:
    """Run Bursar as it is configured."""
    from .serve import Beside, serve

    return run(serve(configured(config), say, Beside()))


@dataclass
class Ground:
    node: Annotated[bool, Parameter(negative="")] = False
    "on a real litecoind of the demo's own, instead of a simulated chain"


@app.command
def demo(*, config: Where = HERE, ground: Annotated[Ground | None, Parameter(name="*")] = None) -> int:
    """Run Bursar with a small shop beside it."""
    from .demo import Demo, Shop
    from .demo_node import NodeDemo
    from .serve import Beside, serve

    shop: Shop = NodeDemo(say) if ground and ground.node else Demo(say)
    try:
        return run(serve(shop.config(configured(config)), say, Beside(shop.rails(), {"screen": shop.show}, shop.run)))
    finally:
        shop.stop()


@dataclass
class Watching:
    """How an address is watched."""

    source: Annotated[tuple[str, ...], Parameter(negative="")] = ()
    "where it is read: the address of a node, or of an endpoint; may be given again"
    since: int | None = None
    "the height of the first block to look at; else a few blocks ago"
    for_seconds: Annotated[float | None, Parameter(name="--for")] = None
    "stop after so many seconds"
    jsonl: Annotated[bool, Parameter(negative="")] = False
    "a JSON object a line"


@app.command(name="watch")
def watch_address(rail: str, address: str, *, how: Annotated[Watching | None, Parameter(name="*")] = None) -> int:
    """Print what reaches an address, a line a change: without a key, without a database."""
    from .watch import Line, text, until, watch

    how = how or Watching()

    def line(found: Line) -> None:
        print(encoded(found).decode() if how.jsonl else f"{datetime.now():%H:%M:%S} {text(found)}", flush=True)

    config = RailConfig(how.source[0] if len(how.source) == 1 else list(how.source))
    return run(until(how.for_seconds, watch(rail, address, config, how.since, line)))


@config_app.command
def check(*, config: Where = HERE) -> None:
    """Is the configuration right? Nothing is opened, nobody is asked."""
    found = read(config)
    for sink in found.sinks.values():
        if not Path(sink.jsonl).absolute().parent.is_dir():
            raise Explained(f"{sink.jsonl} can not be written: its folder is not there", "make the folder first")
    asyncio.run(built(found))
    rails, sinks = ", ".join(found.rails) or "none", ", ".join(found.sinks) or "none"
    print(f"{config} is right: database {found.database.url.split('@')[-1]}, rails {rails}, sinks {sinks}")


async def built(config: Config) -> None:
    async with AsyncExitStack() as stack:
        for name, rail in config.rails.items():
            await build(name, rail, stack)


@config_app.command
def example() -> None:
    """Print a configuration file with every setting."""
    print(EXAMPLE, end="")


@app.command
def doctor(*, config: Where = HERE) -> int:
    """Does the database still say what its records amount to: statuses, sums, cursors, wake-ups, version?"""
    from .checks import doctor as check

    return looked(config, check)


@dataclass
class Replay:
    verify: Annotated[bool, Parameter(negative="", required=True)]
    "compare every status, and the last event of each, with what the records alone amount to; nothing is written"


@app.command
def replay(how: Annotated[Replay, Parameter(name="*")], *, config: Where = HERE) -> int:
    """Compute every status again from its records."""
    from .checks import replay as check

    return looked(config, check)


def looked(config: Path, check: Any) -> int:
    from .checks import look

    found = asyncio.run(look(configured(config), check))
    for finding in found:
        print(f"{finding.what}: {finding.place}: {finding.said}")
    print(f"{len(found)} findings" if found else "all is as it should be")
    return 1 if found else 0


@dataclass
class Worlds:
    """What is simulated."""

    seeds: int | None = None
    "so many worlds, each from its seed: 100, or 300 to hunt in"
    seed: int | None = None
    "the first of them"
    show: Annotated[bool, Parameter(negative="")] = False
    "tell the story of each that fails"
    mutants: Annotated[bool, Parameter(negative="")] = False
    "hunt known-wrong variants instead: each must be caught"


@app.command
def simulate(*, how: Annotated[Worlds | None, Parameter(name="*")] = None) -> int:
    """Run the engine in seeded hostile worlds, audited after every step."""
    from ..testing.report import main as report

    how = how or Worlds()
    if how.seeds is not None and how.seeds < 1:
        raise Explained(f"{how.seeds} worlds can not be run", "--seeds is at least 1")
    return report(how.seeds, how.seed, show=how.show, mutants=how.mutants)
