"""Starts a real PostgreSQL from the binaries of a wheel, as a direct child on a unix socket, and stops it (DESIGN §6).

It makes the cluster, the login roles and an empty database. It runs no migration, makes no backup, upgrades no cluster
of another major version, and does not watch over the server: call `start` again when it died. It never changes the mode
of a directory that it did not make, and never deletes `postmaster.pid`: PostgreSQL removes a stale one itself.

What lies in the folder: `lock` (one launcher at a time) · `secret` (mode 600; the passwords are derived from it) ·
`data/` (the cluster, whole or absent: initdb works in `making-…`, a rename makes it the cluster) · `socket/` (it is
under /tmp where the path is too long for a socket) · `server.conf`, `server.log` · `elsewhere` (only as root, where
the server's user cannot come here: a link to the directory that holds all the rest).
"""
from __future__ import annotations

import hashlib
import hmac
import os
import queue
import re
import secrets
import shutil
import signal
import struct
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from types import MappingProxyType
from typing import Self

import psycopg
from psycopg import sql
from psycopg.conninfo import make_conninfo

from bursar.core.errors import Explained
from bursar.store.embedded import cluster
from bursar.store.embedded.cluster import User

__all__ = ["DATABASE", "LOGIN_ROLES", "OWNER", "SETTINGS", "SUPERUSER", "Embedded"]

OWNER, MIGRATE = "bursar_owner", "bursar_migrate"
LOGIN_ROLES = (MIGRATE, "bursar_engine", "bursar_api", "bursar_read")
SUPERUSER, DATABASE = "bursar_super", "bursar"
SETTINGS: Mapping[str, str] = MappingProxyType({
    "listen_addresses": "", "port": "5432", "unix_socket_permissions": "0700", "max_connections": "40",
    "fsync": "on", "full_page_writes": "on", "synchronous_commit": "on", "wal_level": "replica",
    "shared_buffers": "256MB", "max_wal_size": "2GB", "checkpoint_timeout": "10min", "jit": "off",
    "idle_in_transaction_session_timeout": "30s", "timezone": "UTC", "log_timezone": "UTC", "lc_messages": "C",
    "log_min_messages": "warning", "log_min_duration_statement": "2s", "log_checkpoints": "off",
})

_SOCKET = ".s.PGSQL.5432"
_SOCKET_PATH_BYTES = 103        # sun_path holds 104 on macOS and 108 on Linux, the closing zero included
_LOG_BYTES = 8 * 1024 * 1024
_ELSEWHERE = Path("/var/lib")   # not /var/tmp: systemd-tmpfiles deletes there what was not touched for 30 days
_STOPS = ((signal.SIGINT, 20.0), (signal.SIGQUIT, 10.0), (signal.SIGKILL, 10.0))   # fast, immediate, by force
_INITDB = ("-U", SUPERUSER, "--auth-local=scram-sha-256", "--auth-host=reject", "--encoding=UTF8", "--locale=C",
           "--data-checksums")
_BUSY = ('"postmaster.pid" already exists', f'{_SOCKET}.lock" already exists', "pre-existing shared memory")


def _silent(_sentence: str) -> None:
    """The progress of a start that nobody watches."""


