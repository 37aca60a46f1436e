"""The counts that the publishers state and their own lists confirm: what the profile `full` must bring, exactly."""

from dataclasses import dataclass


@dataclass(frozen=True)
class SubtypeCounts:
    """One BreakHis subtype: images at each magnification, slide folders, accession numbers."""

    magnification: dict[int, int]
    slides: int
    cases: int

    @property
    def images(self) -> int:
        """Images over all magnifications."""
        return sum(self.magnification.values())


IDC_IMAGES = {0: 198_738, 1: 78_786}
"""Patches by label (Kaggle, paultimothymooney/breast-histopathology-images)."""
IDC_CASES = 279

BREAKHIS_SUBTYPES = {
    "A": SubtypeCounts({40: 114, 100: 113, 200: 111, 400: 106}, slides=4, cases=2),
    "F": SubtypeCounts({40: 253, 100: 260, 200: 264, 400: 237}, slides=10, cases=7),
    "PT": SubtypeCounts({40: 109, 100: 121, 200: 108, 400: 115}, slides=3, cases=3),
    "TA": SubtypeCounts({40: 149, 100: 150, 200: 140, 400: 130}, slides=7, cases=6),
    "DC": SubtypeCounts({40: 864, 100: 903, 200: 896, 400: 788}, slides=38, cases=38),
    "LC": SubtypeCounts({40: 156, 100: 170, 200: 163, 400: 137}, slides=5, cases=4),
    "MC": SubtypeCounts({40: 205, 100: 222, 200: 196, 400: 169}, slides=9, cases=7),
    "PC": SubtypeCounts({40: 145, 100: 142, 200: 135, 400: 138}, slides=6, cases=6),
}
"""Counted in the official fold lists (mkfold.tar.gz); the home page's 652 benign at 40X contradicts its own totals."""
BREAKHIS_IMAGES = {0: 2_480, 1: 5_429}
BREAKHIS_MAGNIFICATIONS = {40: 1_995, 100: 2_081, 200: 2_013, 400: 1_820}
BREAKHIS_CASES = 70
"""Accession numbers. Three hold two subtypes each, so the subtypes' cases sum to 73."""
BREAKHIS_SLIDE_IDS = 81
"""Of 82 slide folders: 14-13412 has a folder under DC and one under LC, so the subtypes' slides sum to 82."""
