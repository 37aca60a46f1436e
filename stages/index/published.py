"""The publishers' own splits: IDC's case lists and BreakHis's five official folds, vendored beside this file.

IDC: choosehappy/public @173c74fb, `DL tutorial Code/6-idc/cases_{train,val,test}.txt`, used by Janowczyk 2016.
BreakHis: `dsfold1..5.txt` of mkfold.tar.gz (sha256 db7e2f16...69ae27); one line per slide, as each fold keeps it whole.
Year and number are the case; a slide is not, which is why these folds leak.
"""

from pathlib import Path

import pandas as pd

from stages.contracts.index import read_assignment

IDC_LISTS = Path(__file__).with_name("published_idc.csv")
BREAKHIS_FOLDS = Path(__file__).with_name("published_breakhis.csv")
FOLDS = 5


def idc_parts() -> dict[str, str]:
    """case_id -> train | val | test: 84, 29 and 49 cases, some of which the release does not hold."""
    return read_assignment(IDC_LISTS)


def breakhis_folds() -> pd.DataFrame:
    """One row per slide folder (82): slide_id, subtype, fold1..fold5, each train or test.

    The subtype is part of the key: slide 14-13412 was published under two, on different sides in two folds.
    """
    return pd.read_csv(BREAKHIS_FOLDS, dtype="str")
