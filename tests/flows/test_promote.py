"""Promotion: tags come last, and a step that fails leaves no tag and no half state."""

from collections.abc import Callable
from pathlib import Path

import pytest
from toy_repository import Toy

from flows import registry
from flows.errors import FlowError
from flows.promote import Published, Target, promote, publish, rollback
from flows.worktree import worktree

NAME = "champion-binary"


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Toy:
    """A toy whose DAG has been run and committed, with a git remote and a DVC remote."""
    toy = Toy.make(tmp_path_factory.mktemp("trained"))
    toy.run("dvc", "repro", "--quiet")
    toy.commit("Trained")
    return toy


@pytest.fixture
def toy(trained: Toy, tmp_path: Path) -> Toy:
    """A copy of it with remotes of its own."""
    copy = trained.copy(tmp_path)
    copy.git("clone", "--quiet", "--bare", str(copy.path), str(tmp_path / "remote.git"))
    copy.git("remote", "add", "origin", str(tmp_path / "remote.git"))
    copy.run("dvc", "remote", "add", "--quiet", "--local", "--default", "storage", str(tmp_path / "storage"))
    return copy


def refs(toy: Toy) -> list[str]:
    """Every branch and tag, here and on the remote."""
    return [*toy.git("for-each-ref").splitlines(), *toy.git("ls-remote", "origin").splitlines()]


def publish_toy(toy: Toy, said: list[str] | None = None) -> Published:
    """Promote what the toy has at its tip, with a param changed, as a retrain does."""
    with worktree(toy.path, toy.git("rev-parse", "main"), "run") as tree:
        (tree / "splits/champion.csv").write_text("case_id,part\n")
        target, said = Target("main", "run"), [] if said is None else said
        return publish(toy.path, tree, target, {NAME: "better by 0.1"}, "Promote\n", say=said.append)


def test_a_promotion_is_one_commit_two_tags_and_the_files_in_the_remote(toy: Toy, tmp_path: Path) -> None:
    made = publish_toy(toy)
    assert [str(version) for version in made.versions] == ["champion-binary v1.0.0 (small)"]
    assert toy.tags() == ["champion-binary#prod#1", "champion-binary@v1.0.0"]
    message = toy.git("cat-file", "-p", "champion-binary#prod#1")
    assert "better by 0.1" in message
    assert "Ada <ada@localhost>" in message
    assert toy.git("rev-parse", "main") == toy.git("ls-remote", "origin", "main").split()[0] == made.commit
    assert "champion-binary@v1.0.0" in toy.git("ls-remote", "--tags", "origin")
    assert list((tmp_path / "storage").rglob("*")), "dvc push"
    assert toy.worktrees() == []
    assert toy.git("worktree", "list").count("\n") == 0


def test_gto_and_dvc_read_the_registry_as_we_do(toy: Toy) -> None:
    publish_toy(toy)
    assert "v1.0.0" in toy.run("gto", "show", f"{NAME}#prod")
    toy.run("dvc", "artifacts", "get", ".", NAME, "--rev", "v1.0.0", "--out", "../got")
    assert (toy.path.parent / "got/model.safetensors").read_text() == "0.8\n"


def hook(toy: Toy, name: str, folder: Path | None = None) -> None:
    path = (folder or toy.path / ".git") / "hooks" / name
    path.write_text("#!/bin/sh\necho broken by the test >&2\nexit 1\n")
    path.chmod(0o755)


def break_commit(toy: Toy) -> None:
    hook(toy, "prepare-commit-msg")


def break_dvc_push(toy: Toy) -> None:
    (toy.path.parent / "storage").write_text("a file where the remote should be")


def break_register(toy: Toy) -> None:
    toy.git("tag", "champion-binary@v1.0.0", "HEAD")  # a lightweight tag, which GTO does not read and cannot replace


def break_assign(toy: Toy) -> None:
    (toy.path / ".git/refs/tags").mkdir(exist_ok=True)
    (toy.path / ".git/refs/tags/champion-binary#prod#1.lock").touch()  # as a killed git leaves it


