"""The rules of the house as a test: who may import whom, how large things may be, where clocks, dice and floats live.

It reads src/bursar as syntax trees and runs nothing of it. Each rule is a function from modules to complaints, and is
tested on a wrong example too. `python tests/test_tidy.py` prints the sizes. ruff and mypy do what is not here.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
ENGINE = {"core", "engine"}
CONTROLLERS = {"invoices", "deposits", "feeds", "orders", "payouts", "fleet", "prices", "alerts", "sources", "switches"}
CONTROLLERS |= {"balances"}
COMPOSERS = {"", "__main__", "server", "compat", "testing"}  # "" is bursar/__init__.py, which offers `open`
ADAPTERS = {"rails", "sinks", "store", "compat"}  # rooms whose members are siblings of one another
SHARED = {  # module of a room of adapters that its members may import -> why
    "bursar.rails.bech32": "addresses of two families of chains are written so",
}
ENTRY = {"bursar", "bursar.__main__", "bursar.server.cli"}
OFFERED = {"testing", "compat"}  # rooms that other people's programs import
OWN_LIBRARIES = (set(sys.stdlib_module_names) | {"msgspec"}) - {"asyncio", "threading", "socket", "subprocess"}
TEXT = {".py", ".sql", ".html", ".css", ".js", ".mjs"}
LIMITS = {"core": 900, "engine": 500, "testing": 5400, "without testing": 10100}  # non-blank lines
BROAD_PER_1000 = 0.3
FUNCTION, FILE, CLASS, PARAMETERS, COLUMNS = 60, 400, 300, 6, 120
CLOCK_ROOMS = ("bursar.engine.clock", "bursar.server", "bursar.testing", "bursar.store.embedded")
DICE_ROOMS = ("bursar.testing", "bursar.rails.sim", "bursar.server.demo")
CLOCKS = re.compile(
    r"time\.(time|time_ns|monotonic|monotonic_ns|perf_counter|perf_counter_ns|localtime|gmtime)"
    r"|(datetime\.)?(datetime|date)\.(now|utcnow|today)|.*loop(\(\))?\.time"
)
HOSTS = r"(pypi|pythonhosted|npmjs|golang|maven|maven\.apache|debian)\.org|crates\.io"
HOST = re.compile(HOSTS + r"|index-" + r"url|\"resolved\":")
PLACE = re.compile(r"(?<![\w.$~})/-])/(work|root|home|Users)/|/tmp/" + r"brief")

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True)
class Module:
    """One Python file: its dotted name, its text, where it stands."""

    name: str
    text: str
    is_package: bool = False

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text)

    @cached_property
    def nodes(self) -> list[ast.AST]:
        return list(ast.walk(self.tree))

    @property
    def room(self) -> str:
        return [*self.name.split("."), ""][1]

    def at(self, node: ast.stmt | ast.expr | ast.excepthandler) -> str:
        return f"{self.name}:{node.lineno}"

    def functions(self) -> Iterator[tuple[Function, str]]:
        """Every function, with the name of the class it stands in ("" for none)."""
        owner = {id(f): c.name for c in self.nodes if isinstance(c, ast.ClassDef) for f in c.body}
        for node in self.nodes:
            if isinstance(node, Function):
                yield node, owner.get(id(node), "")


House = list[Module]


@dataclass(frozen=True)
class Import:
    """One name that a module imports: a module of ours where there is one, else as written."""

    of: Module
    node: ast.Import | ast.ImportFrom
    target: str

    @property
    def ours(self) -> bool:
        return self.target.split(".")[0] == "bursar"


@cache
def product() -> House:
    found = []
    for path in sorted((ROOT / "src").rglob("*.py")):
        parts = path.relative_to(ROOT / "src").with_suffix("").parts
        package = parts[-1] == "__init__"
        found.append(Module(".".join(parts[:-1] if package else parts), path.read_text(), package))
    return found


@cache
def tracked() -> list[Path]:
    """Every file that stands in the repository or would with the next commit."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split("\0")
    return [ROOT / name for name in names if name and (ROOT / name).is_file()]


