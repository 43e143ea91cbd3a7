"""From raw columns to scores and labels: transform, network, calibration, threshold, in this order."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa

from fairlead.bundle.bundle import Bundle
from fairlead.bundle.calibration import Calibration
from fairlead.bundle.graph import Graph
from fairlead.bundle.layout import MODEL, SIGNATURE, TRANSFORM
from fairlead.bundle.signature import parse_signature
from fairlead.bundle.verify import read_part
from fairlead.errors import PredictionFailed
from fairlead.features.transform import Transform
from fairlead.records.model import Signature

Tensors = Mapping[str, np.ndarray]

# Rows of a table that pass through the network at once: bounds the memory of its intermediate results.
CHUNK_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a model says about N rows.

    `scores`: float64, [N] (binary: probability of the positive class; regression: the value) or [N, C] (multiclass).
    `labels`: [N] of str, None for a regression. `logits`: the network's own output before calibration, float64, in the
    shape of `scores`.
    """

    scores: np.ndarray
    labels: np.ndarray | None
    logits: np.ndarray


class Predictor:
    """A loaded model. Calls may come from several threads at once."""

    def __init__(self, bundle: Bundle, threads: int = 1) -> None:
        """Load a verified bundle. `threads`: CPU threads per call. Raises BundleDamaged, PredictionFailed."""
        self._set_up(
            bundle.read(MODEL), bundle.transform, bundle.signature, bundle.calibration, threads, bundle.manifest.digest
        )

    @classmethod
    def of_draft(cls, folder: Path, threads: int = 1) -> "Predictor":
        """Load a draft, which has no calibration and no manifest yet. Raises BundleDamaged, PredictionFailed."""
        signature = read_part(folder / SIGNATURE, parse_signature)
        transform = read_part(folder / TRANSFORM, Transform.from_json)
        model = read_part(folder / MODEL, bytes)
        predictor = cls.__new__(cls)
        calibration = Calibration(task=signature.task)  # type: ignore[arg-type]  # checked by Calibration itself
        predictor._set_up(model, transform, signature, calibration, threads, f"draft {folder.name}")
        return predictor

    def _set_up(
        self,
        model: bytes,
        transform: Transform,
        signature: Signature,
        calibration: Calibration,
        threads: int,
        name: str,
    ) -> None:
        self.signature = signature
        self._transform, self._calibration, self._name = transform, calibration, name
        self._graph = Graph(model, name=MODEL, threads=threads)
        self._classes = np.asarray(signature.classes, dtype=object) if signature.classes else None
        self._threshold = 0.5 if signature.threshold is None else signature.threshold

    def predict_table(self, table: pa.Table | pa.RecordBatch) -> Prediction:
        """Predict raw columns, some thousand rows at a time. Columns that the model does not take are ignored."""
        if table.num_rows <= CHUNK_ROWS:
            return self.predict_tensors(self._transform.apply_table(table))
        starts = range(0, table.num_rows, CHUNK_ROWS)
        parts = [self.predict_tensors(self._transform.apply_table(table.slice(i, CHUNK_ROWS))) for i in starts]
        labels = [part.labels for part in parts if part.labels is not None]
        return Prediction(
            np.concatenate([part.scores for part in parts]),
            np.concatenate(labels) if labels else None,
            np.concatenate([part.logits for part in parts]),
        )

    def predict_rows(self, rows: Sequence[Mapping[str, object]]) -> Prediction:
        """Predict rows as a client sends them."""
        return self.predict_tensors(self._transform.apply_rows(rows))

    def predict_columns(self, columns: Mapping[str, Sequence[object] | np.ndarray], rows: int) -> Prediction:
        """Predict columns as a client sends them, `rows` long each."""
        return self.predict_tensors(self._transform.apply_columns(columns, rows))

    def predict_tensors(self, tensors: Tensors) -> Prediction:
        """Predict transformed rows. Raises PredictionFailed when the graph fails or answers anything but finite numbers
        of the signature's shape."""
        rows = len(next(iter(tensors.values()))) if tensors else 0
        shape = (rows, len(self.signature.classes)) if self.signature.task == "multiclass" else (rows,)
        if rows == 0:
            logits = np.empty(shape, dtype=np.float64)
        else:
            logits = self._checked(self._graph.run(tensors), shape)
        scores = self._calibration.apply(logits)
        return Prediction(scores, self._labels(scores), logits)

    def _checked(self, output: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
        if output.dtype.kind not in "fiu" or (output.shape != shape and output.shape != (*shape, 1)):
            raise PredictionFailed(
                f"the graph answered {output.dtype} {list(output.shape)} instead of numbers {list(shape)}",
                where=self._name,
                fix="Export the model with one output of this shape.",
            )
        logits = output.reshape(shape).astype(np.float64)
        finite = np.isfinite(logits)
        if not finite.all():
            row = int(np.argwhere(~finite)[0][0])
            raise PredictionFailed(
                "the model answered a number that is not finite", where=f"{self._name}, row {row} of {len(logits)}"
            )
        return logits

    def _labels(self, scores: np.ndarray) -> np.ndarray | None:
        if self._classes is None:
            return None
        if self.signature.task == "binary":
            return np.asarray(self._classes[(scores >= self._threshold).astype(np.int64)])
        return np.asarray(self._classes[scores.argmax(axis=1)] if len(scores) else np.empty(0, dtype=object))
