"""What an image looks like in a few numbers, from the manifest alone: colour, stain, texture, size."""

import numpy as np
import pandas as pd

STAINS = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]])
"""Optical density of red, green and blue that one unit of hematoxylin, eosin and residual adds (Ruifrok & Johnston,
Anal Quant Cytol Histol 2001)."""

MEASURES = ("mean_r", "mean_g", "mean_b", "std_r", "std_g", "std_b", "blank", "blur")
"""Columns of the manifest."""


def appearance(rows: pd.DataFrame) -> pd.DataFrame:
    """The features of manifest or index rows that have pixels, in their order.

    Numbers, and as text `size` (width x height) and `magnification` ("none" where the publisher names none). The
    amounts of stain are those of the mean colour: pixels need not be read again, and it is batches that are compared.
    """
    found = rows[list(MEASURES)].astype("float64").reset_index(drop=True)
    density = -np.log((found[["mean_r", "mean_g", "mean_b"]].to_numpy() + 0.5) / 255.5)
    amounts = density @ np.linalg.inv(STAINS)
    found["hematoxylin"], found["eosin"] = amounts[:, 0], amounts[:, 1]
    found["size"] = [f"{width}x{height}" for width, height in zip(rows["width"], rows["height"], strict=True)]
    found["magnification"] = [
        "none" if pd.isna(value) else f"{value}X" for value in rows["magnification"].astype(object)
    ]
    return found
