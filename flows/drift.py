"""The flow `drift`: take in a new batch beside everything, let the room hold it against the index, tell of it."""

import json
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml
from prefect import flow, get_run_logger, runtime
from prefect.artifacts import create_table_artifact
from prefect.events import emit_event
from prefect.states import Failed

from flows.doors import door
from flows.errors import FlowError
from flows.git import branch_of, checkout_at, tip_of
from flows.liveness import sign
from flows.retrain import LOCK, SOURCES, lay_out_champions, retrain
from flows.settings import read_yaml, value_at
from flows.workspace import claimed
from flows.worktree import bring_outputs, worktree

REPORT = Path(".stroma/drift.json")
SCRATCH = Path(".stroma/batch")


@flow(name="drift", persist_result=False, on_running=[sign])
def drift(workspace: str = ".", branch: str | None = None) -> str:
    """Hold the batch that `drift.incoming` of params.yaml names against what the champion was trained on.

    The batch is ingested in a worktree of its own, the report is left in .stroma/drift.json of `workspace`. Returns the
    room's verdict (drifted, stable, undecided), or `no batch` where params name none. A drifted batch starts a retrain
    where `drift.retrain` says so. Ends as failed, with a FlowError, where something went wrong.
    """
    logger = get_run_logger()
    run = f"{datetime.now(UTC):%Y%m%dT%H%M%S}-{str(runtime.flow_run.id)[:8]}"
    try:
        main = checkout_at(workspace)
        branch = branch or branch_of(main)
        with (
            claimed(main, run, wait=True, say=logger.warning, lock=LOCK),
            worktree(main, tip_of(main, branch), run) as tree,
        ):
            params = read_yaml(tree / "params.yaml")
            batch = incoming(params, main, tree / "params.yaml")
            if not any(batch.values()):
                logger.info("no batch: drift.incoming of params.yaml names none")
                return "no batch"
            report = _measure(main, tree, params, batch)
    except FlowError as error:
        return Failed(message=str(error), data=error)  # type: ignore[return-value]  # raised again, without a trace
    logger.info("%s: %s", report["verdict"], summary(report))
    if report["verdict"] == "drifted":
        payload = {"verdict": report["verdict"], "said": summary(report)}
        emit_event("stroma.drift.found", resource={"prefect.resource.id": "stroma.drift"}, payload=payload)
        if value_at(params, "drift.retrain", tree / "params.yaml"):
            retrain(str(main), branch)
    return report["verdict"]


def incoming(params: dict[str, Any], main: Path, file: Path) -> dict[str, str | None]:
    """Source -> absolute path of its part of the batch, or None."""
    named = {source: value_at(params, f"drift.incoming.{source}", file) for source in SOURCES}
    return {source: str(main / Path(path).expanduser()) if path else None for source, path in named.items()}


def _measure(main: Path, tree: Path, params: dict[str, Any], batch: dict[str, str | None]) -> dict[str, Any]:
    """Ingest the batch with the code of the worktree, bring what was trained on, and let the room judge."""
    if not (tree / "dvc.lock").exists():
        raise FlowError("nothing has been trained and committed on this branch yet; run `stroma retrain` first")
    scratch = tree / SCRATCH
    scratch.mkdir(parents=True)
    profiles = {**params["profiles"], "local": {**params["profiles"]["local"], **batch}}
    text = yaml.safe_dump({**params, "profile": "local", "profiles": profiles}, sort_keys=False)
    (scratch / "params.yaml").write_text(text, encoding="utf-8")
    for source in SOURCES:
        door(f"download {source}", scratch, "download", source, code=tree)
    door("merge", scratch, "merge", code=tree)
    bring_outputs(tree)
    for name in lay_out_champions(main, tree, get_run_logger().info):
        door(f"champion {name}", tree, "evaluate.champion", name)
    door("drift", tree, "evaluate.drift", str(SCRATCH))
    (main / REPORT).parent.mkdir(exist_ok=True)
    shutil.copyfile(tree / REPORT, main / REPORT)
    report = json.loads((main / REPORT).read_text(encoding="utf-8"))
    create_table_artifact(key="drift", table=rows(report), description=f"**{report['verdict']}**: {summary(report)}")
    return report


def rows(report: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each source, what is nested in it as JSON."""
    return [
        {"source": source, **{key: _flat(value) for key, value in found.items()}}
        for source, found in report["sources"].items()
    ]


def _flat(value: Any) -> Any:
    return json.dumps(value) if isinstance(value, dict | list) else value


def summary(report: dict[str, Any]) -> str:
    """What came of each source, and why."""
    each = [f"{source} {found['verdict']} ({found.get('reason')})" for source, found in report["sources"].items()]
    return "; ".join(each) or "no new image"