def imports(house: House) -> Iterator[Import]:
    names = {module.name for module in house}
    for module in house:
        for node in module.nodes:
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(module, node, alias.name)
            if isinstance(node, ast.ImportFrom):
                here = module.name.split(".")
                above = here[: len(here) - node.level + module.is_package] if node.level else []
                base = ".".join([*above, *([node.module] if node.module else [])])
                for alias in node.names:
                    whole = f"{base}.{alias.name}"
                    yield Import(module, node, whole if whole in names else base)


def unit(name: str) -> str:
    """What counts as one sibling: a room, and in a room of adapters each member."""
    parts = name.split(".")[1:]
    return ".".join(parts[:2]) if parts and parts[0] in ADAPTERS else ".".join(parts[:1])


def layers(house: House) -> Iterator[str]:
    known = ENGINE | CONTROLLERS | COMPOSERS | ADAPTERS
    yield from (f"{module.name} is in a room that DESIGN does not know" for module in house if module.room not in known)
    for found in imports(house):
        mine, other = unit(found.of.name), unit(found.target)
        if not found.ours:
            allowed = found.of.room not in ENGINE | CONTROLLERS or found.target.split(".")[0] in OWN_LIBRARIES
        else:
            allowed = found.of.room in COMPOSERS or other in ("core", mine)
            allowed |= mine.split(".")[0] == other.split(".")[0] and found.target in SHARED
            allowed &= found.of.room != "core" or other == "core"
        if not allowed:
            yield f"{found.of.at(found.node)} imports {found.target}"


def cycles(house: House) -> Iterator[str]:
    follows: dict[str, set[str]] = {module.name: set() for module in house}
    for found in imports(house):
        if found.target in follows and found.target != found.of.name:
            follows[found.of.name].add(found.target)
    while leaves := {name for name, targets in follows.items() if not targets & follows.keys()}:
        for name in leaves:
            del follows[name]
    used = set().union(*follows.values())
    if circle := sorted(name for name in follows if name in used):
        yield f"a circle of imports among {', '.join(circle)}"


def local_imports(house: House) -> Iterator[str]:
    """Inside a function only what needs an extra: other people's packages, or, when composing, a module of ours."""
    for module in house:
        inner = {id(node) for function, _ in module.functions() for node in ast.walk(function)}
        for found in imports([module]):
            standard = found.target.split(".")[0] in sys.stdlib_module_names | {"msgspec"}
            if id(found.node) in inner and (standard or found.ours and module.room not in COMPOSERS):
                yield f"{module.at(found.node)} imports {found.target} inside a function"


def sizes(house: House) -> Iterator[str]:
    for module in house:
        lines = module.text.splitlines()
        if len(lines) > FILE:
            yield f"{module.name} has {len(lines)} lines"
        wide = [n for n, line in enumerate(lines, 1) if len(line) > COLUMNS]
        yield from (f"{module.name}:{n} is wider than {COLUMNS} columns" for n in wide)
        for node in module.nodes:
            limit = FUNCTION if isinstance(node, Function) else CLASS
            if isinstance(node, Function | ast.ClassDef) and (node.end_lineno or 0) - node.lineno >= limit:
                yield f"{module.at(node)} {node.name} has {(node.end_lineno or 0) - node.lineno + 1} lines"


def signatures(house: House) -> Iterator[str]:
    for module in house:
        for function, owner in module.functions():
            given = function.args
            plain = [*given.posonlyargs, *given.args]
            static = any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in function.decorator_list)
            count = len(plain) + len(given.kwonlyargs) - bool(owner and not static)
            if count > PARAMETERS:
                yield f"{module.at(function)} {function.name} has {count} parameters"
            if (function.name.startswith("_") and function.name != "__init__") or owner.startswith("_"):
                continue
            defaults = [*zip(reversed(plain), reversed(given.defaults), strict=False)]
            for parameter, default in [*defaults, *zip(given.kwonlyargs, given.kw_defaults, strict=True)]:
                annotation = ast.unparse(parameter.annotation) if parameter.annotation else ""
                if default and (re.search(r"\bbool\b", annotation) or ast.unparse(default) in ("True", "False")):
                    yield f"{module.at(function)} {function.name}: {parameter.arg} is a boolean with a default"


