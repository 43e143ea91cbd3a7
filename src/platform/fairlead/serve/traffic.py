"""Live requests from recorded rows: an open loop at a fixed rate, with true labels posted back later.

Open loop: a request is sent when its time has come, whether or not earlier ones were answered. A driver that waits
would send less just when the server is slow, and hide what it should show.
"""

import asyncio
import itertools
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from pathlib import Path
from typing import Any

import aiohttp
import numpy as np
import orjson
import pyarrow.dataset as pads

from fairlead.errors import SchemaMismatch, UsageError
from fairlead.serve.rows import open_rows

ANSWER_SECONDS = 10.0
LATE_SECONDS = 1.0
STICKY_HEADER = "x-fairlead-key"

_SHUFFLE_ROWS = 8192
_LABELS_PER_POST = 500
_FEEDBACK_SECONDS = 0.25


@dataclass(frozen=True, slots=True)
class TrafficPlan:
    """What to send. `data`: Parquet rows, relative to `base`; `fields`: the columns that are sent.

    Ends after `seconds`, after `requests`, when told to stop, or, without any of these, with the rows; otherwise the
    rows are repeated. `label_delay`: seconds from an answer to its label (None: no labels). `sticky`: a column whose
    value goes into the header `sticky_header`. `keep_answers`: the result has each answer as (time.monotonic() when
    it was sent, when it came, key or request id, arm).
    """

    url: str
    model: str
    data: str
    base: Path
    fields: Sequence[str]
    rate: float
    seconds: float | None = None
    requests: int | None = None
    label_column: str | None = None
    label_delay: float | None = None
    sticky: str | None = None
    sticky_header: str = STICKY_HEADER
    seed: int = 7
    protocol: str = "predict"
    keep_answers: bool = False


@dataclass(slots=True)
class _Counts:
    sent: int = 0
    failed: int = 0
    late: int = 0
    fallbacks: int = 0
    latencies: list[float] = field(default_factory=list)
    by_arm: Counter[str] = field(default_factory=Counter)
    by_version: Counter[str] = field(default_factory=Counter)
    by_status: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)
    keys: dict[str, set[str]] = field(default_factory=dict)
    labels_sent: int = 0
    labels_joined: int = 0
    largest_lag: float = 0.0
    answers: list[tuple[float, float, str, str]] = field(default_factory=list)


Body = tuple[bytes, object, str | None]
"""A request body, the true label, the sticky key."""


def run_traffic(
    plan: TrafficPlan, stop: Callable[[], bool] | None = None, say: Callable[[str], None] | None = None
) -> dict[str, Any]:
    """Send the plan's requests and give what the clients saw, as JSON values.

    Failed: an answer other than 2xx, or none within 10 s. Late: a good answer after more than a second. `stop` is
    asked several times a second; an interrupt ends the run like it. Raises SourceNotFound, SchemaMismatch, UsageError.
    """
    if plan.rate <= 0:
        raise UsageError("the rate of requests must be above 0")
    rows = open_rows(plan.data, plan.base)
    wanted = [name for name in plan.fields if name in rows.schema.names]
    if not wanted:
        raise SchemaMismatch(f"{plan.data} has none of the columns {', '.join(plan.fields)}", where=plan.data)
    driver = _Driver(plan, rows, wanted, stop, say)
    started = time.monotonic()
    asyncio.run(driver.run())
    return driver.result(time.monotonic() - started)


