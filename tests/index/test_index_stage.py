"""The stage as DVC runs it, its params, and the tables that freeze a split."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from index_rows import SETTINGS, completed, drawn_breakhis, drawn_idc, write_validated

from stages.contracts.errors import StageError
from stages.contracts.files import read_json, sha256_of
from stages.contracts.index import assignment, index_path, read_assignment, read_index, write_assignment, write_index
from stages.contracts.sections import section
from stages.index.__main__ import work
from stages.index.params import IndexParams, Protocols

ROOT = Path(__file__).parents[2]


@pytest.fixture
def workspace(tmp_path, monkeypatch) -> Path:
    """A folder with validated rows of both sources, as the current folder."""
    monkeypatch.chdir(tmp_path)
    write_validated(completed(drawn_breakhis() + drawn_idc()), tmp_path / "data/validated.parquet")
    return tmp_path


def params(**changed: object) -> dict:
    return {"threads": 1, "index": SETTINGS.model_dump() | changed}


def test_the_stage_leaves_the_same_bytes_under_another_hash_seed_and_thread_count(workspace) -> None:
    hashes = []
    for threads in ("1", "4"):
        (workspace / "params.yaml").write_text(yaml.safe_dump(params() | {"threads": int(threads)}))
        env = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONHASHSEED": threads, "OMP_NUM_THREADS": threads}
        done = subprocess.run(
            [sys.executable, "-m", "stages.index", "case"], env=env, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "0 of 60 cases shared between parts" in done.stdout.splitlines()[-1]
        hashes.append([sha256_of(index_path("case")), sha256_of(Path("reports/split/case.json"))])
    assert hashes[0] == hashes[1]


def test_the_index_carries_what_later_rooms_need_to_know(workspace) -> None:
    work(params(), "case")
    frame, metadata = read_index(index_path("case"))
    assert len(frame) == len(completed(drawn_breakhis() + drawn_idc()))
    assert metadata["data"] == "demo"
    assert metadata["sources"]["idc"]["sha256"] == "0" * 64
    assert metadata["seed"] == SETTINGS.seed
    assert {"schema_version", "protocol", "policy", "rationale", "counts", "shared_cases"} <= set(metadata)


def test_a_frozen_table_is_kept_and_its_use_reported(workspace) -> None:
    work(params(), "case")
    before = assignment(read_index(index_path("case"))[0])
    write_assignment(before | {"idc-gone": "test"}, Path("splits/first.csv"))
    write_validated(completed(drawn_breakhis(48) + drawn_idc(24)), workspace / "data/validated.parquet")
    work(params(seed=99, frozen="splits/first.csv"), "case")
    after = assignment(read_index(index_path("case"))[0])
    assert before.items() <= after.items()
    assert len(after) == 72
    frozen = read_json(Path("reports/split/case.json"))["frozen"]
    assert frozen["absent"] == ["idc-gone"]
    assert frozen["cases"] == 61


def test_a_case_in_two_parts_is_refused_when_written_and_when_read(workspace) -> None:
    work(params(), "image")
    frame, metadata = read_index(index_path("image"))
    with pytest.raises(StageError, match=r"cases are in two parts of fold 0 .* 0 may be"):
        write_index(frame, metadata | {"protocol": "case"}, index_path("case"))


def test_an_unknown_protocol_names_the_nearest(workspace) -> None:
    with pytest.raises(StageError, match="did you mean 'kfold'"):
        work(params(), "kfolds")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("case,part\nidc-1,train\n", "line 1: expected the header case_id,part, found 'case,part'"),
        ("", "line 1: expected the header"),
        ("case_id,part\nidc-1,train\nidc-2,dev\n", "line 3: part 'dev' of case idc-2 is not one of train, val, test"),
        ("case_id,part\nidc-1,train\nidc-1,test\n", "line 3: case idc-1 stands in the table twice"),
        ("case_id,part\nidc-1\n", "line 2: expected case_id,part, found 'idc-1'"),
        ("case_id,part\n,test\n", "line 2: expected case_id,part, found ',test'"),
    ],
)
def test_a_faulty_assignment_table_is_refused_by_line(tmp_path, text: str, said: str) -> None:
    (tmp_path / "table.csv").write_text(text)
    with pytest.raises(StageError) as error:
        read_assignment(tmp_path / "table.csv")
    assert said in str(error.value)


def test_a_missing_assignment_table_is_named(tmp_path) -> None:
    with pytest.raises(StageError, match=r"table\.csv is missing"):
        read_assignment(tmp_path / "table.csv")


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"parts": {"train": 0.7, "val": 0.2, "test": 0.2}}, "the shares must sum to 1"),
        ({"parts": {"train": 1.1, "val": -0.2, "test": 0.1}}, "parts.val = -0.2"),
        ({"gap": 0}, "index.gap = 0"),
        ({"folds": 2}, "index.folds = 2"),
        ({"node_limit": 0}, "index.node_limit = 0"),
        ({"frozen": "/elsewhere/table.csv"}, "must be null or a table in splits/"),
        ({"frozen": "splits/../table.csv"}, "must be null or a table in splits/"),
        ({"sed": 1}, "did you mean 'seed'"),
    ],
)
def test_an_impossible_param_is_refused_with_its_key(changed: dict, said: str) -> None:
    with pytest.raises(StageError) as error:
        section(params(**changed), "index", IndexParams)
    assert said in str(error.value)


@pytest.mark.parametrize(("value", "said"), [([], "at least 1"), (["case", "case"], "more than once")])
def test_protocols_are_named_once_each(value: list[str], said: str) -> None:
    with pytest.raises(StageError) as error:
        section({"protocols": value}, "protocols", Protocols)
    assert said in str(error.value)


def test_the_room_keeps_to_the_watched_folder() -> None:
    stage = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]["index"]["do"]
    assert "splits" in stage["deps"]
    assert (ROOT / "splits").is_dir()
