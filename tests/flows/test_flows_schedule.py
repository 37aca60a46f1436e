"""Which stage starts when, without Prefect and without DVC."""

from flows.graph import Node, Plan
from flows.schedule import Schedule
from flows.summary import StageOutcome, Verdict


def plan(*nodes: Node) -> Plan:
    return Plan({node.name: node for node in nodes})


DIAMOND = plan(Node("a", ()), Node("b", ("a",)), Node("c", ("a",)), Node("d", ("b", "c")), Node("alone", ()))


def schedule(graph: Plan = DIAMOND, workers: int = 2, force: bool = False, fail_fast: bool = False) -> Schedule:
    return Schedule(graph, workers, force, fail_fast)


def ended(name: str, verdict: Verdict = "ran") -> StageOutcome:
    return StageOutcome(name, verdict, 1.0, None)


def started(waves: Schedule) -> list[str]:
    return [node.name for node in waves.start()]


def test_a_stage_waits_for_its_upstream_and_not_for_its_wave() -> None:
    waves = schedule()
    assert started(waves) == ["a", "alone"]
    waves.end(ended("a"), True)
    assert started(waves) == ["b"]
    waves.end(ended("b"), True)
    assert started(waves) == ["c"]  # `alone` still runs
    waves.end(ended("alone"), True)
    assert started(waves) == []
    waves.end(ended("c"), True)
    assert started(waves) == ["d"]


def test_dvc_is_started_only_where_the_status_or_an_output_changed() -> None:
    graph = plan(Node("a", (), ("changed deps: in/a (modified)",)), Node("b", ("a",)), Node("c", ("b",)))
    waves = schedule(graph)
    assert waves.needs_dvc("a")
    assert not waves.needs_dvc("b")
    waves.end(ended("a"), True)
    assert waves.needs_dvc("b")
    waves.end(ended("b"), False)
    assert not waves.needs_dvc("c")
    assert schedule(graph, force=True).needs_dvc("c")


def test_what_is_downstream_of_a_failure_is_skipped_and_the_rest_goes_on() -> None:
    waves = schedule()
    waves.start()
    skipped = waves.end(ended("a", "failed"), False)
    assert [(one.stage, one.verdict, one.error) for one in skipped] == [
        (name, "skipped", "upstream a failed") for name in "bcd"
    ]
    waves.end(ended("alone"), True)
    assert [one.stage for one in waves.in_order()] == ["a", "b", "c", "d", "alone"]
    assert not waves.start()
    assert not waves.running


def test_fail_fast_starts_nothing_more() -> None:
    waves = schedule(workers=1, fail_fast=True)
    waves.start()
    assert {one.stage for one in waves.end(ended("a", "failed"), False)} == {"b", "c", "d", "alone"}


def test_one_gpu_stage_runs_at_a_time_and_others_pass_it() -> None:
    waves = schedule(plan(Node("g1", (), is_gpu=True), Node("g2", (), is_gpu=True), Node("cpu", ())), workers=3)
    assert started(waves) == ["g1", "cpu"]
    waves.end(ended("g1"), True)
    assert started(waves) == ["g2"]
