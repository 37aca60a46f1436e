"""Assignment tables: which part a case plays, as the index room reads (`index.frozen`) and the gate takes them."""

import csv
from pathlib import Path

from flows.errors import FlowError

HEADER = ["case_id", "part"]


def of_index(path: Path) -> dict[str, str]:
    """Case -> part of an index without folds, the file that the index room wrote."""
    import pyarrow.parquet as pq

    rows = pq.read_table(path, columns=["case_id", "split"])
    return dict(zip(rows["case_id"].to_pylist(), rows["split"].to_pylist(), strict=True))


def read(path: Path) -> dict[str, str]:
    """Case -> part of a table; what is wrong in its lines, the room says. Raises FlowError where it is none."""
    try:
        rows = list(csv.reader(path.read_text(encoding="utf-8-sig").splitlines()))
        if rows[:1] == [HEADER]:
            return dict(rows[1:])  # type: ignore[arg-type]  # each a case and a part, or ValueError
    except (OSError, ValueError) as error:
        raise FlowError(f"{path} is no assignment table ({error}); expected lines of case_id,part") from None
    raise FlowError(f"{path} is no assignment table; expected the header case_id,part")


def write(parts: dict[str, str], path: Path) -> None:
    """Write a table, sorted by case."""
    lines = [HEADER, *sorted(parts.items())]
    path.write_text("".join(f"{case},{part}\n" for case, part in lines), encoding="utf-8")
