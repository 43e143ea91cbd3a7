"""The request log as recorded evidence: base rates to rehearse with, and rows in order to replay."""

from dataclasses import dataclass, replace
from datetime import datetime

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from fairlead.deploy.rehearsal.arrays import Flags, Floats
from fairlead.deploy.rehearsal.world import BaseRates
from fairlead.store import Store

_COLUMNS = ("request_id", "time", "arm", "digest", "latency_ms", "status", "fallback", "score", "label", "shadow_score")
_GAP_SECONDS = 60.0
"""A longer time without any request is a pause of the traffic, and does not count into its rate."""
_FEWEST = 100
"""Rows from which a rate is read from the log."""


@dataclass(frozen=True, slots=True)
class Recording:
    """The log's rows in the order of their times. `seconds` since the epoch; `label_time` is NaN without a label,
    `label` the label as sent ("" without); `shadow` is NaN where the candidate did not answer a copy."""

    seconds: Floats
    arm: "np.ndarray[tuple[int], np.dtype[np.str_]]"
    digest: "np.ndarray[tuple[int], np.dtype[np.str_]]"
    latency_ms: Floats
    status: Floats
    fallback: "np.ndarray[tuple[int], np.dtype[np.bool_]]"
    score: Floats
    shadow: Floats
    label: "np.ndarray[tuple[int], np.dtype[np.str_]]"
    label_time: Floats

    def __len__(self) -> int:
        return len(self.seconds)


def read_recording(
    store: Store, model: str, *, since: str = "", until: str = "", most: int = 2_000_000
) -> Recording | None:
    """The log's rows between two ISO instants, the newest `most`, with their labels; None without rows. Raises
    StoreError."""
    start = datetime.fromisoformat(since) if since else None
    end = datetime.fromisoformat(until) if until else None
    tables, rows = [], 0
    for key in reversed(store.list(f"logs/{model}/requests/")):
        table = pq.read_table(pa.BufferReader(store.read(key)), columns=list(_COLUMNS))
        for edge, keep in ((start, pc.greater_equal), (end, pc.less_equal)):
            if edge is not None:
                table = table.filter(keep(table["time"], pa.scalar(edge, table["time"].type)))
        if table.num_rows:
            tables.append(table)
            rows += table.num_rows
        elif start is not None and rows:
            break
        if rows >= most:
            break
    if not tables:
        return None
    table = pa.concat_tables(tables).sort_by("time")
    return _recording(table.slice(max(0, table.num_rows - most)), _labels(store, model))


def _labels(store: Store, model: str) -> dict[str, tuple[float, str]]:
    """The first label of each request, with the second at which it came."""
    found: dict[str, tuple[float, str]] = {}
    for key in store.list(f"logs/{model}/feedback/"):
        table = pq.read_table(pa.BufferReader(store.read(key)))
        times = _epoch_seconds(table["time"])
        for at, request, label in zip(
            times.tolist(), table["request_id"].to_pylist(), table["label"].to_pylist(), strict=True
        ):
            found.setdefault(request, (at, label))
    return found


def _recording(table: pa.Table, labels: dict[str, tuple[float, str]]) -> Recording:
    known = [labels.get(request, (np.nan, "")) for request in table["request_id"].to_pylist()]

    def numbers(name: str) -> Floats:
        column = pc.cast(table[name], pa.float64())
        return np.asarray(pc.fill_null(column, np.nan).to_numpy(), dtype=np.float64)

    return Recording(
        seconds=_epoch_seconds(table["time"]),
        arm=np.array(table["arm"].to_pylist(), dtype=str),
        digest=np.array(table["digest"].to_pylist(), dtype=str),
        latency_ms=numbers("latency_ms"),
        status=numbers("status"),
        fallback=np.array(table["fallback"].to_pylist(), dtype=bool),
        score=numbers("score"),
        shadow=numbers("shadow_score"),
        label=np.array([str(label) for _, label in known], dtype=str),
        label_time=np.array([at for at, _ in known], dtype=np.float64),
    )


def _epoch_seconds(column: pa.ChunkedArray) -> Floats:
    return np.asarray(pc.cast(column, pa.int64()).to_numpy(), dtype=np.float64) / 1e6


def base_from(recording: Recording, latency_bound_ms: float, usual: BaseRates) -> BaseRates:
    """What the log says about traffic and champion; `usual` where it says nothing."""
    if len(recording) < _FEWEST:
        return usual
    pauses = np.diff(recording.seconds)
    lasted = float(pauses[pauses <= _GAP_SECONDS].sum())
    champion = recording.arm == "champion"
    labelled = np.isfinite(recording.label_time)
    base = replace(
        usual,
        per_second=len(recording) / lasted if lasted > 0 else usual.per_second,
        failure_rate=_share((recording.status >= 500) | recording.fallback, champion, usual.failure_rate),
        slow_rate=_share(recording.latency_ms > latency_bound_ms, champion, usual.slow_rate),
        labelled=float(labelled.mean()),
    )
    if labelled.any():
        late = np.maximum(recording.label_time - recording.seconds, 0.0)[labelled]
        base = replace(base, label_seconds=float(np.median(late)))
    return base


def _share(events: Flags, among: Flags, usual: float) -> float:
    """The share, shrunk a little towards the usual one, so that no event in a short log is not "never"."""
    number = int(among.sum())
    return float((events[among].sum() + 1.0 * usual * 200) / (number + 200)) if number else usual
