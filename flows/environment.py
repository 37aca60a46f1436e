"""The environment of the flows and their stages: no telemetry, DVC the only cache, everything inside the project."""

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
"""Where this code lies. A stage of another workspace (a git worktree) must not import its modules from here."""

DEFAULTS = {
    "DVC_NO_ANALYTICS": "1",
    "DO_NOT_TRACK": "1",
    "GX_ANALYTICS_ENABLED": "false",
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "PREFECT_RESULTS_PERSIST_BY_DEFAULT": "false",
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "60",  # 20 is too few for the first start on a busy machine
    "PREFECT_CLIENT_MAX_RETRIES": "2",  # some 8 s; 5 wait a minute for a server that went away, at every request
}


def prepare(workspace: Path) -> None:
    """Set what Prefect and DVC read from the environment; call it before they are imported. What is set already stays.

    Prefect's home is put inside the workspace, unless the user has one with a profile, which may name a server.
    """
    defaults = dict(DEFAULTS)
    if not (Path.home() / ".prefect/profiles.toml").exists():
        home = workspace.resolve() / ".stroma/prefect"
        home.mkdir(parents=True, exist_ok=True)  # Prefect makes one folder, not two
        defaults["PREFECT_HOME"] = str(home)
    if not sys.stderr.isatty():
        defaults["PREFECT_LOGGING_COLORS"] = "false"
    for name, value in defaults.items():
        os.environ.setdefault(name, value)


def of_stage() -> dict[str, str]:
    """The environment of a stage's command: the running interpreter first on the path, telemetry off, no code of ours.

    An entry of PYTHONPATH that names this checkout would come before the workspace's own modules where the workspace
    is another one.
    """
    environment = {**DEFAULTS, **os.environ}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    entries = [entry for entry in os.environ.get("PYTHONPATH", "").split(os.pathsep) if entry]
    foreign = [entry for entry in entries if Path(entry).resolve() != ROOT]
    environment.pop("PYTHONPATH", None)
    if foreign:
        environment["PYTHONPATH"] = os.pathsep.join(foreign)
    for name in ("DVC_ROOT", "DVC_STAGE", "GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE"):
        environment.pop(name, None)  # left by a git hook or an outer stage, they would point into another workspace
    return environment
