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


@app.command()
def retrain(
    *,
    workspace: Annotated[Path, typer.Option(help="The checkout; the run itself happens in a worktree.")] = Path(),
    branch: Annotated[str | None, typer.Option(help="Its committed tip is trained; the one checked out.")] = None,
    workers: Annotated[int | None, typer.Option(min=1, help="Stages at once; cores // threads if not given.")] = None,
    force: Annotated[bool, typer.Option("--force", help="Go on though nothing changed since the last one.")] = False,
) -> None:
    """Look for new data, train apart from your work, and promote what the gate lets through."""
    prepare(workspace)
    from flows.server import require_server

    require_server("retrain")
    from flows.calling import call
    from flows.retrain import retrain as run

    outcome = call(run, str(workspace), branch, workers, force=force)
    print(f"{outcome.verdict}: {outcome.reason}")


Name = Annotated[str, typer.Argument(help="champion-binary or champion-subtype.")]
Reason = Annotated[str, typer.Option(help="Why; it stands in the tag.")]


@app.command()
def promote(
    name: Name,
    *,
    reason: Reason,
    version: Annotated[str | None, typer.Option(help="A registered version; the newest if not given.")] = None,
    workspace: Annotated[Path, typer.Option(help="Folder of dvc.yaml.")] = Path(),
) -> None:
    """Make a registered version the champion, whatever the gate said."""
    prepare(workspace)
    from flows.promote import promote as run

    run(workspace.resolve(), name, version, reason, print)


@app.command()
def rollback(
    name: Name,
    *,
    reason: Reason,
    version: Annotated[str | None, typer.Option(help="Which one; the champion before this if not given.")] = None,
    workspace: Annotated[Path, typer.Option(help="Folder of dvc.yaml.")] = Path(),
) -> None:
    """Make an earlier version the champion again."""
    prepare(workspace)
    from flows.promote import rollback as run

    run(workspace.resolve(), name, version, reason, print)


@app.command()
def drift(
    *,
    workspace: Annotated[Path, typer.Option(help="The checkout; the batch is taken in elsewhere.")] = Path(),
    branch: Annotated[str | None, typer.Option(help="Its committed tip names the batch; the one checked out.")] = None,
) -> None:
    """Hold the batch of `drift.incoming` against what the champion was trained on."""
    prepare(workspace)
    from flows.calling import call
    from flows.drift import drift as run

    print(call(run, str(workspace), branch))


@app.command()
def serve(
    *,
    notify: Annotated[str | None, typer.Option(help="Send alerts through this block of the server, TYPE/NAME.")] = None,
) -> None:
    """Run the deployments of prefect.yaml on this machine, on their schedules, until stopped. Needs a server."""
    prepare(Path())
    from flows.serve import serve

    serve(Path(), notify)


@app.command()
def deploy(
    *,
    notify: Annotated[str | None, typer.Option(help="Send alerts through this block of the server, TYPE/NAME.")] = None,
) -> None:
    """Send the deployments of prefect.yaml and the automations to the server, for workers to run."""
    prepare(Path())
    from flows.deployments import deploy

    for pool in deploy(Path(), notify):
        print(f"deployed; start a worker in the workspace of each machine: `prefect worker start --pool {pool}`")


@app.command()
def doctor(
    *,
    workspace: Annotated[Path, typer.Option(help="Folder of dvc.yaml.")] = Path(),
    mend: Annotated[bool, typer.Option("--mend", help="First put right what dead runs left.")] = False,
) -> None:
    """Say what is wrong with this machine and workspace, and what to do; exits with 1 where something must be done."""
    prepare(workspace)
    from flows.doctor import examine

    if mend:
        from flows.doctor_server import mend as put_right

        for sentence in put_right(workspace.resolve()):
            print(f"mend  {sentence}")
    levels = set()
    for finding in examine(workspace.resolve()):
        print(finding, flush=True)
        levels.add(finding.level)
    raise typer.Exit(1 if "FAIL" in levels else 0)
