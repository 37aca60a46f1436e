"""Parts the manifest's rows into those that go on and those held back, each of these with its reason."""

from collections.abc import Iterable

import pandas as pd

from stages.validate.gate import Outcome

SHOWN = 5
"""So many images of a set of equals are named in a reason; a thousand equal images would name a million."""


def row_reasons(frame: pd.DataFrame, outcomes: Iterable[Outcome]) -> pd.Series:
    """Why each row that broke a rule is held back: the first rule that it broke, and the values that broke it.

    frame: rows of the suite that was checked, in its order, under any index. Returns str reasons under that index,
    only of the rows held back. Duplicates are not told here: which of them to keep, a rule about rows cannot say.
    """
    reasons: dict[object, str] = {}
    for outcome in outcomes:
        if outcome.reason in (None, "duplicate_of"):
            continue
        columns = _columns(outcome)
        broken = frame.iloc[list(outcome.rows)][columns]
        for label, values in zip(broken.index, broken.to_numpy(dtype=object), strict=True):
            reasons.setdefault(label, _reason(str(outcome.reason), columns, values))
    return pd.Series(reasons, dtype="str")


def duplicate_reasons(frame: pd.DataFrame) -> pd.Series:
    """Why rows of pixel-equal images are held back.

    frame: the rows that no other rule holds back. In each set of equal `pixel_sha256`, the first image by source and
    image_id is kept and the others are `duplicate_of` it; where label or subtype differ inside the set, nobody can
    say which is right, and all of them are a `label_conflict`. Returns str reasons under the frame's index.
    """
    doubled = frame[frame["pixel_sha256"].notna() & frame.duplicated("pixel_sha256", keep=False)]
    reasons: dict[object, str] = {}
    for _, equals in doubled.sort_values(["source", "image_id"]).groupby("pixel_sha256", sort=False):
        ids = list(equals["image_id"])
        if len(equals[["label", "subtype"]].drop_duplicates()) > 1:
            for label, own in zip(equals.index, ids, strict=True):
                reasons[label] = f"label_conflict: {_listed([other for other in ids if other != own])}"
        else:
            reasons |= dict.fromkeys(equals.index[1:], f"duplicate_of: {ids[0]}")
    return pd.Series(reasons, dtype="str")


def part(frame: pd.DataFrame, reasons: pd.Series) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Rows that go on, and rows held back with their `reason`. Every row is in exactly one of the two."""
    held = frame.index.isin(reasons.index)
    validated, quarantined = frame[~held], frame[held].assign(reason=reasons)
    assert len(validated) + len(quarantined) == len(frame)  # noqa: S101
    assert quarantined["reason"].notna().all()  # noqa: S101
    return validated.reset_index(drop=True), quarantined.reset_index(drop=True)


def counted(reasons: pd.Series) -> dict[str, int]:
    """How many rows each kind of reason holds back, the commonest first."""
    kinds = reasons.str.split(":").str[0].value_counts()
    return {str(kind): int(number) for kind, number in sorted(kinds.items(), key=lambda one: (-one[1], one[0]))}


def _columns(outcome: Outcome) -> list[str]:
    rule = outcome.rule
    names = (getattr(rule, name, None) for name in ("column", "column_A", "column_B"))
    return [name for name in names if name is not None]


def _reason(kind: str, columns: list[str], values: Iterable[object]) -> str:
    if columns == [kind]:  # decode_error: its text is the reason; blank, blur, mode: the value says enough
        return f"{kind}: {_shown(next(iter(values)))}"
    return f"{kind}: " + " ".join(f"{name}={_shown(value)}" for name, value in zip(columns, values, strict=True))


def _shown(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def _listed(ids: list[str]) -> str:
    more = f" and {len(ids) - SHOWN} more" if len(ids) > SHOWN else ""
    return " ".join(ids[:SHOWN]) + more
