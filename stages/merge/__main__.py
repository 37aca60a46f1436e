"""`python -m stages.merge`: data/raw/<source>/ -> data/manifest.parquet and data/pixels/<source>.npy."""

from pathlib import Path

from stages.contracts.door import enter
from stages.contracts.sections import Params, section
from stages.merge.params import MergeParams


def work(params: Params) -> str:
    """Ingest both sources with one pool of decoding processes; the closing sentence counts what was found."""
    settings = section(params, "merge", MergeParams)
    from stages.contracts.manifest import SOURCES
    from stages.merge.ingest import ingest
    from stages.merge.pool import decoders

    stores = {source: (size.height, size.width) for source, size in settings}
    with decoders() as pool:
        tallies = ingest({source: Path("data/raw") / source for source in SOURCES}, stores, Path("data"), pool)
    return "; ".join(str(tally) for tally in tallies)


if __name__ == "__main__":
    enter("merge", work)
