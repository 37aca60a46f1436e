"""The door: `python -m stages.download idc|breakhis`."""

from stages.contracts.door import enter
from stages.contracts.sections import Params


def work(params: Params, source: str) -> str:
    """Lay out data/raw/<source>/ as the profile says; returns what was laid out."""
    from stages.download.place import place

    return place(params, source)


if __name__ == "__main__":
    enter("download", work, argument="source")
