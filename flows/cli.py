"""The console command `stroma`: one thin function a command, which imports what it needs: Prefect takes a second."""

import gc
import sys
from pathlib import Path
from typing import Annotated

import typer

from flows.environment import prepare
from flows.errors import FlowError

app = typer.Typer(no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False)


@app.callback()
def stroma() -> None:
    """Runs the DAG of dvc.yaml under Prefect: in parallel, observable, on schedule. Plain `dvc` does the same work."""


def main() -> None:
    """Run the command line; an expected error becomes one line and exit status 1."""
    gc.disable()  # Prefect and DVC make a million objects that stay; collecting while they are made takes 0.3 s
    try:
        app()
    except FlowError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(1) from None


@app.command()
def repro(
    *,
    targets: Annotated[
        list[str] | None, typer.Argument(help="Stages to bring up to date, with all that is upstream.")
    ] = None,
    workspace: Annotated[Path, typer.Option(help="Folder of dvc.yaml.")] = Path(),
    workers: Annotated[int | None, typer.Option(min=1, help="Stages at once; cores // threads if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Run every stage of the targets, changed or not.")] = False,
    pull: Annotated[bool, typer.Option("--pull", help="Fetch missing data from the DVC remote first.")] = False,
    dry: Annotated[bool, typer.Option("--dry", help="Only print what would run.")] = False,
    fail_fast: Annotated[bool, typer.Option("--fail-fast", help="Start nothing more after a failure.")] = False,
    no_wait: Annotated[
        bool, typer.Option("--no-wait", help="Refuse, rather than wait, while another run is on.")
    ] = False,
) -> None:
    """Bring the stages of dvc.yaml up to date, independent ones side by side."""
    prepare(workspace)
    if dry:
        from flows.graph import read_plan
        from flows.reproduce import preview

        print("\n".join(preview(read_plan(workspace.resolve(), targets or []), force)) or "nothing would run")
        return
    from flows.calling import call
    from flows.reproduce import reproduce
    from flows.summary import rendered

    options = {"force": force, "pull": pull, "fail_fast": fail_fast, "wait": not no_wait}
    print(rendered(call(reproduce, workspace, targets, workers, **options)))
