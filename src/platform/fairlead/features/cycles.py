"""Calendar parts on a circle: the sine and cosine of a part's place in its period."""

import math
from functools import cache

import numpy as np

from fairlead.features.instants import PART_SIZES


@cache
def circle(part: str) -> np.ndarray:
    """float32 [number of indices, 2]: sine and cosine for each index of a calendar part. Index 0, missing, is the
    circle's centre (0, 0), as far from every hour as from any other; index i is at (i - 1) of the period.

    The period is the number of values that the part can have: 24 hours, 7 days of the week, 31 days of a month, 366
    days of a year. Rounded to float32, so that the C library's last bit does not show; a test compares exact values.
    """
    size = PART_SIZES[part]
    turns = [2.0 * math.pi * i / size for i in range(size)]
    return np.array([(0.0, 0.0), *((math.sin(turn), math.cos(turn)) for turn in turns)], np.float32)
