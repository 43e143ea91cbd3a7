"""Arrays of 64-bit numbers as text in JSON, to the last bit."""

import base64

import numpy as np


def pack(array: np.ndarray) -> str:
    """Base64 of the little-endian bytes."""
    return base64.b64encode(np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()).decode()


def unpack(text: str, dtype: str) -> np.ndarray:
    """What `pack` gave; `dtype` such as "f8" or "u8"."""
    return np.frombuffer(base64.b64decode(text), f"<{dtype}").astype(dtype)
