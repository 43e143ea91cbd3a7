"""Which rows of a batch the sketches look at: all of small files, one of w neighbours of large ones."""

from dataclasses import dataclass

import numpy as np

from fairlead.features.hashing import mix

WHOLE_FILE_ROWS = 500_000
MAX_LEVEL = 3


@dataclass(frozen=True)
class Draw:
    """The rows of a batch that stand for all: one, drawn at random, of each 2**level neighbours; all with level 0.

    `sketches` is False where only the exact parts are wanted."""

    level: int
    rows: np.ndarray | None
    sketches: bool = True

    def of(self, values: np.ndarray) -> np.ndarray:
        """The drawn of [N]."""
        return values if self.rows is None else values[self.rows]


def draw_rows(num_rows: int, start: int, seed: int, file_rows: int | None, sketches: bool = True) -> Draw:
    """The draw of a batch that begins at row `start` of a file of `file_rows` rows (None: not known; all are taken).

    Files up to 500,000 rows are taken whole, of larger ones one row in 2, 4 or 8: reading all would cost more than it
    tells. The draw follows from the file's seed and the place of the batch, so that the same file gives the same."""
    level = 0
    while file_rows is not None and level < MAX_LEVEL and file_rows > WHOLE_FILE_ROWS << level:
        level += 1
    if not sketches or not level or num_rows % (1 << level):  # the last, odd batch of a file is taken whole
        return Draw(0, None, sketches)
    groups = np.arange(num_rows >> level, dtype=np.int64)
    offsets = mix(groups.view(np.uint64) + np.uint64(start), seed & 0xFFFFFFFF) >> np.uint64(64 - level)
    return Draw(level, (groups << level) + offsets.astype(np.int64))