class _Driver:
    def __init__(
        self,
        plan: TrafficPlan,
        rows: pads.Dataset,
        fields: list[str],
        stop: Callable[[], bool] | None,
        say: Callable[[str], None] | None,
    ) -> None:
        self._plan, self._rows, self._fields = plan, rows, fields
        self._stop, self._say = stop, say
        self._counts = _Counts()
        self._labels: deque[tuple[float, str, object]] = deque()
        self._stopped = False
        self._repeats = plan.seconds is not None or plan.requests is not None or stop is not None

    # --- rows --------------------------------------------------------------------------------------------------------
    def _bodies(self) -> Iterator[Body]:
        plan = self._plan
        random = np.random.default_rng(plan.seed)
        names = list(dict.fromkeys([*self._fields, *filter(None, (plan.label_column, plan.sticky))]))
        names = [name for name in names if name in self._rows.schema.names]
        while True:
            empty = True
            for batch in self._rows.to_batches(columns=names, batch_size=_SHUFFLE_ROWS, fragment_readahead=1):
                rows = batch.to_pylist()
                for index in random.permutation(len(rows)):
                    empty = False
                    yield self._body(rows[index])
            if empty or not self._repeats:
                return

    def _body(self, row: dict[str, Any]) -> Body:
        plan = self._plan
        key = None if plan.sticky is None or row.get(plan.sticky) is None else str(row[plan.sticky])
        label = row.get(plan.label_column) if plan.label_column else None
        instance = {name: row[name] for name in self._fields if row[name] is not None}
        return orjson.dumps({"instances": [instance]}, default=_plain), label, key

    # --- sending -----------------------------------------------------------------------------------------------------
    async def run(self) -> None:
        plan = self._plan
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=30)
        timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
        async with aiohttp.ClientSession(connector=connector, timeout=timeout) as session:
            watcher = asyncio.create_task(self._watch())
            feedback = asyncio.create_task(self._feed_back(session))
            try:
                await self._send_all(session)
                if plan.label_delay is not None and not self._stopped:
                    while self._labels:
                        await asyncio.sleep(_FEEDBACK_SECONDS)
            except asyncio.CancelledError:
                # An interrupt ends the run; what was seen so far is the result.
                self._stopped = True
            finally:
                watcher.cancel()
                feedback.cancel()
                await asyncio.gather(watcher, feedback, return_exceptions=True)

    async def _send_all(self, session: aiohttp.ClientSession) -> None:
        plan, counts = self._plan, self._counts
        url = f"{plan.url.rstrip('/')}/v2/models/{plan.model}/{plan.protocol}"
        running: set[asyncio.Task[None]] = set()
        start = time.perf_counter()
        bodies = self._bodies()
        try:
            for number in itertools.count():
                due = number / plan.rate
                if self._stopped or number == plan.requests or (plan.seconds is not None and due >= plan.seconds):
                    break
                body = next(bodies, None)
                if body is None:
                    break
                ahead = start + due - time.perf_counter()
                if ahead > 0:
                    await asyncio.sleep(ahead)
                else:
                    counts.largest_lag = max(counts.largest_lag, -ahead)
                    if number % 16 == 0:
                        await asyncio.sleep(0)
                counts.sent += 1
                task = asyncio.create_task(self._send(session, url, body))
                running.add(task)
                task.add_done_callback(running.discard)
        finally:
            if running:
                await asyncio.wait(running, timeout=ANSWER_SECONDS + 1)

    async def _send(self, session: aiohttp.ClientSession, url: str, request: Body) -> None:
        counts = self._counts
        body, label, key = request
        headers = {"Content-Type": "application/json"}
        if key is not None:
            headers[self._plan.sticky_header] = key
        started = time.monotonic()
        try:
            async with session.post(url, data=body, headers=headers) as response:
                data = await response.read()
                status = response.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            self._failed("no answer", f"{type(error).__name__}: {error}")
            return
        ended = time.monotonic()
        seconds = ended - started
        if not 200 <= status < 300:
            self._failed(str(status), data[:200].decode("utf-8", "replace"))
            return
        counts.latencies.append(seconds)
        counts.by_status[str(status)] += 1
        counts.late += seconds > LATE_SECONDS
        parameters = orjson.loads(data)["parameters"]
        arm, version = parameters["arm"], parameters["model_version"]
        counts.by_arm[arm] += 1
        counts.by_version[version] += 1
        counts.fallbacks += parameters["fallback"]
        if self._plan.keep_answers:
            counts.answers.append((started, ended, key or parameters["request_id"], arm))
        if key is not None:
            counts.keys.setdefault(key, set()).add(version)
        if self._plan.label_delay is not None and label is not None:
            self._labels.append((time.monotonic() + self._plan.label_delay, parameters["request_id"], label))

    def _failed(self, kind: str, why: str) -> None:
        self._counts.failed += 1
        self._counts.by_status[kind] += 1
        if len(self._counts.failures) < 5:
            self._counts.failures.append(f"{kind}: {why}")

    async def _watch(self) -> None:
        said = time.monotonic()
        while True:
            await asyncio.sleep(0.1)
            if self._stop is not None and not self._stopped:
                self._stopped = await asyncio.to_thread(self._stop)
            if self._say is not None and time.monotonic() - said >= 10:
                said = time.monotonic()
                counts = self._counts
                self._say(f"{counts.sent:,} requests, {counts.failed:,} failed, {counts.labels_sent:,} labels sent")

    async def _feed_back(self, session: aiohttp.ClientSession) -> None:
        url = f"{self._plan.url.rstrip('/')}/fairlead/v1/feedback"
        while True:
            await asyncio.sleep(_FEEDBACK_SECONDS)
            due: list[dict[str, object]] = []
            now = time.monotonic()
            while self._labels and self._labels[0][0] <= now and len(due) < _LABELS_PER_POST:
                _, identity, label = self._labels.popleft()
                due.append({"request_id": identity, "label": label})
            if not due:
                continue
            body = orjson.dumps({"labels": due}, default=_plain)
            try:
                async with session.post(url, data=body, headers={"Content-Type": "application/json"}) as response:
                    answer = orjson.loads(await response.read())
                    if response.status == 200:
                        self._counts.labels_sent += len(due)
                        self._counts.labels_joined += answer.get("joined", 0)
            except (aiohttp.ClientError, TimeoutError, OSError, orjson.JSONDecodeError):
                # Labels are not requests: what could not be posted shows as labels that were not sent.
                continue

    def result(self, seconds: float) -> dict[str, Any]:
        counts = self._counts
        latencies = np.array(counts.latencies or [0.0]) * 1000
        p50, p90, p99, highest = (float(np.quantile(latencies, q)) for q in (0.5, 0.9, 0.99, 1.0))
        moved = sum(1 for versions in counts.keys.values() if len(versions) > 1)
        return {
            "sent": counts.sent,
            "answered": len(counts.latencies),
            "failed": counts.failed,
            "late": counts.late,
            "fallbacks": counts.fallbacks,
            "failures": counts.failures,
            "by_arm": dict(counts.by_arm),
            "by_version": dict(counts.by_version),
            "by_status": dict(counts.by_status),
            "latency_ms": {"p50": p50, "p90": p90, "p99": p99, "max": highest},
            "seconds": seconds,
            "rate": counts.sent / seconds if seconds else 0.0,
            "largest_lag_ms": counts.largest_lag * 1000,
            "labels_sent": counts.labels_sent,
            "labels_joined": counts.labels_joined,
            "keys": len(counts.keys),
            "keys_moved": moved,
            **({"answers": counts.answers} if self._plan.keep_answers else {}),
        }


def _plain(value: object) -> object:
    """What orjson does not write by itself."""
    if isinstance(value, (datetime, date)):
        return value.isoformat()
    return str(value)
