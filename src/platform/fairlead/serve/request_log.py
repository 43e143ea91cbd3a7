"""The Parquet log of requests and answers: bounded, off the request path, whole files only; drops are counted.

One row per row of a request. `request_id` is what a label must name. `latency_ms` is the whole request's, `score` the
answer's (binary: probability of the positive class; multiclass: of the answered class; regression: the value),
`label` the answered class, `shadow_score` what the candidate answered to a copy, `inputs` the raw fields as sent.
"""

import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairlead.errors import FairleadError
from fairlead.logs import get_logger
from fairlead.records.model import Signature
from fairlead.serve.exchange import Exchange
from fairlead.serve.model import Answer
from fairlead.store.protocol import Store

_log = get_logger(__name__)

_ARROW_TYPES = {"BOOL": pa.bool_(), "BYTES": pa.string(), "FP64": pa.float64(), "FP32": pa.float32()}
_CONVERT_SECONDS = 0.25
_CONVERT_REQUESTS = 512
"""What waits is made columns after so many seconds, or as soon as so many requests wait: what lives only briefly, the
garbage collector never gets to see."""


class ParquetSink:
    """Collects tables in memory and writes one Parquet object when it is full or old. Used by one thread."""

    def __init__(
        self,
        store: Store,
        prefix: str,
        name: str,
        *,
        rotate_rows: int,
        rotate_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._prefix, self._name = store, prefix, name
        self._rotate_rows, self._rotate_seconds, self._monotonic = rotate_rows, rotate_seconds, monotonic
        self._tables: list[pa.Table] = []
        self._rows = 0
        self._opened = 0.0
        self._sequence = 0
        self.lost_rows = 0

    def add(self, table: pa.Table) -> None:
        """Take rows; write when there are enough, or when they have other columns than the rows before."""
        if self._tables and not self._tables[0].schema.equals(table.schema):
            self.flush()
        if not self._tables:
            self._opened = self._monotonic()
        self._tables.append(table)
        self._rows += table.num_rows
        if self._rows >= self._rotate_rows:
            self.flush()

    def flush_if_old(self) -> None:
        """Write what is older than allowed."""
        if self._tables and self._monotonic() - self._opened >= self._rotate_seconds:
            self.flush()

    def flush(self) -> None:
        """Write everything. What cannot be written is counted as lost: a log must not grow without bound."""
        if not self._tables:
            return
        table, self._tables, self._rows = pa.concat_tables(self._tables), [], 0
        sink = pa.BufferOutputStream()
        pq.write_table(table, sink, compression="zstd")
        self._sequence += 1
        stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
        key = f"{self._prefix}/{stamp}-{self._name}-{self._sequence:06d}.parquet"
        try:
            self._store.write(key, sink.getvalue().to_pybytes())
        except FairleadError as error:
            self.lost_rows += table.num_rows
            _log.warning("%d rows of %s could not be written: %s", table.num_rows, self._prefix, error.what)


class RequestLog:
    """Takes exchanges from an event loop and writes them from a thread."""

    def __init__(
        self, store: Store, model: str, name: str, *, rotate_rows: int, rotate_seconds: float, queue_rows: int
    ) -> None:
        """`name` tells the files of replicas apart."""
        self._queue: deque[Exchange] = deque()
        self._labels: deque[tuple[float, str, str]] = deque()
        self._queued_rows = 0
        self._queue_rows = queue_rows
        self._dropped = 0
        self._lock = threading.Lock()
        self._stopped = False
        self._due = threading.Event()
        options: dict[str, Any] = {"rotate_rows": rotate_rows, "rotate_seconds": rotate_seconds}
        self._requests = ParquetSink(store, f"logs/{model}/requests", name, **options)
        self._feedback = ParquetSink(store, f"logs/{model}/feedback", name, **options)
        self._thread = threading.Thread(target=self._run, name="fairlead-request-log", daemon=True)
        self._thread.start()

    @property
    def dropped(self) -> int:
        """Rows that were dropped because too many waited, or lost because they could not be written."""
        return self._dropped + self._requests.lost_rows + self._feedback.lost_rows

    def offer(self, exchanges: Sequence[Exchange]) -> None:
        """Take exchanges, or drop and count them when too many rows wait. Never blocks."""
        room = self._queue_rows - self._queued_rows  # the thread only makes more of it
        taken: list[Exchange] = []
        for exchange in exchanges:
            rows = len(exchange.rows)
            if rows > room:
                self._dropped += rows
            else:
                room -= rows
                taken.append(exchange)
        with self._lock:
            self._queued_rows += sum(len(exchange.rows) for exchange in taken)
        self._queue.extend(taken)
        if len(self._queue) >= _CONVERT_REQUESTS:
            self._due.set()

    def offer_labels(self, labels: Sequence[tuple[float, str, str]]) -> None:
        """Take labels as (time, request id, label as sent); the same bound holds."""
        room = self._queue_rows - len(self._labels)
        self._labels.extend(labels[:room])
        self._dropped += max(0, len(labels) - max(room, 0))

    def close(self) -> None:
        """Write what waits and end the thread."""
        self._stopped = True
        self._due.set()
        self._thread.join(timeout=30)

    def _run(self) -> None:
        while not self._stopped:
            self._due.wait(_CONVERT_SECONDS)
            self._due.clear()
            self._convert()
            self._requests.flush_if_old()
            self._feedback.flush_if_old()
        self._convert()
        self._requests.flush()
        self._feedback.flush()

    def _convert(self) -> None:
        while self._queue:
            exchanges: list[Exchange] = []
            rows = 0
            # Small slices: a long conversion would hold the interpreter lock that requests need.
            while self._queue and len(exchanges) < 64:
                if exchanges and self._queue[0].model.signature != exchanges[0].model.signature:
                    break
                exchange = self._queue.popleft()
                exchanges.append(exchange)
                rows += len(exchange.rows)
            with self._lock:
                self._queued_rows -= rows
            self._requests.add(request_table(exchanges))
        if self._labels:
            labels = [self._labels.popleft() for _ in range(len(self._labels))]
            columns = list(zip(*labels, strict=True))
            self._feedback.add(
                pa.table(
                    {
                        "time": pa.array([int(at * 1e6) for at in columns[0]], _TIME),
                        "request_id": pa.array(columns[1], pa.string()),
                        "label": pa.array(columns[2], pa.string()),
                    }
                )
            )


_TIME = pa.timestamp("us", tz="UTC")


def inputs_type(signature: Signature) -> pa.StructType:
    """The Arrow type of the column `inputs`."""
    fields = []
    for entry in signature.inputs:
        kind = _ARROW_TYPES.get(entry.datatype, pa.int64())
        fields.append(pa.field(entry.name, pa.list_(pa.float32()) if entry.shape else kind))
    return pa.struct(fields)


def request_table(exchanges: Sequence[Exchange]) -> pa.Table:
    """Exchanges of models with one signature as rows of the request log."""
    signature = exchanges[0].model.signature
    # One entry per row; nearly every request has just one.
    owners = exchanges if all(len(e.rows) == 1 for e in exchanges) else [e for e in exchanges for _ in e.rows]
    rows: dict[str, list[Any]] = {
        "request_id": [identity for e in exchanges for identity in e.row_ids()],
        "time": [int(e.at * 1e6) for e in owners],
        "arm": [e.arm for e in owners],
        "version": [e.answered_by.version for e in owners],
        "digest": [e.answered_by.digest for e in owners],
        "latency_ms": [e.seconds * 1000 for e in owners],
        "status": [e.status for e in owners],
        "fallback": [e.fallback for e in owners],
        "score": [_one_score(score) for e in exchanges for score in e.scores()],
        "label": [label for e in exchanges for label in _labels(e.answer, len(e.rows))],
        "shadow_score": [_one_score(score) for e in exchanges for score in _scores(e.shadow_answer, len(e.rows))],
    }
    columns = [pa.array(rows[name], kind) for name, kind in _COLUMNS.items()]
    struct = inputs_type(signature)
    inputs = [_input_array(exchanges, struct.field(i)) for i in range(struct.num_fields)]
    columns.append(pa.StructArray.from_arrays(inputs, fields=[struct.field(i) for i in range(struct.num_fields)]))
    return pa.table(columns, names=[*_COLUMNS, "inputs"])


_COLUMNS: dict[str, pa.DataType] = {
    "request_id": pa.string(),
    "time": _TIME,
    "arm": pa.string(),
    "version": pa.int64(),
    "digest": pa.string(),
    "latency_ms": pa.float64(),
    "status": pa.int16(),
    "fallback": pa.bool_(),
    "score": pa.float64(),
    "label": pa.string(),
    "shadow_score": pa.float64(),
}


def _labels(answer: Answer | None, rows: int) -> Sequence[str | None]:
    return answer.labels if answer is not None and answer.labels is not None else [None] * rows


def _scores(answer: Answer | None, rows: int) -> Sequence[Any]:
    return answer.scores if answer is not None else [None] * rows


def _one_score(score: Any) -> float | None:
    if isinstance(score, list):
        return float(max(score))
    return None if score is None else float(score)


def _input_array(exchanges: Sequence[Exchange], field: pa.Field) -> pa.Array:
    values = [row[field.name] for exchange in exchanges for row in exchange.rows]
    if pa.types.is_list(field.type):
        return pa.array([value.ravel() for value in values], field.type)
    if pa.types.is_floating(field.type):
        # Arrow refuses integers that a float cannot hold exactly; a log may round them.
        values = [None if value is None else float(value) for value in values]
    return pa.array(values, field.type)


def read_inputs(store: Store, model: str, *, since: str, most: int) -> pa.Table | None:
    """The raw inputs of the newest logged requests, at most `most` rows, one column per field; None without any.

    `since`: ISO 8601, requests before it are left out. Whole files are read, newest first, until there are enough.
    """
    start = datetime.fromisoformat(since).astimezone(UTC)
    # A file is named after the moment it was written, which is after all of its requests.
    first_name = start.strftime("%Y%m%dT%H%M%S")
    tables: list[pa.Table] = []
    rows = 0
    prefix = f"logs/{model}/requests/"
    for key in reversed(store.list(prefix)):
        if rows >= most or key.removeprefix(prefix) < first_name:
            break
        table = pq.read_table(pa.BufferReader(store.read(key)), columns=["time", "inputs"])
        table = table.filter(pc.greater_equal(table["time"], pa.scalar(start, _TIME)))
        if table.num_rows:
            inputs = pa.Table.from_struct_array(table["inputs"])
            tables.append(inputs.slice(0, most - rows))
            rows += tables[-1].num_rows
    if not tables:
        return None
    return pa.concat_tables(tables, promote_options="permissive")
