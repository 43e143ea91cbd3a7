"""One loaded version: rows in, answers out, and how to say what it answers."""

import itertools
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from fairlead.bundle.bundle import Bundle, fetch_bundle
from fairlead.bundle.predictor import Predictor
from fairlead.errors import FairleadError
from fairlead.records.data import Statistics
from fairlead.records.model import Signature
from fairlead.records.release import Arm
from fairlead.serve.parsing import Row
from fairlead.store.protocol import Store

LABEL_COLUMN = "__label__"

_SLOW_SECONDS = 0.05

Item = list[Row]
"""The rows of one request."""


@dataclass(slots=True)
class Answer:
    """What a model says about some rows. `scores`: one float per row (binary: probability of the positive class,
    regression: the value) or one list of class probabilities per row. `labels`: one per row, None for regression.
    `seconds`: how long a model in another process took for it, without the way there and back; negative for others."""

    scores: list[Any]
    labels: list[str] | None
    seconds: float = -1.0

    def part(self, start: int, stop: int) -> "Answer":
        """Some of the rows."""
        return Answer(self.scores[start:stop], self.labels[start:stop] if self.labels is not None else None)


class LoadedModel:
    """A verified bundle, ready to answer. Calls are safe from any thread."""

    def __init__(self, arm: Arm, bundle: Bundle, *, threads: int = 1) -> None:
        self.arm = arm
        self.signature: Signature = bundle.signature
        self._predictor = Predictor(bundle, threads=threads)
        self.prior = prior_answer(bundle.signature, bundle.statistics)
        self.scale = error_scale(bundle.signature, bundle.statistics)

    def predict(self, rows: Item) -> Answer:
        """Answer rows. Raises PredictionFailed, TransformError."""
        prediction = self._predictor.predict_rows(rows)
        labels = prediction.labels
        return Answer(prediction.scores.tolist(), labels.tolist() if labels is not None else None)

    def predict_many(self, items: Sequence[Item]) -> list[Answer | FairleadError]:
        """Answer several requests in one call of the network; when it fails, one by one, so that a request that the
        network cannot take fails alone."""
        if len(items) == 1:
            return [self._predict_alone(items[0])]
        try:
            whole = self.predict([row for item in items for row in item])
        except FairleadError:
            return [self._predict_alone(item) for item in items]
        if len(whole.scores) == len(items) and max(map(len, items)) == 1:
            labels = whole.labels if whole.labels is not None else itertools.repeat(None)
            return [Answer([s], None if n is None else [n]) for s, n in zip(whole.scores, labels, strict=False)]
        answers: list[Answer | FairleadError] = []
        start = 0
        for item in items:
            answers.append(whole.part(start, start + len(item)))
            start += len(item)
        return answers

    def measure_seconds(self, repeats: int = 5) -> float:
        """How long one row takes, the median of a few calls on a row of missing values or zeros; infinite when the
        model cannot answer that."""
        row: Row = {
            field.name: np.zeros(field.shape, dtype=np.float32) if field.shape else None
            for field in self.signature.inputs
        }
        times = []
        for _ in range(repeats):
            start = time.perf_counter()
            try:
                self.predict([row])
            except FairleadError:
                return math.inf
            times.append(time.perf_counter() - start)
            if times[-1] > _SLOW_SECONDS:
                break
        return sorted(times)[len(times) // 2]

    def _predict_alone(self, item: Item) -> Answer | FairleadError:
        try:
            return self.predict(item)
        except FairleadError as error:
            return error


def load_model(store: Store, arm: Arm, cache: Path, *, threads: int = 1) -> LoadedModel:
    """Fetch, verify and load the bundle of `arm`. Raises BundleDamaged, StoreError, PredictionFailed."""
    return LoadedModel(arm, fetch_bundle(store, arm.bundle_uri, arm.digest, cache), threads=threads)


def error_scale(signature: Signature, statistics: Statistics) -> float:
    """The unit of differences and losses: 1 for probabilities, the range of the training labels for values."""
    column = statistics.columns.get(LABEL_COLUMN)
    if signature.task != "regression" or column is None or column.minimum is None or column.maximum is None:
        return 1.0
    return (column.maximum - column.minimum) or 1.0


def fits(answer: Answer, signature: Signature, rows: int) -> bool:
    """Could a model with `signature` have answered this to `rows` rows? For answers from where nobody checked them."""
    scores, labels, classes = answer.scores, answer.labels, signature.classes
    if type(scores) is not list or len(scores) != rows:
        return False
    if signature.task == "regression":
        return labels is None and all(type(score) is float and math.isfinite(score) for score in scores)
    if type(labels) is not list or len(labels) != rows:
        return False
    for label in labels:
        if label not in classes:
            return False
    if signature.task == "binary":
        return _are_probabilities(scores)
    return all(type(score) is list and len(score) == len(classes) and _are_probabilities(score) for score in scores)


def _are_probabilities(values: list[Any]) -> bool:
    if len(values) == 1:  # mostly, and a generator takes three times as long
        return type(values[0]) is float and 0.0 <= values[0] <= 1.0
    return all(type(value) is float and 0.0 <= value <= 1.0 for value in values)


def prior_answer(signature: Signature, statistics: Statistics) -> Answer | None:
    """What the training split's labels say about one row that nobody looked at; None when they are not known.

    Binary: the rate of the positive class; multiclass: the rate of each class; regression: the mean.
    """
    column = statistics.columns.get(LABEL_COLUMN)
    if column is None:
        return None
    if signature.task == "regression":
        return None if column.mean is None else Answer([column.mean], None)
    counts = [column.top.get(name, column.top.get(str(index), 0)) for index, name in enumerate(signature.classes)]
    if not sum(counts):
        if signature.task != "binary" or column.mean is None:
            return None
        counts = [1.0 - column.mean, column.mean]  # type: ignore[list-item]
    rates = [count / sum(counts) for count in counts]
    if signature.task == "binary":
        threshold = 0.5 if signature.threshold is None else signature.threshold
        return Answer([rates[1]], [signature.classes[int(rates[1] >= threshold)]])
    return Answer([rates], [signature.classes[int(np.argmax(rates))]])
