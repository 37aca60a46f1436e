"""The doctor and the deployments, without a schedule: what they say of a machine, a workspace and a server."""

import json
import subprocess
import time
from pathlib import Path

import httpx
import pytest
from conftest import ROOT
from prefect.settings import PREFECT_API_URL, get_current_settings, temporary_settings

from flows import automations, doctor, doctor_server
from flows.deployments import read_deployments
from flows.errors import FlowError
from flows.server import require_server
from flows.workspace import LOCK, claimed

NOBODY = "http://127.0.0.1:9/api"  # the discard port


def test_without_a_server_one_line_says_what_to_start() -> None:
    with temporary_settings(restore_defaults={PREFECT_API_URL}), pytest.raises(FlowError) as refused:
        require_server("serve")
    assert "`prefect server start`" in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_server_that_does_not_answer_is_told_of_in_seconds() -> None:
    clock = time.monotonic()
    with temporary_settings({PREFECT_API_URL: NOBODY}), pytest.raises(FlowError, match="cannot be used"):
        require_server("deploy")
    assert time.monotonic() - clock < 5


@pytest.mark.usefixtures("told")
def test_a_url_that_is_not_the_apis_is_told_apart() -> None:
    url = get_current_settings().api.url.removesuffix("/api")
    with temporary_settings({PREFECT_API_URL: url}), pytest.raises(FlowError, match="ends in /api"):
        require_server("serve")


def test_retrain_is_deployed_weekly_with_a_time_zone_and_one_run_at_a_time() -> None:
    deployments = {one.name: one for one in read_deployments(ROOT)}
    assert set(deployments) == {"reproduce", "retrain", "drift"}
    (weekly,) = deployments["retrain"].schedules
    assert weekly["cron"].endswith("* * 0")
    assert weekly["timezone"]
    assert deployments["retrain"].concurrency_limit == {"limit": 1, "collision_strategy": "CANCEL_NEW"}


def test_every_deployment_names_a_flow_of_its_own_name() -> None:
    for one in read_deployments(ROOT):
        made = one.runner()
        assert (made.flow_name, made.name) == (one.name, one.name)


def test_a_schedule_without_a_time_zone_is_refused_by_name(tmp_path: Path) -> None:
    text = (ROOT / "prefect.yaml").read_text().replace("timezone: UTC, ", "")
    (tmp_path / "prefect.yaml").write_text(text)
    with pytest.raises(FlowError, match="timezone"):
        read_deployments(tmp_path)


@pytest.mark.usefixtures("told")
def test_an_automation_that_is_as_it_should_be_is_left_alone() -> None:
    automations.ship()
    before = shipped_on_the_server()
    automations.ship()
    assert shipped_on_the_server() == before


@pytest.mark.usefixtures("told")
def test_an_automation_that_was_switched_off_stays_off_when_it_is_updated() -> None:
    automations.ship()
    (found,) = (one for one in shipped_on_the_server() if one["name"] == automations.OVERDUE)
    url = f"{get_current_settings().api.url}/automations/{found['id']}"
    httpx.patch(url, json={"enabled": False}).raise_for_status()
    other = {key: found[key] for key in ("name", "trigger", "actions")} | {"description": "old", "enabled": False}
    httpx.put(url, json=other).raise_for_status()
    automations.ship()
    (after,) = (one for one in shipped_on_the_server() if one["name"] == automations.OVERDUE)
    assert (after["enabled"], after["description"]) == (False, found["description"])
    httpx.patch(url, json={"enabled": True}).raise_for_status()


@pytest.mark.usefixtures("told")
def test_an_unknown_notification_block_is_named() -> None:
    with pytest.raises(FlowError, match="no block custom-webhook/nobody"):
        automations.ship("custom-webhook/nobody")


def shipped_on_the_server() -> list[dict]:
    return httpx.post(f"{get_current_settings().api.url}/automations/filter", json={}).raise_for_status().json()


def test_a_package_that_is_not_as_pinned_is_named(tmp_path: Path) -> None:
    (tmp_path / "requirements.lock").write_text(
        "psutil==0.1 \\\n    --hash=sha256:00\nabsent==1.0 ; python_version < '3' \\\n    --hash=sha256:00\n"
    )
    found = doctor.check_packages(tmp_path)
    assert found.level == "warn"
    assert "psutil" in found.what
    assert "absent" not in found.what


def test_a_fault_of_params_is_said_and_fails(tmp_path: Path) -> None:
    (tmp_path / "stages").mkdir()
    (tmp_path / "stages/__main__.py").write_text("raise SystemExit('error: params.yaml: threds is not a known key')")
    assert str(doctor.check_params(tmp_path)).startswith("FAIL  params.yaml: threds is not a known key ->")


def test_a_weights_folder_that_is_none_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    monkeypatch.delenv("STROMA_WEIGHTS", raising=False)
    assert doctor.check_weights(tmp_path).level == "ok"
    monkeypatch.setenv("STROMA_WEIGHTS", str(tmp_path / "absent"))
    assert doctor.check_weights(tmp_path).level == "FAIL"


def test_what_a_killed_run_left_is_told_apart_from_a_run_that_is_on(tmp_path: Path) -> None:
    assert doctor.check_leftovers(tmp_path).level == "ok"
    with claimed(tmp_path, "r1", wait=False, say=print):
        assert "in use by run r1" in doctor.check_leftovers(tmp_path).what
    holder = {"pid": 1, "host": "here", "run": "r2", "since": "2026-01-01T00:00:00+00:00"}
    (tmp_path / LOCK).write_text(json.dumps(holder))  # as kill -9 leaves it
    left = doctor.check_leftovers(tmp_path)
    assert left.level == "warn"
    assert "r2" in left.what


def test_a_check_that_breaks_is_a_finding_and_the_others_go_on(tmp_path: Path) -> None:
    found = list(doctor.examine(tmp_path))  # an empty folder
    assert any(one.level == "FAIL" and "could not be looked at" in one.what for one in found)
    assert any("GPU" in one.what for one in found)


def test_a_server_that_is_away_fails_and_nothing_more_is_asked_of_it(tmp_path: Path) -> None:
    with temporary_settings({PREFECT_API_URL: NOBODY}):
        assert doctor_server.check_server(tmp_path).level == "FAIL"
        assert doctor_server.NOT_ASKED in doctor_server.check_runs(tmp_path).what


@pytest.mark.usefixtures("told")
def test_a_server_that_forgets_its_leases_at_a_restart_is_warned_of(tmp_path: Path) -> None:
    assert "keeps leases in memory" in doctor_server.check_server(tmp_path).what


def test_mending_removes_a_dead_retrains_worktree_and_mends_a_cut_lock_file(tmp_path: Path) -> None:
    def git(*words: str) -> None:
        subprocess.run(["git", "-c", "user.name=a", "-c", "user.email=a@b", *words], cwd=tmp_path, check=True)

    git("init", "-q")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    git("add", "dvc.lock")
    git("commit", "-qm", "whole")
    (tmp_path / "dvc.lock").write_text("schema: '2.0'\nstages: {a:\n")
    git("worktree", "add", "-q", ".stroma/worktrees/dead")
    said = "\n".join(doctor_server.mend(tmp_path))
    assert "cut off" in said
    assert "removed the worktree dead" in said
    assert (tmp_path / "dvc.lock").read_text() == "schema: '2.0'\nstages: {}\n"
    assert not (tmp_path / ".stroma/worktrees/dead").exists()
