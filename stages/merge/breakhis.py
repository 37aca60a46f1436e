"""BreakHis's member names: `<class>/SOB/<subtype>/<slide>/<magnification>X/SOB_B_A-14-22549AB-100-001.png`."""

import re

from stages.contracts.manifest import BENIGN, BENIGN_SUBTYPES, MALIGNANT
from stages.merge.names import Name, disagreement

LAYOUT = (
    "[BreaKHis_v1/histology_slides/breast/]benign/SOB/adenosis/SOB_B_A_14-22549AB/100X/SOB_B_A-14-22549AB-100-001.png"
)
"""An example, for messages."""

GRAMMAR = re.compile(
    r"SOB_([BM])_(A|F|PT|TA|DC|LC|MC|PC)-([0-9]{2})-([0-9]{1,9})([A-Z]{0,2})-(40|100|200|400)-([0-9]{3})\.png", re.ASCII
)

PATTERN = "SOB_<B|M>_<subtype>-<year>-<number><letters>-<magnification>-<nnn>.png"

SUBTYPE_FOLDERS = {
    "A": "adenosis",
    "F": "fibroadenoma",
    "PT": "phyllodes_tumor",
    "TA": "tubular_adenoma",
    "DC": "ductal_carcinoma",
    "LC": "lobular_carcinoma",
    "MC": "mucinous_carcinoma",
    "PC": "papillary_carcinoma",
}


def parse(member: str) -> Name:
    """What the path of a member says.

    The case is the accession number, year-number without the letters: 22549AB and 22549CD are blocks of one specimen,
    and a split that parts them leaks (27-39 % of the official folds' test images).
    """
    *folders, file = member.split("/")
    found = GRAMMAR.fullmatch(file)
    if found is None:
        return Name(file, error=f"name does not match {PATTERN}")
    tumour, subtype, year, number, letters, magnification, _ = found.groups()
    side = "benign" if tumour == "B" else "malignant"
    slide = f"{year}-{number}{letters}"
    expected = (side, "SOB", SUBTYPE_FOLDERS[subtype], f"SOB_{tumour}_{subtype}_{slide}", f"{magnification}X")
    error = disagreement(folders, expected)
    if (subtype in BENIGN_SUBTYPES) != (tumour == "B"):
        error = f"name contradicts itself: {subtype} is no {side} subtype"
    return Name(
        image=file[:-4],
        matched=True,
        case_id=f"breakhis-{year}-{number}",
        slide_id=slide,
        label=BENIGN if tumour == "B" else MALIGNANT,
        subtype=subtype,
        magnification=int(magnification),
        error=error,
    )
