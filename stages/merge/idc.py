"""IDC's member names: `<case>/<class>/<case>_idx5_x<X>_y<Y>_class<class>.png`."""

import re

from stages.merge.names import Name, disagreement

LAYOUT = "[IDC_regular_ps50_idx5/]8863/0/8863_idx5_x1001_y1001_class0.png"
"""An example, for messages."""

# Digits are bounded so that every match fits the manifest's int32.
GRAMMAR = re.compile(r"([0-9]{1,9})_idx5_x([0-9]{1,6})_y([0-9]{1,6})_class([01])\.png", re.ASCII)


def parse(member: str) -> Name:
    """What the path of a member says. The case is the directory's number: the release names no patients."""
    *folders, file = member.split("/")
    found = GRAMMAR.fullmatch(file)
    if found is None:
        return Name(file, error="name does not match <case>_idx5_x<X>_y<Y>_class<0|1>.png")
    case, x, y, label = found.groups()
    return Name(
        image=file[:-4],
        matched=True,
        case_id=f"idc-{case}",
        label=int(label),
        x=int(x),
        y=int(y),
        # The common case first: this runs 555,048 times on the Kaggle archive.
        error=None if folders[-2:] == [case, label] else disagreement(folders, (case, label)),
    )
