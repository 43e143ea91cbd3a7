"""One replica of the server: the data plane, what it records, and its conversation with the control."""

import asyncio
import math
import threading
import time
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from fairlead.errors import FairleadError
from fairlead.logs import get_logger
from fairlead.records.model import Signature
from fairlead.records.release import Arm, Release
from fairlead.records.rollout import ServingEvidence
from fairlead.serve.batcher import Batcher
from fairlead.serve.candidate import CandidatePort
from fairlead.serve.data_plane import DataPlane
from fairlead.serve.messages import Labels, Orders, ReplicaReport
from fairlead.serve.metric_sums import MetricSums
from fairlead.serve.metrics import Metrics
from fairlead.serve.model import LoadedModel, load_model
from fairlead.serve.recorder import Recorder
from fairlead.serve.refusals import bad_field
from fairlead.serve.request_log import RequestLog
from fairlead.serve.trial import Posted
from fairlead.spec.serve import Serve
from fairlead.store.protocol import Store

_log = get_logger(__name__)

SYNC_SECONDS = 0.2
_RETRY_SECONDS = 2.0
_METRICS_SECONDS = 5.0
_MODELS_KEPT = 3


class ControlPort(Protocol):
    """The control, in this process or behind a handle. Each call may raise when the control is gone."""

    async def sync(self, report: ReplicaReport) -> Orders:
        """Tell and be told."""

    async def put(self, release: Release) -> None:
        """Wish for a release. Raises ReleaseRefused."""

    async def view(self) -> dict[str, Any]:
        """What is wanted and what is applied."""

    async def evidence(self) -> ServingEvidence:
        """What was counted."""

    async def metrics(self) -> MetricSums:
        """What all replicas counted for /metrics."""

    async def feedback(self, labels: Labels) -> dict[str, int]:
        """Join labels."""

    async def outcomes(self, posted: list[Posted]) -> dict[str, int]:
        """Join outcomes with the keys of an A/B test or a bandit."""


CandidateFactory = Callable[[Arm, Signature], CandidatePort]
"""Gives a port to a candidate. The signature is the champion's, which answers must fit."""


class ModelCache:
    """Loaded models by digest; the last few stay, so that going back needs no loading. Safe from any thread."""

    def __init__(self, store: Store, folder: Path) -> None:
        self._store, self._folder = store, folder
        self._models: dict[str, LoadedModel] = {}
        self._lock = threading.Lock()

    def get(self, arm: Arm) -> LoadedModel:
        """The verified, loaded model of `arm`. Blocking. Raises BundleDamaged, StoreError, PredictionFailed."""
        with self._lock:
            model = self._models.pop(arm.digest, None)
            if model is None or model.arm != arm:
                model = load_model(self._store, arm, self._folder)
            self._models[arm.digest] = model
            for digest in list(self._models)[:-_MODELS_KEPT]:
                del self._models[digest]
            return model


@dataclass(frozen=True, slots=True)
class _Applied:
    release: Release
    candidate_ready: bool


