"""Parts the cases; those of the frozen table keep their part."""

import csv
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from stages import params

frozen = params()["index"]["frozen"]
kept = dict(list(csv.reader(Path(frozen).read_text().splitlines()))[1:]) if frozen else {}
cases = sorted(case for path in Path("data/raw").glob("*/cases.txt") for case in path.read_text().split())
new = [case for case in cases if case not in kept]
parts = {case: ("train", "val", "test")[place * 3 // len(new)] for place, case in enumerate(new)} | kept
Path("data/index").mkdir(parents=True, exist_ok=True)
rows = {"case_id": cases, "split": [parts[case] for case in cases]}
pq.write_table(pa.table(rows), "data/index/case.parquet")
