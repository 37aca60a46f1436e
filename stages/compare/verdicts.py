"""From rules to decisions: of each challenger, and for each task which one to promote, if any."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from stages.compare.rules import Rule

Verdict = Literal["pass", "reject", "undecided"]


@dataclass(frozen=True)
class Challenge:
    """One challenger and what came of its rules. val: its balanced accuracy there; None if it was not run."""

    recipe: str
    rules: list[Rule]
    val: float | None
    refused: str = ""
    """Why it was turned away before any rule: it was not run, or it is the champion itself."""

    @property
    def decision(self) -> Verdict:
        """reject if any rule does, else undecided if any rule is, else pass."""
        found = {rule.decision for rule in self.rules}
        if self.refused or "reject" in found:
            return "reject"
        return "undecided" if "undecided" in found else "pass"

    @property
    def reason(self) -> str:
        """The rules that decided, each with its reason."""
        if self.refused:
            return self.refused
        if self.decision == "pass":
            return "every rule passed"
        return "; ".join(f"{_name(rule)}: {rule.reason}" for rule in self.rules if rule.decision == self.decision)

    @property
    def eligible(self) -> bool:
        """Whether it may be chosen on val: it was run, and no rule without a look at test turns it away."""
        blind = [rule for rule in self.rules if rule.cases is None]
        return self.val is not None and all(rule.decision != "reject" for rule in blind)


def task_verdict(challenges: Sequence[Challenge], champion: Mapping[str, Any] | None, data: str) -> dict[str, Any]:
    """What reports/gate.json says of one task. champion: its version.json. data: mark of the data.

    The one that may be promoted is chosen on val, before the rules are looked at: to choose among those that passed
    would be to choose on test.
    """
    eligible = [one for one in challenges if one.eligible]
    chosen = max(eligible, key=lambda one: one.val or 0.0, default=None)
    if chosen is None:
        decision, reason = "reject", "; ".join(f"{one.recipe}: {one.reason}" for one in challenges)
    else:
        decision = "promote" if chosen.decision == "pass" else chosen.decision
        reason = f"{chosen.recipe}: {chosen.reason}"
        if len(eligible) > 1:
            reason += f" (best on val of {len(eligible)} challengers)"
    return {
        "champion": dict(champion) if champion else None,
        "promote": chosen.recipe if chosen and decision == "promote" else None,
        "decision": decision,
        "reason": reason + (" [demo data: nothing about cancer follows]" if data == "demo" else ""),
        "challengers": [
            {
                "recipe": one.recipe,
                "decision": one.decision,
                "reason": one.reason,
                "val_balanced_accuracy": None if one.val is None else round(one.val, 6),
                "rules": [asdict(rule) for rule in one.rules],
            }
            for one in challenges
        ],
    }


COLUMNS = ("rule", "source", "challenger", "champion", "difference", "low", "high", "margin", "cases", "decision")


def table(report: Mapping[str, Any]) -> str:
    """The whole of reports/gate.json as text for a terminal or a log."""
    lines = [f"Gate on {report['data']} data"]
    for task, verdict in report["tasks"].items():
        champion = verdict["champion"]
        against = f"{champion['name']} {champion['version']} ({champion['recipe']})" if champion else "no champion yet"
        lines += ["", f"{task}: {verdict['decision'].upper()} against {against}"]
        for one in verdict["challengers"]:
            lines.append(f"  {one['recipe']}: {one['decision']} - {one['reason']}")
            lines += [f"    {line}" for line in _grid(one["rules"])] if one["rules"] else []
    return "\n".join(lines)


def _grid(rules: Sequence[Mapping[str, Any]]) -> list[str]:
    cells = [[_cell(rule[column]) for column in COLUMNS] for rule in rules]
    widths = [max(map(len, column)) for column in zip(COLUMNS, *cells, strict=True)]
    numbers = range(2, len(COLUMNS) - 1)
    return [
        "  ".join(
            cell.rjust(width) if place in numbers else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in [COLUMNS, *cells]
    ]


def _cell(value: Any) -> str:
    if value is None:
        return "-"
    return f"{value:.3f}" if isinstance(value, float) else str(value)


def _name(rule: Rule) -> str:
    return f"{rule.rule} of {rule.source}" if rule.source else rule.rule
