"""A small repository with the shape of Stroma: real git, real DVC, real registry; its rooms are tiny scripts."""

import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import yaml

from flows import registry
from flows.registry import Version
from flows.retrain import Outcome, retrain
from flows.settings import set_value

ROOT = Path(__file__).resolve().parents[2]
TOY = Path(__file__).with_name("toy_files")
IDENTITY = {"user.name": "Ada", "user.email": "ada@localhost"}


@dataclass(frozen=True)
class Toy:
    """The checkout at `path`; the given archive lies beside it in cases.txt."""

    path: Path

    @classmethod
    def make(cls, folder: Path) -> "Toy":
        toy = cls(folder / "repository")
        shutil.copytree(TOY, toy.path)
        for name, real in (("pipeline.yaml", "dvc.yaml"), ("gitignore", ".gitignore")):
            (toy.path / name).rename(toy.path / real)
        toy.give("abcdefghi")
        toy.git("init", "--quiet", "--initial-branch", "main")
        for key, value in IDENTITY.items():
            toy.git("config", key, value)
        toy.run("dvc", "init", "--quiet")
        (toy.path / ".dvcignore").write_text("__pycache__/\n.stroma/\n")
        toy.commit("The toy")
        return toy

    def copy(self, folder: Path) -> "Toy":
        """The same repository in another folder."""
        shutil.copytree(self.path, folder / "repository", symlinks=True)
        shutil.copyfile(self.path.parent / "cases.txt", folder / "cases.txt")
        return Toy(folder / "repository")

    def give(self, cases: str) -> None:
        """Make the given archive hold these cases, a letter each."""
        (self.path.parent / "cases.txt").write_text("".join(f"idc-{case}\n" for case in cases))

    def git(self, *words: str) -> str:
        return self.run("git", *words)

    def run(self, *command: str) -> str:
        environment = os.environ | {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
        done = subprocess.run(command, cwd=self.path, env=environment, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout.removesuffix("\n")

    def commit(self, message: str) -> str:
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)
        return self.git("rev-parse", "HEAD")

    def commit_empty(self, message: str) -> str:
        identity = [word for key, value in IDENTITY.items() for word in ("-c", f"{key}={value}")]
        self.git(*identity, "commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD")

    def set(self, key: str, value: object, file: str = "params.yaml") -> None:
        """Set a param and commit it."""
        set_value(self.path / file, key, str(value))
        self.commit(f"{key}: {value}")

    def retrain(self, **options: object) -> Outcome:
        return retrain(str(self.path), workers=2, **options)

    def champion(self, name: str = "champion-binary") -> Version | None:
        return registry.champion(self.path, name)

    def tags(self) -> list[str]:
        return self.git("tag").split()

    def state(self) -> dict[str, bytes]:
        """Every file of the working tree that git may know, and what git says of them."""
        named = self.git("ls-files", "--cached", "--others", "--exclude-standard", "-z").split("\0")
        files = {name: (self.path / name).read_bytes() for name in filter(None, named) if (self.path / name).exists()}
        return files | {"": self.git("status", "--porcelain").encode(), "HEAD": self.git("rev-parse", "HEAD").encode()}

    def params(self) -> dict:
        return yaml.safe_load((self.path / "params.yaml").read_text())

    def worktrees(self) -> list[str]:
        return [path.name for path in (self.path / ".stroma/worktrees").glob("*")]


def events(pattern: str) -> list[str]:
    """The names of the events that the server knows under a prefix, waited for: they are sent in the background."""
    from prefect.client.orchestration import get_client

    asked = {"filter": {"event": {"prefix": [pattern.removesuffix("*")]}}}
    end = time.monotonic() + 15
    while True:
        with get_client(sync_client=True) as client:
            found = client._client.post("/events/filter", json=asked).json()["events"]
        if found and time.monotonic() > end - 12:  # the last one may be on its way
            return [event["event"] for event in found]
        if time.monotonic() > end:
            return []
        time.sleep(0.5)