class Server:
    """Everything of one replica. Lives in one event loop."""

    def __init__(
        self,
        model: str,
        spec: Serve,
        store: Store,
        models: ModelCache,
        control: ControlPort,
        candidate: CandidateFactory,
    ) -> None:
        self.model, self.spec = model, spec
        self.replica = uuid.uuid4().hex[:8]
        self.metrics = Metrics(model)
        log = spec.log
        self.log = (
            RequestLog(
                store,
                model,
                self.replica,
                rotate_rows=log.rotate_rows,
                rotate_seconds=log.rotate_seconds,
                queue_rows=log.queue_rows,
            )
            if log.enabled
            else None
        )
        self.recorder = Recorder(self.metrics, self.log)
        self.plane = DataPlane(model, spec, self.recorder)
        self.control = control
        self._models, self._candidate = models, candidate
        self._applied: _Applied | None = None
        self._batchers: dict[str, tuple[LoadedModel, Batcher]] = {}
        self._port: tuple[str, Signature, CandidatePort] | None = None
        self._leaving: set[asyncio.Task[None]] = set()
        self._error = ""
        self._retry_at = 0.0
        self._task: asyncio.Task[None] | None = None

    async def start(self, release: Release) -> None:
        """Load the champion of `release` and begin to follow the control. Raises when the champion cannot be loaded."""
        await self.apply(Orders(release, False))
        self._task = asyncio.create_task(self._follow())

    async def close(self) -> None:
        """Stop following, tell the control the rest, write what is logged."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self.plane.close()
        for task in self._leaving:
            task.cancel()
        if self._port is not None:
            await self._port[2].leave()
        try:
            async with asyncio.timeout(2.0):
                await self.sync()
        except Exception as error:  # the control may be gone already; what it lacks is in the log
            _log.debug("the control is gone: %s", error)
        for _, batcher in self._batchers.values():
            batcher.close()
        if self.log is not None:
            await asyncio.to_thread(self.log.close)

    # --- following the control ---------------------------------------------------------------------------------------
    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(SYNC_SECONDS)
            try:
                async with asyncio.timeout(5.0):
                    orders = await self.sync()
                await self._obey(orders)
            except Exception as error:  # without a control the replica goes on with what it has
                _log.debug("the control does not answer: %s", error)

    async def sync(self) -> Orders:
        """Tell the control what was counted, and get its orders."""
        generation = self._applied.release.generation if self._applied else -1
        live = self.plane.live
        callable_ = live.salt if live is not None and live.candidate is not None else ""
        deltas = self.recorder.take()
        dropped = self.log.dropped if self.log is not None else 0
        gauges = self.metrics.gauges(waiting=self.plane.waiting, log_dropped=dropped)
        counted = self.metrics.teller.take()
        strikes = self.plane.quarantines.take_news()
        try:
            orders = await self.control.sync(
                ReplicaReport(self.replica, generation, deltas, self._error, callable_, counted, gauges, strikes)
            )
        except BaseException:
            self.recorder.give_back(deltas)
            self.metrics.teller.give_back(counted)
            self.plane.quarantines.give_back(strikes)
            raise
        if orders.quarantined and orders.release.candidate is not None:
            self.plane.quarantines.of(orders.release.candidate.digest).hold(orders.quarantined)
        return orders

    async def _obey(self, orders: Orders) -> None:
        if self._applied == _Applied(orders.release, orders.candidate_ready):
            self._error = ""
            return
        if self._error and time.monotonic() < self._retry_at:
            return
        try:
            await self.apply(orders)
            self._error = ""
        except FairleadError as error:
            self._error = f"generation {orders.release.generation} cannot be applied: {error}"
            self._retry_at = time.monotonic() + _RETRY_SECONDS
            _log.warning("%s", self._error)

    async def apply(self, orders: Orders) -> None:
        """Load what is missing in a thread, then swap. What answers now goes on meanwhile."""
        release = orders.release
        model, batcher = await asyncio.to_thread(self._champion, release.champion)
        port: CandidatePort | None = None
        if release.candidate is not None and orders.candidate_ready:
            port = self._port_to(release.candidate, model.signature)
        live = self.plane.make_live(release, model, batcher, port)
        self.plane.live = live
        self._applied = _Applied(release, orders.candidate_ready)
        weights = {(release.champion.version, "champion"): 100.0 - live.weight}
        if release.candidate is not None:
            weights[release.candidate.version, "candidate"] = live.weight
        self.metrics.released(release.generation, weights)

    def _port_to(self, arm: Arm, signature: Signature) -> CandidatePort:
        if self._port is not None:
            digest, known, port = self._port
            if (digest, known) == (arm.digest, signature):
                return port
            task = asyncio.create_task(self._leave(port))
            self._leaving.add(task)
            task.add_done_callback(self._leaving.discard)
        port = self._candidate(arm, signature)
        self._port = (arm.digest, signature, port)
        return port

    async def _leave(self, port: CandidatePort) -> None:
        """Let go of a candidate once the requests that were on their way to it are answered."""
        await asyncio.sleep(max(self.spec.deadline_ms / 1000, 1.0))
        await port.leave()

    def _champion(self, arm: Arm) -> tuple[LoadedModel, Batcher]:
        known = self._batchers.get(arm.digest)
        if known is not None and known[0].arm == arm:
            return known
        model = self._models.get(arm)
        entry = (model, self.plane.make_batcher(model))
        kept = {digest: value for digest, value in self._batchers.items() if digest != arm.digest}
        for digest in list(kept)[: 1 - _MODELS_KEPT]:
            kept.pop(digest)[1].close()
        self._batchers = {**kept, arm.digest: entry}
        return entry

    # --- feedback ----------------------------------------------------------------------------------------------------
    async def feedback(self, document: dict[str, Any]) -> dict[str, Any]:
        """Take ``{"labels": [{"request_id": ..., "label": ...}]}``, and for an A/B test or a bandit ``{"outcomes":
        [{"key": ..., "metric": ..., "value": ...}]}``, with a request_id where there is no key. Raises Refusal."""
        live = self.plane.require_live()
        posted = read_outcomes(document)
        if posted and "labels" not in document:
            await self.sync()  # outcomes may come faster than exposures are told
            return {"outcomes": await self.control.outcomes(posted)}
        items, raw = _read_labels(document, live.model.signature)
        await self.sync()
        counts: dict[str, Any] = dict(await self.control.feedback(Labels(items, live.model.scale)))
        self.metrics.labels_arrived(counts)
        if self.log is not None:
            now = time.time()
            self.log.offer_labels([(now, identity, label) for identity, label in raw])
        if posted:
            counts["outcomes"] = await self.control.outcomes(posted)
        return counts

    async def render_metrics(self) -> bytes:
        """The body of ``GET /metrics``: of all replicas. Raises when the control is gone."""
        async with asyncio.timeout(_METRICS_SECONDS):
            await self.sync()
            return self.metrics.render(await self.control.metrics())


def _read_labels(
    document: dict[str, Any], signature: Signature
) -> tuple[list[tuple[str, float]], list[tuple[str, str]]]:
    labels = document.get("labels")
    if type(labels) is not list or not labels:
        raise bad_field("labels", 'expected {"labels": [{"request_id": ..., "label": ...}]}')
    unknown = next((key for key in document if key not in ("labels", "outcomes")), None)
    if unknown is not None:
        raise bad_field(unknown, f"unknown key {unknown}", "unknown_field")
    items: list[tuple[str, float]] = []
    raw: list[tuple[str, str]] = []
    for entry in labels:
        if type(entry) is not dict or type(entry.get("request_id")) is not str or not entry["request_id"]:
            raise bad_field("request_id", "each label needs a request_id")
        if entry.keys() - {"request_id", "label"}:
            raise bad_field("labels", "each label has a request_id and a label, nothing else", "unknown_field")
        items.append((entry["request_id"], _label_value(entry.get("label"), signature)))
        raw.append((entry["request_id"], _label_text(entry["label"])))
    return items, raw


def read_outcomes(document: dict[str, Any]) -> list[Posted]:
    """The outcomes in a feedback document; none when there are none. Raises Refusal."""
    if "outcomes" not in document:
        return []
    outcomes = document["outcomes"]
    if type(outcomes) is not list or not outcomes:
        raise bad_field("outcomes", 'expected {"outcomes": [{"key": ..., "metric": ..., "value": ...}]}')
    unknown = next((key for key in document if key not in ("labels", "outcomes")), None)
    if unknown is not None:
        raise bad_field(unknown, f"unknown key {unknown}", "unknown_field")
    posted: list[Posted] = []
    for entry in outcomes:
        if type(entry) is not dict or len(entry.keys() & {"key", "request_id"}) != 1:
            raise bad_field("key", "each outcome needs a key or a request_id, not both")
        if entry.keys() - {"key", "request_id", "metric", "value"}:
            raise bad_field("outcomes", "an outcome has a key or request_id, a metric and a value", "unknown_field")
        unit = entry.get("key", entry.get("request_id"))
        if type(unit) is not str or not unit:
            raise bad_field("key", "key and request_id are strings that are not empty", "wrong_type")
        if type(entry.get("metric")) is not str or not entry["metric"]:
            raise bad_field("metric", "each outcome names its metric", "wrong_type")
        value = _outcome_value(entry.get("value"))
        posted.append(Posted(unit, entry["metric"], value, by_request="request_id" in entry))
    return posted


def _outcome_value(value: Any) -> float:
    if type(value) is bool:
        return float(value)
    if type(value) not in (int, float) or not math.isfinite(value):
        raise bad_field("value", "value must be a finite number, or true or false", "wrong_type")
    return float(value)


def _label_value(label: Any, signature: Signature) -> float:
    """The index of a class, or a value. Raises Refusal."""
    if signature.task == "regression":
        if type(label) not in (int, float) or not math.isfinite(label):
            raise bad_field("label", "label must be a finite number", "wrong_type")
        return float(label)
    names = {name.lower(): index for index, name in enumerate(signature.classes)}
    text = _label_text(label).lower()
    index = names.get(text, names.get(_OTHER_NAMES.get(text, text)))
    if index is None:
        raise bad_field("label", f"label must be one of {', '.join(signature.classes[:20])}", "unknown_label")
    return float(index)


_OTHER_NAMES = {"1": "true", "0": "false", "true": "1", "false": "0"}


def _label_text(label: Any) -> str:
    if type(label) is float and label.is_integer():
        return str(int(label))
    return str(label).lower() if type(label) is bool else str(label)
