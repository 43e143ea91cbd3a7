"""Fairlead: from raw data to a watched model, each decision backed by evidence that a person can read."""

from pathlib import Path

__version__ = "0.1.0"

# components/ and pipelines/ are importable as fairlead.components and fairlead.pipelines in both layouts: the wheel
# carries them inside the package; in a checkout they stand at the repository's root, three folders up.
_checkout = Path(__file__).resolve().parents[3]
if not (Path(__file__).parent / "components").is_dir() and (_checkout / "components").is_dir():
    __path__.append(str(_checkout))