class Embedded:
    """PostgreSQL on `folder`. `binaries`: an installation (the folder above `bin`) in place of the wheel's.
    `settings`: lines of postgresql.conf that win over `SETTINGS` (tests: {"fsync": "off"})."""

    def __init__(self, folder: Path, *, binaries: Path | None = None,
                 settings: Mapping[str, str] = MappingProxyType({})) -> None:
        self.folder = folder.absolute()
        self._binaries, self._settings = binaries, {**SETTINGS, **settings}
        self._locks: list[int] = []
        self._server: _Server | None = None

    def start(self, timeout: float = 120, progress: Callable[[str], None] = _silent) -> None:
        """Return when the server answers and its roles and database stand, within about `timeout` seconds.

        `progress` gets sentences and, in a recovery, lines of the server's log. Raises Explained, and then leaves
        no process and no lock behind. Allowed again once the server has died.
        """
        if self._server is not None:
            self._server.join(1.0)      # one that was just killed takes a moment to end
        if self.pid is not None:
            raise Explained(f"PostgreSQL on {self.folder} runs already.", "Stop it first.")
        with ExitStack() as undo:
            undo.callback(self.stop)
            try:
                self._start(time.monotonic() + timeout, progress)
            except (OSError, psycopg.Error) as error:
                cluster.failed(f"PostgreSQL on {self.folder} did not start", str(error))
            undo.pop_all()

    def stop(self) -> None:
        """End the server in order, by force after 30 s, and give the folder free. Harmless when nothing runs."""
        server, self._server = self._server, None
        for request, patience in _STOPS:
            if server is not None and server.is_alive():
                server.process.send_signal(request)
                server.join(patience)
        if server is not None and self._socket.parent != self._place:
            with suppress(OSError):         # a file of somebody else in it: not ours to delete
                self._socket.rmdir()
        while self._locks:
            os.close(self._locks.pop())

    def alive(self) -> bool:
        """Whether the server of this data directory, and no other, answers a SELECT; asks for some seconds at most.
        Needs no lock: true also in a process that did not start it."""
        try:
            _bound(self._place / "server.log")
            return self._answers()
        except (psycopg.Error, OSError, Explained):
            return False

    def dsn(self, role: str, database: str = DATABASE) -> str:
        """A libpq connection string for one of LOGIN_ROLES, or for SUPERUSER (backups and tests only).

        Needs no lock and no running server, so another process of the same user can attach. ValueError for another
        role, Explained while the folder holds no secret.
        """
        if role not in (*LOGIN_ROLES, SUPERUSER):
            raise ValueError(f"no role that may log in: {role}")
        return make_conninfo(host=str(self._socket), port=5432, user=role, password=self._password(role),
                             dbname=database)

    @property
    def pid(self) -> int | None:
        """The server's process id while it runs."""
        return self._server.process.pid if self._server is not None and self._server.is_alive() else None

    def __enter__(self) -> Self:
        if self.pid is None:
            self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    # Where things lie

    @property
    def _place(self) -> Path:
        link = self.folder / "elsewhere"
        return link.resolve() if link.is_symlink() else self.folder.resolve()

    @property
    def _data(self) -> Path:
        return self._place / "data"

    @property
    def _socket(self) -> Path:
        path = self._place / "socket"       # a comma would end the path, for libpq and for the server
        if re.fullmatch(r"[\w/.\- ]+", str(path), re.ASCII) and len(str(path / _SOCKET)) <= _SOCKET_PATH_BYTES:
            return path
        return Path("/tmp") / f"bursar-{hashlib.sha256(os.fsencode(path)).hexdigest()[:12]}"

    def _password(self, role: str) -> str:
        try:
            secret = (self._place / "secret").read_bytes()
        except FileNotFoundError:
            raise Explained(f"{self._place / 'secret'} is missing; without it nobody can log in.",
                                "For an older database put it back from a backup.") from None
        return hmac.new(secret, role.encode(), "sha256").hexdigest()

    # The start, in order

    def _start(self, deadline: float, progress: Callable[[str], None]) -> None:
        if not self.folder.exists():
            self.folder.mkdir(parents=True)
            self.folder.chmod(0o700 if os.geteuid() else 0o711)     # the server's user has to pass through
        if not self._locks:
            self._locks.append(cluster.locked(self.folder))
        user = self._settle(progress)
        cluster.clean(self._place)
        home = self._binaries.resolve() if self._binaries else cluster.wheel()
        version = cluster.version_of(home)
        major = version.partition(".")[0]
        if not cluster.passable(home / "bin", user):
            home = cluster.copied(home, self._place / f"postgresql-{version}")
        if not self._data.exists():
            progress(f"making the database in {self._data}")
            if not (self._place / "secret").exists():
                cluster.write(self._place / "secret", secrets.token_hex(32))
            locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if int(major) >= 17 else []
            quick = ["--no-sync"] if self._settings["fsync"] == "off" else []
            cluster.make(home, self._place, user, self._password(SUPERUSER), [*_INITDB, *locale, *quick],
                         deadline - time.monotonic())
        cluster.check(self._data, major)
        cluster.own(self._socket, user)
        conf, ours = self._place / "server.conf", {**self._settings, "unix_socket_directories": str(self._socket)}
        lines = ["include 'data/postgresql.conf'", *(f"{name} = {_quoted(value)}" for name, value in ours.items()), ""]
        cluster.write(conf, "\n".join(lines), 0o644)
        _bound(self._place / "server.log")
        progress(f"starting PostgreSQL {version}")
        argv = [str(home / "bin" / "postgres"), "-D", str(self._data), "-c", f"config_file={conf}"]
        self._launch(cluster.as_user(user, signal.SIGINT, argv), deadline, progress)
        if not self._answers():
            raise Explained(f"Another server answers on {self._socket}.", "End it and start again.")
        self._provide()
        cluster.clean(self._place)

    def _settle(self, progress: Callable[[str], None]) -> User:
        """Who runs the server, and whether the data has to lie elsewhere: PostgreSQL asks access(2), so root's powers
        do not help its user through a closed directory."""
        if not self._place.is_dir():
            raise Explained(f"The database of {self.folder} lay in {self._place}, which is gone.",
                                f"Put it back from a backup, or delete {self.folder} to begin with an empty one.")
        user = cluster.runner(self._place)
        if not cluster.passable(self._place, user):
            if self._data.exists():
                raise Explained(f"PostgreSQL runs as {user.name}, who may not pass through {self._place}.",
                                    "Let others pass through its parent directories again (chmod o+x), or move it.")
            place = Path(tempfile.mkdtemp(prefix="bursar-", dir=_ELSEWHERE))
            place.chmod(0o711)
            (self.folder / "elsewhere").symlink_to(place)
            progress(f"{user.name}, who runs PostgreSQL, may not enter {self.folder}: the data is kept in {place}")
        if self._place != self.folder.resolve() and len(self._locks) == 1:
            self._locks.append(cluster.locked(self._place))    # a copy of the folder leads to the same place
        return user

    def _launch(self, argv: list[str], deadline: float, progress: Callable[[str], None]) -> None:
        log, pause = self._place / "server.log", 0.2
        blame = Explained("PostgreSQL did not start in time.", "Give a longer timeout.")
        while True:
            begin, told = log.stat().st_size if log.exists() else 0, 0
            self._server = _Server(argv, log)
            while self._server.is_alive():
                lines = _said(log, begin)
                for line in lines[told:]:
                    if re.search("recovery|redo|interrupted", line):
                        progress(line)
                told = len(lines)
                if self._ready(self._server.process.pid):
                    return
                if time.monotonic() > deadline:
                    raise Explained("\n".join([blame.sentence, *lines[-5:]]), blame.hint)
                time.sleep(0.01)
            text = "\n".join(_said(log, begin))
            if not any(sign in text for sign in _BUSY):
                code = self._server.process.returncode
                cluster.failed(f"PostgreSQL on {self._data} ended while it started (exit code {code})", text)
            blame = _occupant(self._data)
            if time.monotonic() > deadline:
                raise blame
            progress(f"waiting: {blame.sentence}")
            time.sleep(pause)
            pause = min(1.0, pause * 1.5)

    def _ready(self, pid: int) -> bool:
        """A hint, from line 8 of the pid file: spares a refused connection and a line of log every 10 ms."""
        with suppress(FileNotFoundError):
            lines = (self._data / "postmaster.pid").read_text().splitlines()
            return len(lines) > 7 and lines[0] == str(pid) and lines[7].strip() == "ready"
        return False

    def _answers(self) -> bool:
        """The cluster's system identifier is the first field of pg_control in every version (pg_control.h)."""
        with (self._data / "global" / "pg_control").open("rb") as control:
            identifier = struct.unpack("=q", control.read(8))
        with psycopg.connect(self.dsn(SUPERUSER, "postgres"), connect_timeout=2) as connection:
            connection.execute("set statement_timeout = '2s'")
            return connection.execute("select system_identifier from pg_control_system()").fetchone() == identifier

    def _provide(self) -> None:
        with psycopg.connect(self.dsn(SUPERUSER, "postgres"), connect_timeout=10, autocommit=True) as connection:
            have = {str(row[0]) for row in connection.execute("select rolname from pg_roles")}
            with connection.transaction():
                if OWNER not in have:
                    connection.execute(sql.SQL("create role {} nologin").format(sql.Identifier(OWNER)))
                for role in LOGIN_ROLES:
                    if role not in have:
                        connection.execute(sql.SQL("create role {} login password {}").format(
                            sql.Identifier(role), sql.Literal(self._password(role))))
                if not {OWNER, MIGRATE} <= have:
                    connection.execute(sql.SQL("grant {} to {}").format(sql.Identifier(OWNER), sql.Identifier(MIGRATE)))
            if not connection.execute("select 1 from pg_database where datname = %s", [DATABASE]).fetchone():
                connection.execute(sql.SQL("create database {} owner {} template template0").format(
                    sql.Identifier(DATABASE), sql.Identifier(OWNER)))