def broad_excepts(house: House) -> list[str]:
    found = []
    for module in house:
        for node in module.nodes:
            kinds: list[ast.expr | None] = []
            if isinstance(node, ast.ExceptHandler):
                kinds = [*node.type.elts] if isinstance(node.type, ast.Tuple) else [node.type]
            if isinstance(node, ast.Call) and ast.unparse(node.func).endswith("suppress"):
                kinds = [*node.args]
            if any(kind is None or ast.unparse(kind) in ("Exception", "BaseException") for kind in kinds):
                assert isinstance(node, ast.ExceptHandler | ast.Call)
                found.append(module.at(node))
    return found


def broad(house: House) -> Iterator[str]:
    found, lines = broad_excepts(house), sum(filled(module.text) for module in house)
    if len(found) > BROAD_PER_1000 * lines / 1000:
        yield f"{len(found)} broad excepts in {lines} lines: {', '.join(found)}"


def clocks(house: House) -> Iterator[str]:
    for module in house:
        if module.name.startswith(CLOCK_ROOMS):
            continue
        for node in module.nodes:
            if isinstance(node, ast.Attribute) and CLOCKS.fullmatch(ast.unparse(node)):
                yield f"{module.at(node)} reads {ast.unparse(node)}; time comes in through engine/clock"
            taken = [f"{node.module}.{alias.name}" for alias in node.names] if isinstance(node, ast.ImportFrom) else []
            yield from (f"{module.name} imports {name}" for name in taken if CLOCKS.fullmatch(name))


def dice(house: House) -> Iterator[str]:
    """No luck in what is replayed. Keys and identifiers may be drawn where they are made: by server and launcher."""
    for found in imports(house):
        name, kind = found.of.name, found.target.split(".")[0]
        makes_keys = kind in ("secrets", "uuid") and name.startswith(CLOCK_ROOMS)
        if kind in ("random", "secrets", "uuid") and not name.startswith(DICE_ROOMS) and not makes_keys:
            yield f"{found.of.at(found.node)} imports {kind}"


def floats(house: House) -> Iterator[str]:
    for module in house:
        for node in module.nodes if module.room in ENGINE | CONTROLLERS else ():
            if isinstance(node, ast.Constant) and isinstance(node.value, float):
                yield f"{module.at(node)} has the float {node.value}"
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "float":
                yield f"{module.at(node)} makes a float"


def stubs(house: House) -> Iterator[str]:
    for module in house:
        for node in module.nodes:
            if isinstance(node, ast.Name) and node.id == "NotImplementedError":
                yield f"{module.at(node)} is not implemented"


def dead(house: House) -> Iterator[str]:
    """Modules that no entry leads to, by an import or by a text in a table (`bursar.rails.x:Y`)."""
    follows: dict[str, set[str]] = {module.name: set() for module in house}
    for found in imports(house):
        follows[found.of.name].add(found.target)
    to_see = [name for name in follows if name in ENTRY]
    for module in house:
        texts = {n.value for n in module.nodes if isinstance(n, ast.Constant) and isinstance(n.value, str)}
        follows[module.name] |= {text.split(":")[0] for text in texts} | {module.name.rpartition(".")[0]}
        runs = any(isinstance(node, ast.If) and "__main__" in ast.unparse(node.test) for node in module.tree.body)
        if runs or module.room in OFFERED:
            to_see.append(module.name)
    seen: set[str] = set()
    while to_see:
        name = to_see.pop()
        if name in follows and name not in seen:
            seen.add(name)
            to_see.extend(follows[name])
    yield from (f"nothing leads to {m.name}" for m in house if m.name not in seen and m.text.strip())


def filled(text: str) -> int:
    return sum(1 for line in text.splitlines() if line.strip())


def rooms() -> dict[str, int]:
    """Non-blank lines by room, of everything that we wrote ourselves."""
    total: dict[str, int] = {}
    source = ROOT / "src/bursar"
    for path in sorted(source.rglob("*")):
        if path.suffix in TEXT and "vendor" not in path.parts:
            room = path.relative_to(source).parts[0].removesuffix(".py")
            total[room] = total.get(room, 0) + filled(path.read_text())
    total["without testing"] = sum(total.values()) - total.get("testing", 0)
    return total


