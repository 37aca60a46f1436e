"""One run at a time in a workspace, and what a killed run left half written is mended."""

import json
import os
import subprocess
import threading
import time
from pathlib import Path

import pytest
import toy

from flows import dvclock
from flows.errors import FlowError
from flows.graph import read_plan
from flows.workspace import LOCK, RWLOCK, claimed, holder_of, mend

CHAIN = {"a": toy.stage("a", ["in/a"]), "b": toy.stage("b", ["out/a"])}


@pytest.fixture
def chain(tmp_path: Path) -> Path:
    return toy.make(tmp_path / "chain", CHAIN)


def never(sentence: str) -> None:
    raise AssertionError(sentence)


def test_the_lock_says_who_holds_the_workspace_and_nobody_afterwards(tmp_path: Path) -> None:
    with claimed(tmp_path, "run-1", False, never):
        holder = holder_of(tmp_path)
        assert holder is not None
        assert set(holder) == {"pid", "host", "run", "since"}
        assert (holder["pid"], holder["run"]) == (os.getpid(), "run-1")
    assert holder_of(tmp_path) is None


def test_a_second_run_is_refused_with_the_name_of_the_first(tmp_path: Path) -> None:
    refused = pytest.raises(
        FlowError, match=rf"taken by run run-1 \(pid {os.getpid()} on .*, since 20.*; run again when it has ended"
    )
    with claimed(tmp_path, "run-1", False, never), refused, claimed(tmp_path, "run-2", False, never):
        pass


def test_a_second_run_waits_and_says_for_whom(tmp_path: Path) -> None:
    said: list[str] = []
    order: list[str] = []

    def second() -> None:
        with claimed(tmp_path, "run-2", True, said.append):
            order.append("second")

    thread = threading.Thread(target=second)
    with claimed(tmp_path, "run-1", False, never):
        thread.start()
        while not said:
            time.sleep(0.01)
        order.append("first")
    thread.join(10)
    assert order == ["first", "second"]
    assert "run-1" in said[0]


def test_a_killed_run_does_not_keep_the_workspace(tmp_path: Path) -> None:
    holder = (
        "import fcntl, sys, time; file = open(sys.argv[1], 'a+'); fcntl.flock(file, fcntl.LOCK_EX);"
        "file.write('{\"pid\": 1'); file.flush(); print('held', flush=True); time.sleep(60)"
    )
    (tmp_path / LOCK).parent.mkdir()
    process = subprocess.Popen(["python3", "-c", holder, tmp_path / LOCK], stdout=subprocess.PIPE)
    assert process.stdout is not None
    process.stdout.readline()
    with pytest.raises(FlowError, match="taken by another run"), claimed(tmp_path, "run-2", False, never):
        pass
    process.kill()
    process.wait()
    with claimed(tmp_path, "run-2", False, never):
        pass


def test_a_whole_workspace_needs_no_mending(chain: Path) -> None:
    toy.dvc(chain, "repro")
    before = (chain / "dvc.lock").read_bytes()
    assert mend(chain) == []
    assert (chain / "dvc.lock").read_bytes() == before


@pytest.mark.parametrize("share", [0.0, 0.45, 0.9])
def test_a_cut_lock_file_is_taken_from_git(chain: Path, share: float) -> None:
    toy.dvc(chain, "repro")
    toy.commit(chain, "ran")
    whole = (chain / "dvc.lock").read_bytes()
    (chain / "dvc.lock").write_bytes(whole[: int(len(whole) * share)])
    (sentence,) = mend(chain)
    assert "dvc.lock was cut off" in sentence
    assert "last commit" in sentence
    assert (chain / "dvc.lock").read_bytes() == whole


def test_a_cut_lock_file_that_git_does_not_know_is_removed_and_the_run_cache_restores(chain: Path) -> None:
    toy.dvc(chain, "repro")
    whole = (chain / "dvc.lock").read_bytes()
    (chain / "dvc.lock").write_bytes(whole[: len(whole) // 2])
    (sentence,) = mend(chain)
    assert "git has none" in sentence
    toy.ran(chain)
    toy.dvc(chain, "repro")
    assert toy.ran(chain) == []
    assert (chain / "dvc.lock").read_bytes() == whole


def test_a_merge_conflict_is_left_to_a_person(chain: Path) -> None:
    toy.dvc(chain, "repro")
    conflict = "<<<<<<< ours\n" + (chain / "dvc.lock").read_text()
    (chain / "dvc.lock").write_text(conflict)
    with pytest.raises(FlowError, match="merge conflict"):
        mend(chain)
    assert (chain / "dvc.lock").read_text() == conflict


@pytest.mark.parametrize("text", ["", '{"write": {"/x": {"pid": 1', "[]"])
def test_a_cut_rwlock_is_removed(chain: Path, text: str) -> None:
    toy.dvc(chain, "status")
    (chain / RWLOCK).write_text(text)
    toy.dvc(chain, "status", status=1)
    (sentence,) = mend(chain)
    assert "rwlock" in sentence
    toy.dvc(chain, "status")


def entry(pid: int, chain: Path) -> str:
    return json.dumps({"write": {str(chain / "out/a"): {"pid": pid, "cmd": "dvc repro"}}, "read": {}})


def test_an_entry_of_a_process_that_is_gone_or_whose_number_was_given_again_is_removed(chain: Path) -> None:
    toy.dvc(chain, "status")
    rwlock = chain / RWLOCK
    rwlock.write_text(entry(os.getpid(), chain))
    long_ago = time.time() - 10 * 365 * 86400  # before this process started: it only has the number
    os.utime(rwlock, (long_ago, long_ago))
    toy.dvc(chain, "repro", status=255)
    os.utime(rwlock, (long_ago, long_ago))
    (sentence,) = mend(chain)
    assert str(os.getpid()) in sentence
    toy.dvc(chain, "repro")


def test_an_entry_of_a_living_process_is_left_alone(chain: Path) -> None:
    toy.dvc(chain, "status")
    (chain / RWLOCK).write_text(entry(os.getpid(), chain))
    assert mend(chain) == []
    assert (chain / RWLOCK).exists()


def test_the_order_of_a_run_that_was_killed_is_put_right_by_the_next(chain: Path) -> None:
    plan = read_plan(chain)
    (chain / ".stroma").mkdir(exist_ok=True)
    dvclock.before_run(chain, plan)  # the killed run: nothing in dvc.lock before it
    toy.dvc(chain, "repro")
    right = (chain / "dvc.lock").read_bytes()
    head, a, b = right.decode().partition("  a:")[0], right.decode().partition("  a:")[2], ""
    a, b = a.split("  b:")
    (chain / "dvc.lock").write_text(f"{head}  b:{b}  a:{a}")
    dvclock.before_run(chain, plan)  # the next run
    dvclock.restore_order(chain, plan)
    assert (chain / "dvc.lock").read_bytes() == right
    assert not (chain / dvclock.PENDING).exists()
