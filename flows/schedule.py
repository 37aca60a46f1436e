"""Which stage may start when: upstream done, a worker free, one GPU stage at a time. Knows neither Prefect nor DVC."""

from flows.graph import Node, Plan
from flows.summary import StageOutcome


class Schedule:
    """The waves of one run, moved on by each stage that ends."""

    def __init__(self, plan: Plan, workers: int, force: bool, fail_fast: bool) -> None:
        self.plan, self.workers, self.force, self.fail_fast = plan, workers, force, fail_fast
        self.waiting = dict(plan.nodes)
        self.running: dict[str, Node] = {}
        self.outcomes: dict[str, StageOutcome] = {}
        self._affected: set[str] = set()

    def start(self) -> list[Node]:
        """The stages that may start now, in the order of plain `dvc repro`; they count as running from here on."""
        started = []
        for node in list(self.waiting.values()):
            if len(self.running) == self.workers:
                break
            gpu_taken = node.is_gpu and any(other.is_gpu for other in self.running.values())
            if gpu_taken or not all(name in self.outcomes for name in node.upstream):
                continue
            started.append(node)
            self.running[node.name] = self.waiting.pop(node.name)
        return started

    def needs_dvc(self, name: str) -> bool:
        """DVC has to look: the run is forced, the status lists the stage, or an output that it reads changed since."""
        return self.force or bool(self.plan.nodes[name].changes) or name in self._affected

    def end(self, outcome: StageOutcome, outputs_changed: bool) -> list[StageOutcome]:
        """Note how a stage ended; return those that can no longer run because of it, as skipped."""
        self.running.pop(outcome.stage, None)
        self.outcomes[outcome.stage] = outcome
        if outputs_changed:
            self._affected |= {node.name for node in self.plan.nodes.values() if outcome.stage in node.upstream}
        if outcome.verdict != "failed":
            return []
        if self.fail_fast:
            return self.skip(set(self.waiting), f"{outcome.stage} failed (--fail-fast)")
        return self.skip(self.plan.downstream(outcome.stage), f"upstream {outcome.stage} failed")

    def skip(self, names: set[str], reason: str) -> list[StageOutcome]:
        """Take stages that still wait out of the run."""
        skipped = [StageOutcome(name, "skipped", 0.0, None, reason) for name in list(self.waiting) if name in names]
        for outcome in skipped:
            del self.waiting[outcome.stage]
            self.outcomes[outcome.stage] = outcome
        return skipped

    def in_order(self) -> tuple[StageOutcome, ...]:
        """The outcomes so far, in the order of plain `dvc repro`."""
        return tuple(self.outcomes[name] for name in self.plan.nodes if name in self.outcomes)
