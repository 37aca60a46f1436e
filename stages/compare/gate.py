"""`python -m stages.compare.gate`: hold the challengers against the champions; write reports/gate.json.

Exits with 0 whenever a decision was reached, whichever it is: that a challenger is turned away is no error.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.compare.params import GateParams, Retrain
from stages.contracts.door import enter
from stages.contracts.errors import StageError
from stages.contracts.sections import Params, section

if TYPE_CHECKING:
    from stages.compare.contenders import Contender
    from stages.compare.rules import Rule
    from stages.compare.verdicts import Challenge
    from stages.contracts.champion import Champion
    from stages.contracts.modelfolder import ModelRecord, Skipped

GATE, VALIDATION = Path("reports/gate.json"), Path("reports/validation.json")


def work(params: Params) -> str:
    """Judge every challenger of `retrain.recipes`; say what is decided of each task."""
    from stages.compare.verdicts import table, task_verdict
    from stages.contracts.champion import TASKS, read_champion
    from stages.contracts.files import read_json, write_json
    from stages.contracts.modelfolder import model_folder, read_record

    knobs, recipes = section(params, "gate", GateParams), section(params, "retrain", Retrain).recipes
    if mixed := sorted(set(recipes) & set(section(params, "ensembles", dict[str, Any]))):
        raise StageError(
            f"params.yaml: retrain.recipes names {mixed[0]}, an ensemble; a champion is one model, so name recipes"
        )
    records = {recipe: read_record(model_folder(recipe)) for recipe in recipes}
    validation = read_json(VALIDATION)
    tasks: dict[str, Any] = {}
    for task in TASKS:
        of_task = {recipe: record for recipe, record in records.items() if record.settings["task"] == task}
        if of_task:
            champion = read_champion(task)
            found = challenges(of_task, champion, knobs, validation)
            tasks[task] = task_verdict(found, champion.version if champion else None, validation["data"])
    report = {"data": validation["data"], "settings": knobs.model_dump(mode="json"), "tasks": tasks}
    write_json(report, GATE)
    print(table(report))
    return "; ".join(f"{task}: {verdict['decision']}" for task, verdict in tasks.items())


def challenges(
    records: "Mapping[str, ModelRecord | Skipped]",
    champion: "Champion | None",
    knobs: GateParams,
    validation: Mapping[str, Any],
) -> "list[Challenge]":
    """Every challenger of one task with its rules, in the order of `records` (recipe -> its record)."""
    from stages.compare.contenders import challenger, reigning
    from stages.compare.measurements import val_balanced_accuracy
    from stages.compare.verdicts import Challenge
    from stages.contracts.modelfolder import ModelRecord

    ran = {name: challenger(name, record) for name, record in records.items() if isinstance(record, ModelRecord)}
    reign = reigning(champion) if champion else None
    shared = _shared_sources(list(ran.values()))
    found = []
    for name, record in records.items():
        if not isinstance(record, ModelRecord):
            found.append(Challenge(name, [], None, f"not run: {record.reason}"))
            continue
        val = sum(val_balanced_accuracy(ran[name], source) for source in shared) / len(shared)
        if reign and reign.sha256 == ran[name].sha256:
            found.append(Challenge(name, [], val, f"unchanged: the very weights of {reign.name}"))
        else:
            found.append(Challenge(name, _rules(ran[name], reign, knobs, validation), val))
    return found


def _rules(
    challenger: "Contender", champion: "Contender | None", knobs: GateParams, validation: Mapping[str, Any]
) -> "list[Rule]":
    from stages.compare.rules import budget_rules, missing_source, source_rules, validation_rules

    own = sorted(challenger.record.sources)
    known = sorted(champion.record.sources) if champion else []
    rules = validation_rules(validation, _held_back(own), knobs.max_quarantined)
    rules += [missing_source(source) for source in known if source not in own]
    for source in own:
        rules += source_rules(challenger, champion if source in known else None, source, knobs)
    return [*rules, *budget_rules(challenger, champion, knobs)]


def _held_back(sources: list[str]) -> dict[str, tuple[int, int]]:
    """Source -> rows in quarantine, and all rows. Not those of validation.json, in whose sum IDC drowns BreakHis."""
    from stages.contracts.tables import read_table

    good, bad = (
        read_table(Path(f"data/{name}.parquet"), ["source"])["source"].value_counts()
        for name in ("validated", "quarantine")
    )
    return {one: (int(bad.get(one, 0)), int(bad.get(one, 0) + good.get(one, 0))) for one in sources}


def _shared_sources(ran: "Sequence[Contender]") -> list[str]:
    """The data sets on which all challengers can be set side by side on val."""
    shared = set.intersection(*(set(one.record.sources) for one in ran)) if ran else set()
    if ran and not shared:
        named = ", ".join(f"{one.name} ({'+'.join(one.record.sources)})" for one in ran)
        raise StageError(f"params.yaml: retrain.recipes {named} share no data set to choose by; name fewer of them")
    return sorted(shared)


if __name__ == "__main__":
    enter("compare.gate", work)
