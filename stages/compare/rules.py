"""The rules of the gate: what a challenger must show on each data set, and what it may cost."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from stages.compare.contenders import Contender
from stages.compare.intervals import Interval, compared, resampled
from stages.compare.measurements import Measurement, measurements, paired
from stages.compare.params import GateParams

Decision = Literal["pass", "reject", "undecided", "reported"]

TOLERANCE = 1e-9
"""Differences of shares of whole numbers: 0.98 - 1.0 is a hair below -0.02."""


@dataclass(frozen=True)
class Rule:
    """One rule with its numbers. What is unknown or does not apply is None."""

    rule: str
    source: str | None
    decision: Decision
    reason: str
    challenger: float | None = None
    champion: float | None = None
    difference: float | None = None
    low: float | None = None
    """Of the interval of the difference; of the challenger's own value where there is no champion."""
    high: float | None = None
    margin: float | None = None
    """What the difference may fall short by; the floor where there is no champion; the limit of a share or a cost."""
    cases: int | None = None
    """That bear on it: those with an image of a label that it counts."""


def source_rules(challenger: Contender, champion: Contender | None, source: str, knobs: GateParams) -> list[Rule]:
    """Every rule on the test images of one source. champion: None where there is none, or where it never saw it."""
    pair = paired(challenger, champion, source)
    cases = len(pair.cases)
    if cases < knobs.least_cases:
        reason = f"{cases} test cases that neither model met, fewer than gate.least_cases = {knobs.least_cases}"
        return [Rule("balanced_accuracy", source, "undecided", reason, margin=knobs.margin, cases=cases)]
    floor = knobs.floor.of(challenger.task)
    floors = {"balanced_accuracy": floor.balanced_accuracy, "sensitivity": floor.sensitivity}
    margins = dict.fromkeys(floors, knobs.margin) | {"worst_subtype": knobs.worst_subtype_margin}
    limits = margins if champion else floors
    # One draw for all rules: they speak of the same resampled cases.
    weights = resampled(cases, knobs.resamples, knobs.seed)
    rules = []
    for found in measurements(pair):
        limit = limits.get(found.name)
        bearing = int((found.hits.images.sum(axis=1) > 0).sum())
        rule = Rule(found.name, source, "reported", found.note, margin=limit, cases=bearing)
        if found.fault:
            rules.append(replace(rule, decision="reported" if limit is None else "undecided", reason=found.fault))
        else:
            rules.append(_held(rule, found, compared(found.hits, found.statistic, weights, knobs.confidence)))
    return rules


def missing_source(source: str) -> Rule:
    """A challenger that knows less than the champion does."""
    return Rule("sources", source, "reject", f"not trained on {source}, which the champion knows")


def validation_rules(report: Mapping[str, Any], held: Mapping[str, tuple[int, int]], most: float) -> list[Rule]:
    """Whether the data is clean. held: source -> rows in quarantine, and all rows. most: share of them allowed."""
    failed = [one["rule"] for one in report["expectations"] if one["severity"] == "critical" and not one["success"]]
    stopped = failed or ([] if report["success"] else ["the validation"])
    said = f"failed: {'; '.join(stopped)}" if stopped else "no critical expectation failed"
    rules = [Rule("validation", None, "reject" if stopped else "pass", said)]
    for source, (quarantined, rows) in sorted(held.items()):
        share = quarantined / rows
        said = f"{quarantined:,} of {rows:,} rows are in quarantine, {share:.2%}; at most {most:.2%} may be"
        verdict: Decision = "pass" if share <= most else "reject"
        rules.append(Rule("quarantined", source, verdict, said, challenger=_places(share), margin=most))
    return rules


def budget_rules(challenger: Contender, champion: Contender | None, knobs: GateParams) -> list[Rule]:
    """What the challenger costs, against the budget."""
    size = challenger.size_mb, champion.size_mb if champion else None
    latency = challenger.latency_ms, champion.latency_ms if champion else None
    return [
        _within("size_mb", *size, knobs.budget.size_mb),
        _within("latency_ms", *latency, knobs.budget.latency_ms),
    ]


def _held(rule: Rule, found: Measurement, interval: Interval) -> Rule:
    """The rule with its numbers and, where it has a limit, its decision."""
    value, *against = interval.values
    numbers: dict[str, Any] = {
        "challenger": _places(value), "low": _places(interval.low), "high": _places(interval.high),
    }  # fmt: skip
    if against:
        numbers |= {"champion": _places(against[0]), "difference": _places(interval.value)}
    decision, reason = "reported", _change(interval) if against else ""
    if rule.margin is not None:
        decision, reason = (_no_worse if against else _high_enough)(interval, rule.margin)
    said = " ".join(part for part in (reason, f"({found.note})" if found.note else "") if part)
    return replace(rule, decision=decision, reason=said, **numbers)


def _no_worse(interval: Interval, margin: float) -> tuple[Decision, str]:
    """Non-inferiority: no worse than by the margin, and surely no worse than by twice the margin."""
    if interval.value < -margin - TOLERANCE:
        return "reject", f"{_change(interval)}: more than the margin of {margin:g}"
    if interval.low < -2 * margin - TOLERANCE:
        return "reject", f"{_change(interval)}: not shown to be within twice the margin, {2 * margin:g}"
    return "pass", _change(interval)


def _high_enough(interval: Interval, floor: float) -> tuple[Decision, str]:
    said = f"{interval.value:.3f}, from {interval.low:.3f} to {interval.high:.3f}, with no champion yet"
    if interval.value < floor - TOLERANCE:
        return "reject", f"{said}: below the floor of {floor:g}"
    return "pass", f"{said}: at least the floor of {floor:g}"


def _change(interval: Interval) -> str:
    size = f"{abs(interval.value):.3f}"
    way = "no different" if interval.value == 0 else f"{size} {'better' if interval.value > 0 else 'worse'}"
    return f"{way}, from {interval.low:+.3f} to {interval.high:+.3f}"


def _within(name: str, value: float | None, champion: float | None, most: float | None) -> Rule:
    rule = Rule(name, None, "reported", "not measured", _places(value), _places(champion), margin=most)
    if value is None:
        return rule
    if most is None:
        return replace(rule, reason="no budget is set")
    if value > most:
        return replace(rule, decision="reject", reason=f"{value:.3g}, more than the budget of {most:g}")
    return replace(rule, decision="pass", reason=f"{value:.3g}, within the budget of {most:g}")


def _places(value: float | None) -> float | None:
    return None if value is None else round(value, 6)
