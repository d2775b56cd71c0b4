"""The command line: help without extras, errors as a sentence and a hint, one service a folder and a port."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import venv
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from cyclopts import App

from bursar.server import cli

ROOT = Path(__file__).parent.parent.parent
BURSAR = [sys.executable, "-c", "from bursar.server.cli import main; main()"]
MEMORY = '[database]\nurl = "memory"\n'
EXTRAS = {"psycopg", "litestar", "uvicorn", "jinja2", "embit", "grpc", "bolt11", "prometheus_client"}


@dataclass
class Ran:
    code: int
    out: str
    err: str


Run = Callable[..., Ran]


@pytest.fixture
def run(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Run:
    """A command in this process, as its entry point runs it."""

    def run(*words: str, folder: Path = tmp_path, **env: str) -> Ran:
        with monkeypatch.context() as for_now:
            for_now.chdir(folder)
            for_now.setenv("NO_COLOR", "1")
            for name, value in env.items():
                for_now.setenv(name, value)
            for_now.setattr(sys, "argv", ["bursar", *words])
            with pytest.raises(SystemExit) as end:
                cli.main()
        said = capsys.readouterr()
        return Ran(int(end.value.code or 0), said.out, said.err)

    return run


def refused(ran: Ran, *words: str) -> None:
    """Exit code 1, a sentence, mostly a hint, no traceback."""
    assert ran.code == 1 and ran.out == "" and "Traceback" not in ran.err, ran
    sentence, *hint = ran.err.splitlines()
    assert sentence[0] != " " and len(hint) < 2 and all(line.startswith("  ") for line in hint), ran.err
    for word in words:
        assert word in ran.err, ran.err


def commands() -> Iterator[list[str]]:
    def below(app: App, path: list[str]) -> Iterator[list[str]]:
        yield path
        for name in app:
            if not name.startswith("-"):
                yield from below(app[name], [*path, name])

    return below(cli.app, [])


def free_port() -> str:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return str(sock.getsockname()[1])


def test_every_command_has_help_and_needs_no_extra_for_it(tmp_path: Path) -> None:
    """In one process of its own, for the sake of time: what was imported in the end is what any of them imports."""
    every = list(commands())
    assert len(every) > 20
    code = (
        "import sys, json\n"
        "from bursar.server import cli\n"
        "import bursar\n"
        f"for words in {every!r}:\n"
        "    try:\n"
        "        cli.app([*words, '--help'])\n"
        "    except SystemExit as end:\n"
        "        assert not end.code, words\n"
        "print(json.dumps(sorted({name.split('.')[0] for name in sys.modules})))\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert not set(json.loads(ran.stdout.splitlines()[-1])) & EXTRAS
    assert ran.stdout.count("Usage: bursar") == len(every)


@pytest.mark.real
def test_the_base_install_alone(tmp_path: Path) -> None:
    """A fresh environment with the base dependencies as they are locked, by their hashes."""
    home = tmp_path / "venv"
    venv.create(home, with_pip=True)
    python = home / "bin/python"
    uv = ROOT / ".venv/bin/uv"
    compile: list[str | Path] = [uv, "pip", "compile", "--quiet", "--universal", "--generate-hashes"]
    pinned = [*compile, "-c", "requirements.lock", "pyproject.toml"]
    lock = subprocess.run(pinned, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert lock.returncode == 0, lock.stderr
    (tmp_path / "base.lock").write_text(lock.stdout)
    pip: list[str | Path] = [python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*pip, "--require-hashes", "-r", tmp_path / "base.lock"], check=True, timeout=300)
    build = [*pip, "--require-hashes", "-r", ROOT / "requirements-setup.lock"]
    subprocess.run(build, check=True, timeout=300)
    subprocess.run([*pip, "--no-deps", "--no-build-isolation", ROOT], check=True, timeout=300)
    have = subprocess.run([python, "-m", "pip", "list", "--format=json"], capture_output=True, text=True, check=True)
    assert not {row["name"].lower() for row in json.loads(have.stdout)} & EXTRAS
    for words in (["watch", "--help"], ["--help"], ["invoice", "create", "--help"], ["--version"]):
        ran = subprocess.run([home / "bin/bursar", *words], capture_output=True, text=True, timeout=60)
        assert ran.returncode == 0 and ran.stdout, ran.stderr
    subprocess.run([python, "-c", "import bursar"], check=True, timeout=60)
    ran = subprocess.run([home / "bin/bursar", "up"], capture_output=True, text=True, timeout=60, cwd=tmp_path)
    assert ran.returncode == 1 and "is not installed" in ran.stderr and "pip install 'bursar[server" in ran.stderr


def test_what_is_wrong_with_a_configuration(tmp_path: Path, run: Run) -> None:
    wrong = {
        "data = ": "not TOML",
        "colour = 'red'": "colour",
        "[http]\nport = 'x'": "port",
        "[prices]\nfixed = { 'BTC/EUR' = '0' }": "BTC/EUR",
        "[prices]\nfixed = { 'BTC/EUR' = '1/0' }": "BTC/EUR",
        "[rails.'moon:one']\n": "moon:one",
        "[rails.'bitcoin:moon']\nsource = 'http://u:p@127.0.0.1:1'": "bitcoin:moon",
        "[rails.'bitcoin:regtest']\n": "bitcoin:regtest",
        "[rails.'bitcoin:regtest']\nsource = 'http://u:p@127.0.0.1:1'\nxpub = 'xpub1'": "xpub",
        "[sinks.log]\njsonl = 'nowhere/x'": "nowhere",
    }
    for text, word in wrong.items():
        (tmp_path / "bursar.toml").write_text(text)
        ran = run("config", "check")
        refused(ran, word)
        assert len(ran.err.splitlines()) == 2 or "xpub" in text, ran.err  # a hint
    (tmp_path / "bursar.toml").write_text("colour = 'red'")
    refused(run("up"), "colour")
    assert not (tmp_path / ".bursar").exists()
    refused(run("up", "--config", "none.toml"), "none.toml", "bursar config example")
    (tmp_path / "bursar.toml").write_text(MEMORY)
    refused(run("up", BURSAR_PORT="70000"), "BURSAR_PORT")
    ran = run("config", "check")
    assert ran.code == 0 and "is right" in ran.out


def test_nothing_runs_yet(tmp_path: Path, run: Run) -> None:
    refused(run("invoice", "list"), "bursar up")
    refused(run("invoice", "list", BURSAR_KEY="bk_x", BURSAR_PORT=free_port()), "nothing answers", "bursar up")
    (tmp_path / ".bursar").mkdir()
    (tmp_path / ".bursar/admin.key").write_text("bk_x")
    refused(run("alerts", BURSAR_PORT=free_port()), "nothing answers")
    assert run("nonsense").code == 2


@contextmanager
def service(folder: Path, port: str) -> Iterator[subprocess.Popen[str]]:
    env = {**os.environ, "BURSAR_PORT": port}
    with subprocess.Popen([*BURSAR, "up"], cwd=folder, env=env, stdout=subprocess.PIPE, text=True) as it:
        try:
            assert it.stdout is not None
            assert "listens on" in it.stdout.readline()
            yield it
        finally:
            it.send_signal(signal.SIGTERM)
            assert it.wait(10) == 0


def test_the_commands_against_a_service(tmp_path: Path, run: Run) -> None:
    port = free_port()
    (tmp_path / "bursar.toml").write_text(MEMORY)
    other = tmp_path / "other"
    other.mkdir()
    (other / "bursar.toml").write_text(MEMORY)
    here = {"BURSAR_PORT": port}
    with service(tmp_path, port):
        refused(run("up", BURSAR_PORT=free_port()), "another Bursar uses .bursar", "data folder of its own")
        refused(run("up", folder=other, **here), port, "BURSAR_PORT")
        assert json.loads(run("invoice", "list", **here).out) == {"items": [], "next": None}
        refused(run("invoice", "create", "--price", "1", "--asset", "BTC", **here), "can derive")
        refused(run("invoice", "show", "inv_x", **here), "there is no invoice inv_x")
        refused(run("invoice", "act", "inv_x", "burn", "--reason", "x", **here), "burn")
        refused(run("payout", "create", "moon", "x", "--amount", "1", "--asset", "BTC", **here), "moon")
        assert json.loads(run("balance", "list", **here).out) == []
        entry = ("--amount", "1", "--asset", "BTC", "--reason", "x")
        refused(run("balance", "enter", "moon", *entry, **here), "moon")
        made = json.loads(run("keys", "create", "till", "--label", "till 2", **here).out)
        assert run("tenants", **here).out.split() == ["main", "till"]
        refused(run("keys", "list", **here, BURSAR_KEY=made["secret"]), "admin")
        assert run("keys", "revoke", made["id"], **here).code == 0
        refused(run("invoice", "list", **here, BURSAR_KEY=made["secret"]), "API key")
        assert run("login", **here).out.startswith(f"http://127.0.0.1:{port}/login?token=")
        assert json.loads(run("alerts", **here).out) == []
        assert json.loads(run("sources", **here).out) == []


def test_the_example_is_the_file_in_the_repository(run: Run) -> None:
    ran = run("config", "example")
    assert ran.code == 0 and ran.out == (ROOT / "bursar.toml").read_text()
