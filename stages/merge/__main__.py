"""`python -m stages.merge`: data/raw/<source>/ -> data/manifest.parquet and data/pixels/<source>.npy."""

import gc
from pathlib import Path

from stages.contracts.door import enter
from stages.contracts.sections import Params, section
from stages.merge.params import MergeParams


def work(params: Params) -> str:
    """Ingest both sources with one pool of decoding processes; the closing sentence counts what was found."""
    settings = section(params, "merge", MergeParams)
    from stages.merge.decode import Frame
    from stages.merge.pool import Decoders

    frames = {
        "breakhis": Frame(settings.breakhis.height, settings.breakhis.width, reduces=True),
        "idc": Frame(settings.idc.height, settings.idc.width, reduces=False),
    }
    with Decoders(max(frame.height * frame.width * 3 for frame in frames.values())) as decoders:
        # After the fork: pandas and pyarrow start threads, and the decoding processes need neither.
        from stages.merge.ingest import ingest

        gc.disable()  # a million small tuples and no cycles: each of the collector's looks at them is in vain
        tallies = ingest({source: Path("data/raw") / source for source in frames}, frames, Path("data"), decoders)
    return "; ".join(str(tally) for tally in tallies)


if __name__ == "__main__":
    enter("merge", work)
