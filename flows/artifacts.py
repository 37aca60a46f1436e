"""What the UI shows of a run besides its tasks."""

from logging import Logger
from pathlib import Path

from flows.summary import Summary


class Board:
    def __init__(self, total: int, logger: Logger) -> None:
        self.is_away = False

    def progress(self, done: int) -> None: ...
    def publish(self, summary: Summary, workspace: Path) -> None: ...
