"""Write scikit-learn's digits (1,797 pictures of 8 x 8 pixels, public domain) as one Parquet file.

python make_data.py data
"""

import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from sklearn.datasets import load_digits


def write_digits(folder: Path) -> Path:
    """One row a picture: its 64 pixels (0 to 16) and the digit as text."""
    digits = load_digits()
    pixels = digits.images.reshape(len(digits.images), -1).astype(np.float32)
    column = pa.FixedSizeListArray.from_arrays(pa.array(pixels.reshape(-1)), pixels.shape[1])
    table = pa.table({"pixels": column, "digit": pa.array([str(digit) for digit in digits.target])})
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "digits.parquet"
    pq.write_table(table, path)
    return path


if __name__ == "__main__":
    print(write_digits(Path(sys.argv[1] if len(sys.argv) > 1 else "data")))
