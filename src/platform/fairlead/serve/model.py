"""One loaded version: columns in, answers out, and how to say what it answers."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.bundle.bundle import Bundle, fetch_bundle
from fairlead.bundle.predictor import Predictor
from fairlead.errors import FairleadError, PredictionFailed
from fairlead.records.data import Statistics
from fairlead.records.model import Signature
from fairlead.records.release import Arm
from fairlead.serve.parsing import Columns
from fairlead.store.protocol import Store

LABEL_COLUMN = "__label__"

Item = tuple[Columns, int]


@dataclass(slots=True)
class Answer:
    """What a model says about some rows. `scores`: one float per row (binary: probability of the positive class,
    regression: the value) or one list of class probabilities per row. `labels`: one per row, None for regression."""

    scores: list[Any]
    labels: list[str] | None

    def part(self, start: int, stop: int) -> "Answer":
        """Some of the rows."""
        return Answer(self.scores[start:stop], self.labels[start:stop] if self.labels is not None else None)


class LoadedModel:
    """A verified bundle, ready to answer. Calls are safe from any thread."""

    def __init__(self, arm: Arm, bundle: Bundle, *, threads: int = 1) -> None:
        self.arm = arm
        self.signature: Signature = bundle.signature
        self._predictor = Predictor(bundle, threads=threads)
        self._transform = bundle.transform
        self._inputs = tuple(field.name for field in bundle.signature.inputs)
        self.prior = prior_answer(bundle.signature, bundle.statistics)

    def predict(self, columns: Columns, rows: int) -> Answer:
        """Answer `rows` rows. Raises FairleadError (PredictionFailed when scores are not finite)."""
        prediction = self._predictor.predict_tensors(self._transform.apply_columns(columns, rows))
        scores = prediction.scores.tolist()
        if rows == 1 and not isinstance(scores[0], list):
            finite = math.isfinite(scores[0])
        else:
            finite = bool(np.isfinite(prediction.scores).all())
        if not finite:
            raise PredictionFailed("the model answered a number that is not finite", where=self.arm.digest)
        labels = prediction.labels
        return Answer(scores, labels.tolist() if labels is not None else None)

    def predict_many(self, items: Sequence[Item]) -> list[Answer | FairleadError]:
        """Answer several requests in one call of the network; when it fails, one by one, so that a request that the
        network cannot take fails alone."""
        if len(items) == 1:
            return [self._predict_alone(items[0])]
        try:
            whole = self.predict(self._merged(items), sum(rows for _, rows in items))
        except FairleadError:
            return [self._predict_alone(item) for item in items]
        answers: list[Answer | FairleadError] = []
        start = 0
        for _, rows in items:
            answers.append(whole.part(start, start + rows))
            start += rows
        return answers

    def measure_seconds(self, repeats: int = 5) -> float:
        """How long one row takes, the median of a few calls on rows of missing values or zeros; infinite when the
        model cannot answer those."""
        columns = {
            field.name: np.zeros((1, *field.shape), dtype=np.float32) if field.shape else [_sample_value(field.kind)]
            for field in self.signature.inputs
        }
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            try:
                self.predict(columns, 1)
            except FairleadError:
                return math.inf
            times.append(time.perf_counter() - start)
        return sorted(times)[len(times) // 2]

    def _predict_alone(self, item: Item) -> Answer | FairleadError:
        try:
            return self.predict(*item)
        except FairleadError as error:
            return error

    def _merged(self, items: Sequence[Item]) -> Columns:
        merged: Columns = {}
        for name in self._inputs:
            parts = [columns[name] for columns, _ in items if name in columns]
            if len(parts) != len(items):
                raise PredictionFailed(f"the input {name} is missing", where=self.arm.digest)
            if isinstance(parts[0], np.ndarray):
                merged[name] = np.concatenate(parts)
            else:
                merged[name] = [value for part in parts for value in part]
        return merged


def _sample_value(kind: str) -> object:
    return {"timestamp": "2000-01-01T00:00:00", "categorical": "", "string": ""}.get(kind)


def load_model(store: Store, arm: Arm, cache: Path, *, threads: int = 1) -> LoadedModel:
    """Fetch, verify and load the bundle of `arm`. Raises BundleDamaged, StoreError, PredictionFailed."""
    return LoadedModel(arm, fetch_bundle(store, arm.bundle_uri, arm.digest, cache), threads=threads)


def prior_answer(signature: Signature, statistics: Statistics) -> Answer | None:
    """What the training split's labels say about one row that nobody looked at; None when they are not known.

    Binary: the rate of the positive class; multiclass: the rate of each class; regression: the mean.
    """
    column = statistics.columns.get(LABEL_COLUMN)
    if column is None:
        return None
    if signature.task == "regression":
        return None if column.mean is None else Answer([column.mean], None)
    counts = [
        column.top.get(name, column.top.get(str(index), 0)) for index, name in enumerate(signature.classes)
    ]
    if not sum(counts):
        if signature.task != "binary" or column.mean is None:
            return None
        counts = [1.0 - column.mean, column.mean]  # type: ignore[list-item]
    rates = [count / sum(counts) for count in counts]
    if signature.task == "binary":
        threshold = 0.5 if signature.threshold is None else signature.threshold
        return Answer([rates[1]], [signature.classes[int(rates[1] >= threshold)]])
    return Answer([rates], [signature.classes[int(np.argmax(rates))]])
