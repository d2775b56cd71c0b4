"""Sets up what the make targets need: the virtual environment from the hashed locks, and the real servers of the tests.

Usage: `python3 tools/setup.py run|test|real|node`; the standard library alone, Python 3.11 or newer.
  run    .venv with what `make run` needs
  test   .venv with the tests' packages too; litecoind and the Cardano ledger where they can be had
  real   all of test; btcd, LNbits and Chromium too
  node   all of run; litecoind
A server that can't be had is named in a sentence and is no error here: its tests skip, or fail where CI=true.
It does not run anything that it installed.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

if sys.version_info < (3, 11):
    sys.exit(f"Bursar needs Python 3.11 or newer, and this is {sys.version.split()[0]}. Try: make PYTHON=python3.11 …")
try:
    import fcntl
except ImportError:
    sys.exit("make works on Linux and macOS only; elsewhere use pip install '.[server,postgres]'.")

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache"
BTCD = "v0.26.2"
STARTED = time.monotonic()


class Unfinished(Exception):
    """A step could not be done; its text is a sentence for the person, with a hint."""


def say(text: str) -> None:
    """One line of progress, with the seconds since the start."""
    print(f"setup {time.monotonic() - STARTED:5.1f} s  {text}", flush=True)


def run(command: list[str | Path], hint: str, lock: int, folder: Path = ROOT) -> None:
    """Run one command to its end. Its children hold the lock too, so that nobody starts over while they still write."""
    done = subprocess.run(command, cwd=folder, pass_fds=[lock], stdin=subprocess.DEVNULL)
    if done.returncode:
        raise Unfinished(f"`{Path(command[0]).name} {' '.join(str(part) for part in command[1:4])} …` failed. {hint}")


def digest(*files: Path) -> str:
    """What a stamp holds: the files' content and the place, since a virtual environment can't be moved."""
    total = hashlib.sha256(str(ROOT).encode())
    for file in files:
        total.update(hashlib.sha256(file.read_bytes()).digest())
    return total.hexdigest()


def works(venv: Path) -> bool:
    """Whether the environment's interpreter still starts (the Python it was made from may be gone)."""
    try:
        return subprocess.run([venv / "bin/python", "-c", ""], capture_output=True).returncode == 0
    except OSError:
        return False


def install(venv: Path, packages: list[str | Path], lock: int) -> None:
    """Install by uv, which is fast; by pip where uv can't reach the index that pip is configured for."""
    quiet: list[str | Path] = [] if sys.stderr.isatty() else ["--quiet"]
    uv: list[str | Path] = [venv / "bin/uv", "pip", "install", "--system-certs", "--python", venv / "bin/python"]
    try:
        run([*uv, *quiet, *packages], "", lock)
    except Unfinished:
        say("uv failed; the same by pip")
        again = "Is the network there? `make setup` begins again where nothing is half done."
        run([venv / "bin/python", "-m", "pip", "install", *quiet, *packages], again, lock)


def environment(venv: Path, stamp: str, locks: list[str], editable: bool, lock: int) -> None:
    """Bring a virtual environment to what the locks say; a stamp written last makes the next time quick.

    While it is worked on, a file `unfinished` stands in it; who finds one begins from nothing.
    """
    files = [ROOT / name for name in ["requirements-setup.lock", *locks]]
    wanted = digest(*files, *([ROOT / "pyproject.toml"] if editable else []))
    ready = venv / f"ready-{stamp}"
    if ready.is_file() and ready.read_text() == wanted and works(venv):
        return
    unfinished = venv / "unfinished"
    if unfinished.exists() or not works(venv):
        say(f"a new environment in {venv.relative_to(ROOT)}, Python {sys.version.split()[0]}")
        shutil.rmtree(venv, ignore_errors=True)
    venv.mkdir(parents=True, exist_ok=True)
    unfinished.touch()
    if not works(venv):
        hint = "On Debian and Ubuntu: apt-get install python3-venv"
        run([sys.executable, "-m", "venv", venv], hint, lock)
    say("the installer")
    pip: list[str | Path] = [venv / "bin/python", "-m", "pip", "--disable-pip-version-check"]
    run([*pip, "install", "--quiet", "--require-hashes", "-r", files[0]], "Is the network there?", lock)
    say(f"packages of {', '.join(locks)}")
    checked: list[str | Path] = ["--require-hashes", "--no-build-isolation"]
    for name in locks:
        checked += ["-r", ROOT / name]
    install(venv, checked, lock)
    if editable:
        say("bursar itself, from this folder")
        install(venv, ["--no-build-isolation", "--no-deps", "--editable", ROOT], lock)
    ready.write_text(wanted)
    unfinished.unlink()
    say(f"{venv.relative_to(ROOT)} is ready")