def break_git_push(toy: Toy) -> None:
    hook(toy, "pre-receive", toy.path.parent / "remote.git")


def break_remote(toy: Toy) -> None:
    toy.git("remote", "set-url", "origin", str(toy.path.parent / "gone.git"))


@pytest.mark.parametrize(
    "broken", [break_commit, break_dvc_push, break_register, break_assign, break_git_push, break_remote]
)
def test_a_step_that_fails_leaves_no_tag_and_no_half_state(toy: Toy, broken: Callable[[Toy], None]) -> None:
    origin = toy.git("remote", "get-url", "origin")
    broken(toy)
    url = toy.git("remote", "get-url", "origin")
    toy.git("remote", "set-url", "origin", origin)
    refs_before, state_before = refs(toy), toy.state()
    toy.git("remote", "set-url", "origin", url)
    with pytest.raises(FlowError) as caught:
        publish_toy(toy)
    assert "\n" not in str(caught.value)
    toy.git("remote", "set-url", "origin", origin)
    assert refs(toy) == refs_before
    assert toy.state() == state_before
    assert registry.champion(toy.path, NAME) is None
    assert toy.worktrees() == []


def test_a_dirty_working_tree_is_left_as_it_is_and_told_how_to_merge(toy: Toy) -> None:
    (toy.path / "params.yaml").write_text((toy.path / "params.yaml").read_text() + "# mine\n")
    (toy.path / "notes.txt").write_text("mine too")
    before, said = toy.state(), list[str]()
    made = publish_toy(toy, said)
    assert toy.state() == before
    assert made.branch == "retrain/run"
    assert any("uncommitted changes in params.yaml" in line and "git merge retrain/run" in line for line in said)
    assert str(registry.champion(toy.path, NAME)) == "champion-binary v1.0.0 (small)"
    toy.git("stash", "--quiet")
    toy.git("merge", "--quiet", "--ff-only", "retrain/run")


def test_a_run_in_the_working_tree_is_not_disturbed(toy: Toy) -> None:
    from flows.workspace import claimed

    before = toy.state()
    with claimed(toy.path, "mine", wait=False, say=print):
        assert publish_toy(toy).branch == "retrain/run"
    assert toy.state() == before


def test_a_branch_that_is_not_checked_out_moves_without_a_working_tree(toy: Toy) -> None:
    toy.git("checkout", "--quiet", "-b", "mine")
    before = toy.state()
    made = publish_toy(toy)
    assert toy.state() == before
    assert toy.git("rev-parse", "main") == made.commit


def test_a_commit_made_meanwhile_is_kept(toy: Toy) -> None:
    with worktree(toy.path, toy.git("rev-parse", "main"), "run") as tree:
        mine = toy.commit_empty("Mine")
        made = publish(toy.path, tree, Target("main", "run"), {NAME: "better"}, "Promote\n", say=print)
    assert toy.git("rev-parse", "main") == mine
    assert toy.git("rev-parse", "retrain/run") == made.commit


def test_a_remote_branch_that_has_moved_on_is_left_alone(toy: Toy) -> None:
    other = toy.path.parent / "other"
    toy.git("clone", "--quiet", str(toy.path.parent / "remote.git"), str(other))
    elsewhere = Toy(other)
    theirs = elsewhere.commit_empty("Theirs")
    elsewhere.git("push", "--quiet", "origin", "main")
    made = publish_toy(toy)
    listed = toy.git("ls-remote", "origin")
    assert f"{theirs}\trefs/heads/main" in listed
    assert f"{made.commit}\trefs/heads/retrain/run" in listed
    assert "refs/tags/champion-binary@v1.0.0" in listed


def test_without_remotes_a_promotion_says_so_and_stays_here(trained: Toy, tmp_path: Path) -> None:
    toy, said = trained.copy(tmp_path), list[str]()
    publish_toy(toy, said)
    assert any("no default DVC remote" in line for line in said)
    assert any("no git remote" in line for line in said)
    assert toy.tags()


