"""What `fairlead init` says about the label: its task, its classes, the one that counts as positive."""

import difflib
import re

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.data.labels import LabelCollector, Labels, unlabelled
from fairlead.data.lookalikes import header_of_data, looks_like
from fairlead.data.sampling import Column, Sample
from fairlead.errors import LabelProblem
from fairlead.spec.data import Label

_YES = ("true", "1", "yes", "y", "t", "positive", "pos")


def find_labels(sample: Sample, label: str) -> tuple[Labels, np.ndarray]:
    """The labels of the labelled rows, and which rows those are: bool [N]. Raises LabelProblem."""
    column = sample.columns.get(label)
    if column is None:
        close = difflib.get_close_matches(label, sample.columns, n=1)
        fix = f"did you mean {close[0]}?" if close else f"columns: {', '.join(list(sample.columns)[:20])}"
        why = header_of_data(sample.columns) or None
        raise LabelProblem(f"there is no column {label}", where="--label", why=why, fix=fix)
    values = column.values
    if column.kind == "float" and column.distinct <= 20 and is_whole(values):
        # Whole numbers become floats as soon as one is missing.
        values = values.cast(pa.int64(), safe=False)
    labelled = ~unlabelled(values)
    if not labelled.any():
        raise LabelProblem(f"the label {label} has no values", where="--label", fix="name another column")
    if column.kind == "string" and column.distinct > 20 and (odd := misread(column)):
        raise LabelProblem(f"the label {label} is text", where="--label", why=odd, fix="correct the source")
    collector = LabelCollector(Label.model_validate({"column": label}))
    collector.update(values.filter(pa.array(labelled)))
    return collector.finish(), labelled


def positive_label(labels: Labels, column: Column) -> bool | int | str | None:
    """Which of two labels counts as positive; None for another task."""
    if labels.task != "binary":
        return None
    if column.kind == "bool":
        return True
    known = [text for text in labels.classes if text.lower() in _YES]
    counts = np.bincount(labels.codes.astype(np.int64), minlength=2)
    text = known[0] if len(known) == 1 else labels.classes[int(np.argmin(counts))]
    return int(text) if column.kind in ("int", "float") and re.fullmatch(r"-?\d+", text) else text


def rarest_share(labels: Labels) -> float:
    """The share of the rarest class, 0 to 1; 0 for a number."""
    if labels.task == "regression":
        return 0.0
    counts = np.bincount(labels.codes.astype(np.int64))
    return float(counts.min() / counts.sum())


def misread(column: Column) -> str:
    """What text looks like that would be a number or a date in another form; sizes and codes (10mm, 12A) are words."""
    found = looks_like(column.values)
    return "" if "with a unit" in found else found


def is_whole(values: pa.Array) -> bool:
    """Are all numbers whole?"""
    present = values.drop_null()
    return bool(len(present)) and bool(pc.all(pc.equal(pc.floor(present), present)).as_py())
