"""A real Prefect server on loopback, which a test may kill."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import httpx

from flows.environment import DEFAULTS


@contextmanager
def prefect_server(home: Path, **settings: str) -> Iterator[tuple[str, subprocess.Popen[bytes]]]:
    """A server on a free port of loopback: its URL and its process. settings: more of its environment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    words = ["server", "start", "--host", "127.0.0.1", "--port", str(port)]
    environment = {**os.environ, **DEFAULTS, **settings, "PREFECT_HOME": str(home)}
    environment.pop("PREFECT_API_URL", None)
    with (home / "server.log").open("wb") as log:
        server = subprocess.Popen(
            [sys.executable, "-m", "prefect", *words],
            cwd=home,
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    url = f"http://127.0.0.1:{port}/api"
    try:
        _await_health(url, home / "server.log")
        yield url, server
    finally:
        stop(server)


def stop(server: subprocess.Popen[bytes]) -> None:
    """Kill a server and all that it started, at once, as a crash would."""
    with suppress(ProcessLookupError):
        os.killpg(server.pid, 9)
    server.wait()


def _await_health(url: str, log: Path) -> None:
    end = time.monotonic() + 90
    while time.monotonic() < end:
        try:
            if httpx.get(f"{url}/health", timeout=5).is_success:
                return
        except httpx.TransportError:
            time.sleep(0.2)
    raise AssertionError(f"no server at {url}: {log.read_text()}")