class _Server(threading.Thread):
    """Forks the server and waits for it, in one thread: the death signal comes when the *thread* that forked ends, and
    a child that is waited for never stays behind as a zombie."""

    def __init__(self, argv: list[str], log: Path) -> None:
        super().__init__(name="embedded-postgresql", daemon=True)
        self._argv, self._log = argv, log
        self._forked: queue.SimpleQueue[subprocess.Popen[bytes] | OSError] = queue.SimpleQueue()
        self.start()
        forked = self._forked.get()
        if isinstance(forked, OSError):
            raise forked
        self.process = forked

    def run(self) -> None:
        try:
            with open(self._log, "ab", opener=cluster.private) as log:
                process = subprocess.Popen(self._argv, cwd="/", env=cluster.environment(), stdin=subprocess.DEVNULL,
                                           stdout=log, stderr=log,
                                           start_new_session=True)      # Ctrl-C at the terminal is for us, not for it
        except OSError as error:
            self._forked.put(error)
        else:
            self._forked.put(process)
            process.wait()


def _occupant(data: Path) -> Explained:
    """Who bars the way, as the error to raise if it never leaves. A server that was left behind is asked to stop: we
    hold the lock, so it belongs to no launcher. Without /proc the process is only named."""
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
        command, _, state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")
        zombie = state.split()[0] == "Z"
        ours = not zombie and os.readlink(f"/proc/{pid}/cwd") == str(data)
    except (OSError, ValueError, IndexError) as error:
        return Explained(f"Something of an older server still holds {data} ({error}).",
                             f"End the processes of that server; if there is none, delete {data / 'postmaster.pid'}.")
    if zombie:
        return Explained(f"Process {pid}, a former server of {data}, is dead, but its parent did not collect it.",
                             "End that parent; in a container, run it with an init (docker run --init).")
    if ours:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGINT)
        return Explained(f"Process {pid}, an older server of {data}, does not stop.", f"End process {pid}.")
    return Explained(f"{data / 'postmaster.pid'} names process {command}), which is no server of this folder.",
                         f"If no PostgreSQL runs on it, delete {data / 'postmaster.pid'} and start again.")


def _quoted(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def _said(log: Path, begin: int) -> list[str]:
    with log.open("rb") as file:
        file.seek(begin)
        return file.read().decode(errors="replace").rpartition("\n")[0].splitlines()     # whole lines only


def _bound(log: Path) -> None:
    """The server appends, so it goes on at the beginning of an emptied file."""
    if log.exists() and log.stat().st_size > _LOG_BYTES:
        shutil.copyfile(log, log.with_name("server.log.1"))
        os.truncate(log, 0)
