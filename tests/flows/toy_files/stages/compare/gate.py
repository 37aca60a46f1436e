"""Lets the better model through; the contract of reports/gate.json is that of the real gate."""

import json
from pathlib import Path

from stages import fail, params, write

settings, tasks = params(), {}
for task in ("binary", "subtype"):
    champion = Path(".stroma/champions") / task
    known = champion.exists()
    bar = json.loads((champion / "predictions.parquet").read_text()) if known else 0.6
    best, challengers = None, []
    for recipe in settings["retrain"]["recipes"]:
        if settings["recipes"][recipe]["task"] != task:
            continue
        score = json.loads(Path(f"models/{recipe}/model.safetensors").read_text())
        if score > 1:
            fail(f"{recipe} has the impossible quality {score}")
        decision = "pass" if score > bar else "reject"
        rule = {"rule": "quality", "source": "idc", "challenger": score, "champion": bar, "decision": decision}
        challengers.append({"recipe": recipe, "decision": decision, "reason": "quality", "rules": [rule]})
        best = recipe if decision == "pass" else best
    if challengers:
        tasks[task] = {
            "champion": json.loads((champion / "version.json").read_text()) if known else None,
            "promote": best,
            "decision": "promote" if best else "reject",
            "reason": f"{challengers[0]['rules'][0]['challenger']} against {bar}",
            "challengers": challengers,
        }
write("reports/gate.json", {"tasks": tasks})
