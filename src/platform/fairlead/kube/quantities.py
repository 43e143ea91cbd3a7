"""Kubernetes' amounts: ``500m``, ``4Gi``, ``2``."""

import re

_SCALE = {
    "n": 1e-9, "u": 1e-6, "m": 1e-3, "": 1.0, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12, "P": 1e15,
    "Ki": 2.0**10, "Mi": 2.0**20, "Gi": 2.0**30, "Ti": 2.0**40, "Pi": 2.0**50,
}  # fmt: skip


def amount(text: str) -> float:
    """The number that `text` means. Raises ValueError for anything else."""
    found = re.fullmatch(r"([0-9.]+(?:[eE][-+]?[0-9]+)?)([a-zA-Z]*)", text.strip())
    if found is None or found[2] not in _SCALE:
        raise ValueError(f"{text!r} is no quantity")
    return float(found[1]) * _SCALE[found[2]]
