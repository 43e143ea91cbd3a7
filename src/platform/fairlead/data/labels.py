"""What is predicted: which task a label column makes, which classes, and each row's label as a number.

`task: auto` decides so: two different values are binary (or `label.positive` is given); strings, booleans and integers
of up to 20 different values are multiclass; other integers and floats are regression. The positive class of a binary
label is `label.positive`, else the last of the two values in sort order (true, 1, yes).
"""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.errors import LabelProblem
from fairlead.features.categories import category_array, category_text
from fairlead.features.kinds import kind_of
from fairlead.spec.data import Label

MAX_CLASSES = 1000
_MAX_INT_CLASSES = 20


@dataclass(frozen=True)
class Labels:
    """`codes` is int64 [N] (index into `classes`) or float64 [N] for regression. For a binary task classes[1] is the
    positive one."""

    task: str
    classes: tuple[str, ...]
    codes: np.ndarray


def unlabelled(array: pa.Array) -> np.ndarray:
    """Which rows have no label: bool [N]; null, and NaN of a float."""
    missing = array.is_null(nan_is_null=True) if pa.types.is_floating(array.type) else array.is_null()
    return np.asarray(missing.to_numpy(zero_copy_only=False))


class LabelCollector:
    """Takes the labels of all good rows in order; memory 4 or 8 bytes a row."""

    def __init__(self, spec: Label) -> None:
        self._spec = spec
        self._codes: dict[str, int] = {}
        self._parts: list[np.ndarray] = []
        self._numbers: list[np.ndarray] = []
        self._kind = ""

    def update(self, array: pa.Array) -> None:
        """Take labels without missing ones. Raises LabelProblem for values that are no labels."""
        kind = kind_of(array.type)
        if kind not in ("int", "float", "string", "bool"):
            raise self._problem(f"the label {self._spec.column} holds {array.type}", "number, string or boolean")
        self._kind = self._kind or kind
        if kind in ("int", "float"):
            self._numbers.append(array.cast(pa.float64(), safe=False).to_numpy(zero_copy_only=False))
        if len(self._codes) > MAX_CLASSES:
            return
        encoded = pc.dictionary_encode(category_array(array))
        table = [self._codes.setdefault(text, len(self._codes)) for text in encoded.dictionary.to_pylist()]
        self._parts.append(np.array(table, np.int32)[encoded.indices.to_numpy()])

    def finish(self) -> Labels:
        """Decide the task. Raises LabelProblem when there is nothing to learn from the labels."""
        spec, distinct = self._spec, len(self._codes)
        if not self._parts:
            raise self._problem(f"the label {spec.column} has no value in any good row", "check data.label.column")
        if distinct == 1:
            only = next(iter(self._codes))
            raise self._problem(f"the label {spec.column} has one value only: {only}", "two values or more are needed")
        task = spec.task if spec.task != "auto" else self._automatic(distinct)
        if task == "regression":
            if not self._numbers:
                raise self._problem(f"the label {spec.column} is no number", "set data.label.task: multiclass")
            return Labels(task, (), np.concatenate(self._numbers))
        if distinct > MAX_CLASSES:
            raise self._problem(
                f"the label {spec.column} has more than {MAX_CLASSES} different values",
                "an identifier is no label; for a number set data.label.task: regression",
            )
        classes = self._classes(task)
        order = np.array([classes.index(text) for text in self._codes], np.int64)
        return Labels(task, classes, order[np.concatenate(self._parts)])

    def _automatic(self, distinct: int) -> str:
        if distinct == 2 or self._spec.positive is not None:
            return "binary"
        if self._kind == "float" or (self._kind == "int" and distinct > _MAX_INT_CLASSES):
            return "regression"
        return "multiclass"

    def _classes(self, task: str) -> tuple[str, ...]:
        texts = list(self._codes)
        numeric = self._kind in ("int", "float")
        ordered = sorted(texts, key=float) if numeric else sorted(texts)
        if task != "binary":
            return tuple(ordered)
        column = self._spec.column
        if len(ordered) != 2:
            raise self._problem(
                f"the label {column} has {len(ordered)} values, a binary one has two",
                "set data.label.task: multiclass and drop data.label.positive",
            )
        positive = ordered[1] if self._spec.positive is None else category_text(self._spec.positive)
        if positive not in ordered:
            raise self._problem(
                f"no row has the positive value {self._spec.positive!r}", f"{column} is {ordered[0]} or {ordered[1]}"
            )
        return (next(text for text in ordered if text != positive), str(positive))

    def _problem(self, what: str, fix: str) -> LabelProblem:
        return LabelProblem(what, where=f"data.label.column: {self._spec.column}", fix=fix)