Rule = Callable[[House], Iterator[str]]
RULES: dict[Rule, tuple[str, str]] = {  # rule -> a module that breaks it
    layers: ("bursar.rails.bitcoin", "from .cardano import x\n"),
    cycles: ("bursar.rails.bitcoin", "from . import cardano\n"),
    local_imports: ("bursar.rails.bitcoin", "def f():\n    import json\n"),
    sizes: ("bursar.alerts", "def f():\n" + "    x = 1\n" * FUNCTION),
    signatures: ("bursar.alerts", "class A:\n    def f(self, a, *, b: int, c: bool = True): ...\n"),
    broad: ("bursar.alerts", "try:\n    f()\nexcept (KeyError, Exception):\n    pass\n"),
    clocks: ("bursar.rails.bitcoin", "import datetime\nx = datetime.datetime.now()\n"),
    dice: ("bursar.engine.reconcile", "from random import Random\n"),
    floats: ("bursar.core.money", "x = 0.5\n"),
    stubs: ("bursar.alerts", "def f():\n    raise NotImplementedError\n"),
    dead: ("bursar.sinks.smoke", "x = 1\n"),
}


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps(rule: Rule) -> None:
    complaints = list(rule(product()))
    assert not complaints, "\n".join(complaints)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_rule_finds_a_breach_of(rule: Rule) -> None:
    tidy = [Module("bursar", "", is_package=True), Module("bursar.rails", "", is_package=True)]
    other = Module("bursar.rails.cardano", "from .bitcoin import y\n" if rule is cycles else "")
    assert list(rule([*tidy, other, Module(*RULES[rule])])) and not list(rule(tidy))


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("bursar.core.money", "import asyncio"),
        ("bursar.core.money", "import httpx"),
        ("bursar.core.money", "from ..engine import clock"),
        ("bursar.engine.reconcile", "from bursar.store import memory"),
        ("bursar.engine.reconcile", "import asyncio.locks"),
        ("bursar.invoices.status", "from ..alerts import Alert"),
        ("bursar.invoices", "import httpx"),
        ("bursar.sinks.jsonl", "from ..server import shell"),
        ("bursar.store.postgres", "from ..testing import drive"),
        ("bursar.store.postgres", "from .. import open"),
        ("bursar.store.postgres", "from .memory import MemoryStore"),
        ("bursar.utils", ""),
    ],
)
def test_layers_refuse(name: str, text: str) -> None:
    assert list(layers([Module(name, text)]))


def test_a_room_keeps_its_size() -> None:
    total = rooms()
    over = [f"{room}: {total[room]} of {limit}" for room, limit in LIMITS.items() if total.get(room, 0) > limit]
    assert not over, "\n".join(over)


def test_no_file_names_a_registry_or_a_place_of_this_machine() -> None:
    found = []
    for path in tracked():
        for n, line in enumerate(path.read_text(errors="ignore").splitlines(), 1):
            if HOST.search(line) or PLACE.search(line) or f"{ROOT}/" in line or "# no" + "qa" in line:
                found.append(f"{path.relative_to(ROOT)}:{n} {line.strip()[:80]}")
    assert not found, "\n".join(found)


def test_every_locked_package_has_hashes_and_no_address() -> None:
    locks = sorted(ROOT.glob("requirements*.lock"))
    assert len(locks) == 4
    for path in locks:
        packages = [block for block in re.split(r"\n(?=\S)", path.read_text()) if not block.startswith("#")]
        assert len(packages) > 1 and "://" not in path.read_text()
        assert all(re.match(r"[\w.-]+==.*--hash=sha256:", block, re.DOTALL) for block in packages), path.name


def test_the_tests_run_on_what_ships() -> None:
    def pins(name: str) -> set[str]:
        return set(re.findall(r"^\S+==\S+", (ROOT / name).read_text(), re.MULTILINE))

    assert pins("requirements.lock") <= pins("requirements-test.lock")


if __name__ == "__main__":
    for room, lines in sorted(rooms().items(), key=lambda row: -row[1]):
        print(f"{room:18}{lines:6}" + (f" of {LIMITS[room]}" if room in LIMITS else ""))
    lines = sum(filled(module.text) for module in product())
    print(f"broad excepts     {len(broad_excepts(product())):6} of {int(BROAD_PER_1000 * lines / 1000)}")
