"""Scoring a data set with a bundle: streamed, and the output file appears whole or not at all."""

import contextlib
import os
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fairlead.atomic import DISK_FULL, sync_folder
from fairlead.bundle.bundle import Bundle
from fairlead.bundle.predictor import Prediction, Predictor
from fairlead.errors import NotEnoughDisk, SchemaMismatch, SourceUnreadable, UsageError
from fairlead.records.model import Signature
from fairlead.serve.rows import open_rows

_BATCH_ROWS = 16_384


@dataclass(frozen=True, slots=True)
class BatchResult:
    """What was scored with what."""

    rows: int
    output: str
    digest: str
    seconds: float


def score_files(
    bundle: Bundle,
    data: str,
    output: Path,
    *,
    base: Path,
    progress: Callable[[str], None] | None = None,
    threads: int | None = None,
) -> BatchResult:
    """Append predictions to every row of `data` and write them to the Parquet file `output` (relative to `base`).

    The new columns are named after the signature's outputs with ``prediction_`` before them; a multiclass model gives
    one list of probabilities per row. Memory is bounded by the row groups of the input. Raises SourceNotFound,
    SourceUnreadable, SchemaMismatch (an input of the model is not a column), TransformError, PredictionFailed.
    """
    started = time.monotonic()
    target = base / output
    rows = open_rows(data, base)
    if any(Path(name).resolve() == target.resolve() for name in getattr(rows, "files", [])):
        raise UsageError(f"{output} is one of the files to score", fix="Choose another --output-file.")
    missing = [field.name for field in bundle.signature.inputs if field.name not in rows.schema.names]
    if missing:
        raise SchemaMismatch(f"{data} lacks the columns {', '.join(missing)}", why="The model takes them.", where=data)
    predictor = Predictor(bundle, threads=threads or os.cpu_count() or 1)
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".tmp-{uuid.uuid4().hex}.parquet")
    count = 0
    writer: pq.ParquetWriter | None = None
    try:
        for batch in rows.to_batches(batch_size=_BATCH_ROWS, batch_readahead=2, fragment_readahead=1):
            if writer is not None and batch.num_rows == 0:
                continue
            scored = _with_predictions(batch, predictor.predict_table(batch), bundle)
            if writer is None:
                writer = pq.ParquetWriter(temporary, scored.schema, compression="zstd")
            writer.write_batch(scored)
            count += batch.num_rows
            if progress is not None and count // 500_000 != (count - batch.num_rows) // 500_000:
                progress(f"{count:,} rows scored")
        if writer is None:
            raise SourceUnreadable(f"{data} holds no rows", where=data)
        writer.close()
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        os.replace(temporary, target)
        sync_folder(target.parent)
    except (pa.ArrowInvalid, OSError) as error:
        if isinstance(error, OSError) and error.errno in DISK_FULL:
            raise NotEnoughDisk(
                "the disk is too full for the scores",
                where=str(target),
                why=str(error)[:500],
                fix="Free some space, or name another --output-file; nothing was changed.",
            ) from error
        raise SourceUnreadable(f"{data} cannot be read to its end", where=data, why=str(error)[:500]) from error
    finally:
        with contextlib.suppress(OSError):  # the footer of a file that goes anyway
            if writer is not None:
                writer.close()
        temporary.unlink(missing_ok=True)
    return BatchResult(count, str(output), bundle.digest, round(time.monotonic() - started, 3))


def _with_predictions(batch: pa.RecordBatch, prediction: Prediction, bundle: Bundle) -> pa.RecordBatch:
    columns = prediction_columns(prediction, bundle.signature)
    arrays = [*batch.columns, *columns.values()]
    fields = [*batch.schema, *(pa.field(name, column.type) for name, column in columns.items())]
    metadata = {b"fairlead.model": bundle.manifest.model.encode(), b"fairlead.digest": bundle.digest.encode()}
    return pa.RecordBatch.from_arrays(arrays, schema=pa.schema(fields, metadata=metadata))


def prediction_columns(prediction: Prediction, signature: Signature) -> dict[str, pa.Array]:
    """Scores and labels as Arrow columns."""
    scores = np.asarray(prediction.scores, dtype=np.float64)
    name = f"prediction_{signature.outputs[0].name}"
    if scores.ndim == 2:
        flat = pa.array(scores.ravel())
        offsets = pa.array(np.arange(0, scores.size + 1, scores.shape[1] or 1, dtype=np.int32))
        columns = {name: pa.ListArray.from_arrays(offsets, flat)}
    else:
        columns = {name: pa.array(scores)}
    if prediction.labels is not None:
        columns["prediction_label"] = pa.array(prediction.labels.tolist(), pa.string())
    return columns
