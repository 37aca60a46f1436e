"""What is said of a split: policy, rationale, counts of every part, and whether a case is in two of them."""

from collections.abc import Mapping
from typing import Any

import pandas as pd

from stages.contracts.index import LEAKY, PARTS, SCHEMA_VERSION, shared_cases
from stages.contracts.manifest import BENIGN, LABELS, SOURCES, SUBTYPES
from stages.contracts.sections import Protocol
from stages.index.params import IndexParams

POLICY: dict[Protocol, str] = {
    "case": "Each case is in one part, per source: a mixed-integer program keeps the shares of all images and of every "
    "stratum (BreakHis: subtype, IDC: label) near those of index.parts, and every stratum with three or more cases in "
    "all parts. The seed orders the cases before the search, which stops at index.gap.",
    "published": "The publishers' own split: IDC's case lists, the same in each fold; BreakHis's five official folds, "
    "val carved from train by case. LEAKS on BreakHis: the official folds part slides, not accession numbers.",
    "kfold": "Cross-validation by case: index.folds parts of equal size and strata, found by the program of the "
    "protocol case; fold k tests on part k and carves val, by case, from the others.",
    "image": "LEAKS by construction: images are drawn at random within each stratum, so that a case stands in several "
    "parts. Not for results; the difference to the protocol case is the price of the leak.",
}

RATIONALE: dict[Protocol, str] = {
    "case": "Images of one case share tissue and stain: a model that saw the case in train is measured on what it "
    "remembers. BreakHis slides with one accession number are taken for blocks of one specimen, hence one case.",
    "published": "Makes results comparable with those published on the same lists.",
    "kfold": "With few cases one test part says little; here every case is tested once.",
    "image": "It is what the original projects did; beside the protocol case it shows by how much that flatters.",
}

LEAK_NOTE: dict[Protocol, str] = {
    "published": ": BreakHis's official folds leak by accession number",
    "image": ": leaks by construction",
}


def metadata(
    protocol: Protocol, rows: pd.DataFrame, settings: IndexParams, validated: Mapping[str, Any]
) -> dict[str, Any]:
    """The metadata of an index file. rows: with `split` and `fold`. validated: the metadata of the validated table."""
    return {
        "schema_version": SCHEMA_VERSION,
        "protocol": protocol,
        "policy": POLICY[protocol],
        "rationale": RATIONALE[protocol],
        "seed": settings.seed,
        "counts": {
            str(fold): {
                source: {part: _size(own[own["split"] == part]) for part in PARTS}
                for source, own in of_fold.groupby("source")
            }
            for fold, of_fold in rows.groupby("fold")
        },
        "shared_cases": {str(fold): len(shared_cases(of_fold)) for fold, of_fold in rows.groupby("fold")},
        "data": validated["data"],
        "sources": validated["sources"],
    }


def split_report(
    about: Mapping[str, Any],
    rows: pd.DataFrame,
    findings: Mapping[str, Mapping[str, Any]],
    settings: IndexParams,
    frozen: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """The whole report as plain values. about: `metadata` of the index. frozen: what was kept, or None."""
    protocol: Protocol = about["protocol"]
    return {
        **{key: about[key] for key in ("schema_version", "protocol", "policy", "rationale", "seed", "data")},
        "parts": settings.parts.model_dump(),
        "gap": settings.gap,
        "node_limit": settings.node_limit,
        "leaks": protocol in LEAKY and bool(shared_cases(rows)),
        "disjointness": disjointness(rows, protocol),
        "frozen": frozen,
        "sources": {
            source: _of_source(rows[rows["source"] == source], findings[source], protocol)
            if source in findings
            else {"left_out": about["sources"][source]["reason"] or "no validated image"}
            for source in SOURCES
        },
    }


def disjointness(rows: pd.DataFrame, protocol: Protocol) -> str:
    """`0 of N cases shared between parts`, and why where it is not 0. With folds: shared in any of them."""
    shared = len(shared_cases(rows))
    note = LEAK_NOTE.get(protocol, "") if shared else ""
    return f"{shared} of {rows['case_id'].nunique()} cases shared between parts{note}"


def closing(report: Mapping[str, Any]) -> str:
    """One sentence: the sizes of the parts of each source (of the first fold), and the disjointness."""
    said = []
    for source, found in report["sources"].items():
        if "counts" not in found:
            said.append(f"{source} left out ({found['left_out']})")
            continue
        counts = found["counts"][min(found["counts"], key=int)]
        images = "/".join(f"{counts[part]['images']:,}" for part in PARTS)
        cases = "/".join(f"{counts[part]['cases']:,}" for part in PARTS)
        shares = "/".join(f"{100 * counts[part]['share']:.1f}" for part in PARTS)
        folds = f", first of {len(found['counts'])} folds" if len(found["counts"]) > 1 else ""
        limit = ", NODE LIMIT REACHED" if any(s["node_limit_reached"] for s in found["searches"].values()) else ""
        said.append(f"{source} {images} images ({shares} %) of {cases} cases in train/val/test{folds}{limit}")
    return "; ".join([*said, report["disjointness"]])


def _of_source(rows: pd.DataFrame, findings: Mapping[str, Any], protocol: Protocol) -> dict[str, Any]:
    if rows.empty:
        return {**findings, "left_out": "the publisher's lists name none of its cases"}
    return {
        **findings,
        "disjointness": disjointness(rows, protocol),
        "counts": {str(fold): _counts(of_fold) for fold, of_fold in rows.groupby("fold")},
    }


def _counts(rows: pd.DataFrame) -> dict[str, Any]:
    """part -> images, their share, cases, and the same by label, subtype and magnification. One source, one fold."""
    return {part: _of_part(rows[rows["split"] == part], len(rows)) for part in PARTS}


def _of_part(rows: pd.DataFrame, images: int) -> dict[str, Any]:
    kinds = {"label": dict(enumerate(LABELS)), "subtype": {name: name for name in SUBTYPES}}
    scales = sorted(int(scale) for scale in rows["magnification"].dropna().unique())
    kinds["magnification"] = {scale: str(scale) for scale in scales}
    return {
        **_size(rows),
        "share": round(len(rows) / images, 4),
        "benign_cases": int((rows["label"] == BENIGN).astype(bool).groupby(rows["case_id"]).all().sum()),
        **{
            column: {name: _size(rows[rows[column] == value]) for value, name in values.items()}
            for column, values in kinds.items()
            if rows[column].notna().any()
        },
    }


def _size(rows: pd.DataFrame) -> dict[str, int]:
    return {"images": len(rows), "cases": int(rows["case_id"].nunique())}