def running(lock: int) -> None:
    """What `make run` needs. The tests' environment holds all of it, so that either stamp will do."""
    files = [ROOT / name for name in ("requirements-setup.lock", "requirements-test.lock", "pyproject.toml")]
    ready = ROOT / ".venv/ready-test"
    if not (ready.is_file() and ready.read_text() == digest(*files) and works(ROOT / ".venv")):
        environment(ROOT / ".venv", "run", ["requirements.lock"], editable=True, lock=lock)


def testing(lock: int) -> None:
    """What pytest, mypy and ruff need."""
    environment(ROOT / ".venv", "test", ["requirements-test.lock"], editable=True, lock=lock)


def packaged(names: list[str], hint: str, lock: int) -> None:
    """Debian's packages; only root can install them."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        raise Unfinished(f"{names[0]} is not installed. On Debian and Ubuntu, as root: apt-get install {names[0]}")
    say(f"{names[0]}, by apt-get")
    run(["apt-get", "-qq", "update"], hint, lock)
    quiet: list[str | Path] = ["env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq"]
    run([*quiet, "install", "-y", "--no-install-recommends", *names], hint, lock)


def litecoind(lock: int) -> None:
    """A real Bitcoin-type node."""
    if not (shutil.which("litecoind") or Path("/usr/lib/litecoin/litecoind").exists()):
        packaged(["litecoind"], "Without it the tests on a real node can't run.", lock)


def chromium(lock: int) -> None:
    """A browser for the tests of the pages."""
    if not shutil.which("chromium"):
        packaged(["chromium", "fonts-dejavu-core"], "Without it the tests of the pages can't run.", lock)


def cardano_ledger(lock: int) -> None:
    """The Cardano ledger behind the Koios fake, from npm, into tools/node."""
    folder = ROOT / "tools/node"
    ready, wanted = folder / "node_modules/ready", digest(folder / "package-lock.json")
    if ready.is_file() and ready.read_text() == wanted:
        return
    if not shutil.which("node") or not shutil.which("npm"):
        raise Unfinished("The tests' Cardano ledger needs Node.js 18 or newer with npm, which is not installed.")
    say("the Cardano ledger of the tests, by npm")
    command: list[str | Path] = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", "--silent"]
    run(command, "Without it the tests on a Cardano ledger can't run.", lock, folder)
    ready.write_text(wanted)


def btcd(lock: int) -> None:
    """A second, different Bitcoin node, built by Go into .cache/bin; moved there when whole."""
    node, version = CACHE / "bin/btcd", CACHE / "bin/btcd.version"
    if node.is_file() and version.is_file() and version.read_text() == BTCD:
        return
    if not shutil.which("go"):
        raise Unfinished("btcd is built by Go 1.23 or newer, which is not installed.")
    say(f"btcd {BTCD}, by go install (half a minute)")
    shelf = CACHE / "building"
    package = f"github.com/btcsuite/btcd@{BTCD}"
    run(["env", f"GOBIN={shelf}", "go", "install", package], "Without it the tests on btcd can't run.", lock)
    node.parent.mkdir(exist_ok=True)
    (shelf / "btcd").replace(node)
    version.write_text(BTCD)


def lnbits(lock: int) -> None:
    """A real Lightning wallet service in an environment of its own, since its pins contradict ours."""
    if not (3, 11) <= sys.version_info[:2] <= (3, 12):
        raise Unfinished("LNbits 1.6.2 needs Python 3.11 or 3.12. Try: make PYTHON=python3.11 test-real")
    environment(CACHE / "lnbits", "lnbits", ["requirements-lnbits.lock"], editable=False, lock=lock)


Step = Callable[[int], None]
ENVIRONMENTS: dict[str, Step] = {"run": running, "node": running, "test": testing, "real": testing}
SERVERS: dict[str, list[Step]] = {
    "run": [],
    "node": [litecoind],
    "test": [litecoind, cardano_ledger],
    "real": [litecoind, cardano_ledger, btcd, lnbits, chromium],
}


def main(goal: str) -> None:
    """Set up `goal`, one process at a time."""
    CACHE.mkdir(exist_ok=True)
    with open(CACHE / "setup.lock", "w") as file:
        lock = file.fileno()
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another setup in this folder")
            fcntl.flock(lock, fcntl.LOCK_EX)
        try:
            ENVIRONMENTS[goal](lock)
        except Unfinished as reason:
            sys.exit(f"setup failed: {reason}")
        for step in SERVERS[goal]:
            try:
                step(lock)
            except Unfinished as reason:
                say(f"left out: {reason}")


if __name__ == "__main__":
    if len(sys.argv) != 2 or sys.argv[1] not in ENVIRONMENTS:
        sys.exit(f"usage: python3 tools/setup.py {'|'.join(ENVIRONMENTS)}")
    try:
        main(sys.argv[1])
    except KeyboardInterrupt:
        sys.exit("setup interrupted; `make setup` begins again")
