"""Calls a flow from the command line, so that a server which is absent or goes away costs one line, not a screenful."""

import gc
import logging
import os
import subprocess
import sys
from collections.abc import Callable
from typing import TypeVar

from flows.errors import FlowError

T = TypeVar("T")
HEALTH_TIMEOUT_S = 5.0
SPEAK_OF_EVENTS = ("prefect.events.clients", "prefect._internal.concurrency")
"""Loggers that report each event which found no server."""

GUARD = "import os, sys; os.read(int(sys.argv[1]), 1); os.kill(int(sys.argv[2]), 15)"


def call(flow: Callable[..., T], /, *args: object, **options: object) -> T:
    """Run a flow in this process and return what it returns.

    Raises FlowError where the configured server does not answer. Where it goes away later, says so and ends the process
    with status 1: nobody can be told of anything any more, and Prefect would go on trying for a minute at exit.
    """
    import httpx

    url = _answering_server()
    if url is None:
        _start_temporary_server()
    _quieten()
    gc.freeze()
    gc.enable()
    try:
        return flow(*args, **options)
    except KeyboardInterrupt:
        print("interrupted; nothing of it runs on, and the next run goes on from here", file=sys.stderr)
        raise SystemExit(130) from None
    except httpx.TransportError:
        print(
            f"error: the Prefect server at {url} went away; what ran is kept, and .stroma/last_run.json has the"
            " verdicts. Start the server and run again: what is done is not done twice",
            file=sys.stderr,
            flush=True,
        )
        sys.stdout.flush()
        os._exit(1)
    finally:
        gc.freeze()  # what is left is the interpreter's end, which need not look at it once more


def _answering_server() -> str | None:
    """The URL of the configured server, None for a temporary one. Raises FlowError where it does not answer."""
    import httpx
    from prefect.settings import get_current_settings

    url = get_current_settings().api.url
    if url is None:
        return None
    try:
        httpx.get(f"{url}/health", timeout=HEALTH_TIMEOUT_S)
    except httpx.TransportError as error:
        raise FlowError(
            f"no Prefect server answers at {url} ({error}); start it with `prefect server start`, or unset"
            " PREFECT_API_URL to run with a temporary one"
        ) from None
    return url


def _start_temporary_server() -> None:
    """Start the server that Prefect would start itself; see to it that it ends with this process, however that ends.

    Prefect stops it at exit only: after a TERM or a kill -9 it would stay for ever.
    """
    from prefect.server.api.server import SubprocessASGIServer

    server = SubprocessASGIServer()
    server.start()
    if server.server_process is None:
        return
    held, _ = os.pipe()  # the other end closes with this process
    subprocess.Popen(
        [sys.executable, "-I", "-S", "-c", GUARD, str(held), str(server.server_process.pid)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        pass_fds=(held,),
        start_new_session=True,
    )
    os.close(held)


def _quieten() -> None:
    """Keep the server's loss from being reported by every part of Prefect that notices it."""
    import httpx

    logging.raiseExceptions = False  # "--- Error logging to API ---", once for every batch of lines
    for name in SPEAK_OF_EVENTS:
        logging.getLogger(name).addFilter(lambda record: False)  # a level would not outlive Prefect's configuration
    logging.getLogger("prefect.flow_runs").addFilter(
        lambda record: not (record.exc_info and isinstance(record.exc_info[1], httpx.TransportError))
    )