@pytest.fixture
def with_two(toy: Toy) -> Toy:
    """v1.0.0 and v1.1.0 are registered, v1.1.0 is the champion."""
    publish_toy(toy)
    toy.set("recipes.small.quality", 0.9)
    toy.run("dvc", "repro", "--quiet")
    toy.commit("Trained again")
    publish_toy(toy)
    return toy


def test_a_rollback_makes_the_champion_before_champion_again(with_two: Toy) -> None:
    toy = with_two
    assert toy.champion().version == "v1.1.0"
    said: list[str] = []
    assert rollback(toy.path, NAME, None, "worse on the new scanner", said.append).version == "v1.0.0"
    assert toy.champion().version == "v1.0.0"
    assert "worse on the new scanner" in toy.git("cat-file", "-p", "champion-binary#prod#3")
    assert "champion-binary#prod#3" in toy.git("ls-remote", "--tags", "origin")
    assert "v1.0.0" in toy.run("gto", "show", f"{NAME}#prod")
    assert rollback(toy.path, NAME, None, "and back", said.append).version == "v1.1.0"
    promote(toy.path, NAME, "v1.0.0", "by hand", said.append)
    assert toy.champion().version == "v1.0.0"
    promote(toy.path, NAME, None, "the newest", said.append)
    assert toy.champion().version == "v1.1.0"
    assert toy.git("tag", "--list", f"{NAME}@*").split() == ["champion-binary@v1.0.0", "champion-binary@v1.1.0"]


def test_by_hand_a_wrong_name_or_version_is_one_line_with_what_there_is(with_two: Toy) -> None:
    path = with_two.path
    before = refs(with_two)
    for call, word in (
        (lambda: promote(path, "champion-binry", None, "why", print), "expected one of champion-binary"),
        (lambda: promote(path, NAME, "v9.0.0", "why", print), r"has no version v9\.0\.0; its versions: v1\.1\.0"),
        (lambda: promote(path, NAME, "v1.1.0", "why", print), "is the champion already"),
        (lambda: rollback(path, NAME, "v1.1.0", "why", print), "is the champion already"),
    ):
        with pytest.raises(FlowError, match=word):
            call()
    assert refs(with_two) == before


def test_a_rollback_that_cannot_be_pushed_leaves_the_champion_who_it_was(with_two: Toy) -> None:
    break_git_push(with_two)
    before = refs(with_two)
    with pytest.raises(FlowError, match="git push"):
        rollback(with_two.path, NAME, None, "why", print)
    assert refs(with_two) == before
    assert with_two.champion().version == "v1.1.0"


def test_a_version_whose_files_are_lost_does_not_become_champion(with_two: Toy) -> None:
    import shutil

    shutil.rmtree(with_two.path / ".dvc/cache")
    shutil.rmtree(with_two.path.parent / "storage")
    before = refs(with_two)
    with pytest.raises(FlowError, match="cannot be had from DVC's cache or remote"):
        rollback(with_two.path, NAME, None, "why", print)
    assert refs(with_two) == before


def test_the_only_champion_has_none_to_go_back_to(toy: Toy) -> None:
    publish_toy(toy)
    with pytest.raises(FlowError, match="none to go back to"):
        rollback(toy.path, NAME, None, "why", print)


def test_a_champions_files_come_from_the_remote_where_the_cache_is_gone(toy: Toy, tmp_path: Path) -> None:
    import json
    import shutil

    made = publish_toy(toy)
    shutil.rmtree(toy.path / ".dvc/cache")
    registry.lay_out(toy.path, made.versions[0], tmp_path / "champion", print)
    assert (tmp_path / "champion/model/model.safetensors").read_text() == "0.8\n"
    assert (tmp_path / "champion/operating.json").is_file()
    assert (tmp_path / "champion/assignment.csv").read_text().splitlines()[:2] == ["case_id,part", "idc-a,train"]
    version = json.loads((tmp_path / "champion/version.json").read_text())
    assert version == {"name": NAME, "version": "v1.0.0", "recipe": "small"}
