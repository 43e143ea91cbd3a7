"""What ``GET /metrics`` tells. Labels are bounded: model, version, arm, and the status of an answer."""

from collections.abc import Sequence

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from fairlead.serve.exchange import Exchange
from fairlead.serve.metric_sums import MetricSums, Teller, render_sums

CONTENT_TYPE = b"text/plain; version=0.0.4; charset=utf-8"

_BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


class Metrics:
    """Counters of one server process (on Ray Serve: of one replica), and the text with those of all."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._applied = -1
        self.registry = CollectorRegistry()
        self.teller = Teller(self.registry)
        arm = ("model", "version", "arm")
        self._requests = Counter(
            "fairlead_requests_total", "Answers of a model to users.", (*arm, "status"), registry=self.registry
        )
        self._refused = Counter(
            "fairlead_refused_total", "Answers without a model, by status.", ("model", "status"), registry=self.registry
        )
        # What prometheus_client finds by its labels anew each time costs more than counting.
        self._refused_by: dict[int, Counter] = {}
        self._answered_by: dict[tuple[int, str, int], Counter] = {}
        self._timed_by: dict[tuple[int, str], Histogram] = {}
        self._seconds = Histogram(
            "fairlead_request_duration_seconds",
            "From reading a request to its answer.",
            arm,
            buckets=_BUCKETS,
            registry=self.registry,
        )
        self._failures = Counter(
            "fairlead_model_failures_total",
            "Calls of a model that raised, timed out or answered garbage, seen by a user or not.",
            arm,
            registry=self.registry,
        )
        self._fallbacks = Counter(
            "fairlead_fallbacks_total", "Answers by the declared fallback.", ("model",), registry=self.registry
        )
        self._pairs = Counter(
            "fairlead_shadow_pairs_total", "Copies that the candidate answered.", arm, registry=self.registry
        )
        self._dropped = Counter(
            "fairlead_shadow_dropped_total",
            "Copies dropped rather than delayed.",
            ("model",),
            registry=self.registry,
        )
        self._kept_away = Counter(
            "fairlead_candidate_kept_away_total",
            "Requests that a candidate did not get because it had died of the same body before.",
            ("model", "version"),
            registry=self.registry,
        )
        self._feedback = Counter(
            "fairlead_feedback_labels_total",
            "Labels by what became of them.",
            ("model", "result"),
            registry=self.registry,
        )
        self._log_dropped = Gauge(
            "fairlead_request_log_dropped",
            "Rows of the request log that were dropped.",
            ("model",),
            registry=self.registry,
        )
        self._waiting = Gauge(
            "fairlead_queue_requests", "Requests that wait for the champion.", ("model",), registry=self.registry
        )
        self._generation = Gauge(
            "fairlead_release_generation",
            "Generation of the release that every replica applies.",
            ("model",),
            registry=self.registry,
        )
        self._wanted = Gauge(
            "fairlead_release_generation_wanted",
            "Generation of the release that should be applied.",
            ("model",),
            registry=self.registry,
        )
        self._replicas = Gauge(
            "fairlead_replicas", "Replicas that tell the control of themselves.", ("model",), registry=self.registry
        )
        self._weight = Gauge(
            "fairlead_traffic_weight_percent", "Share of the keys that an arm answers.", arm, registry=self.registry
        )

    def add(self, exchanges: Sequence[Exchange]) -> None:
        """Count finished exchanges."""
        model = self._model
        answered: dict[tuple[int, str, int], int] = {}
        copied: dict[int, int] = {}
        for exchange in exchanges:
            version, arm = exchange.answered_by.version, exchange.arm
            key = (version, arm, exchange.status)
            answered[key] = answered.get(key, 0) + 1
            histogram = self._timed_by.get((version, arm))
            if histogram is None:
                histogram = self._timed_by[version, arm] = self._seconds.labels(model, str(version), arm)
            histogram.observe(exchange.seconds)
            if exchange.champion_failed:
                self._failures.labels(model, str(exchange.model.arm.version), "champion").inc()
            if exchange.candidate is not None:
                if exchange.shadow_answer is not None:
                    number = exchange.candidate.version
                    copied[number] = copied.get(number, 0) + 1
                elif exchange.candidate_failed or exchange.shadow_failed or exchange.shadow_dropped:
                    self._add_candidate(exchange, str(exchange.candidate.version))
            if exchange.fallback:
                self._fallbacks.labels(model).inc()
        for number, count in copied.items():
            self._pairs.labels(model, str(number), "shadow").inc(count)
        for key, count in answered.items():
            counter = self._answered_by.get(key)
            if counter is None:
                version, arm, status = key
                counter = self._answered_by[key] = self._requests.labels(model, str(version), arm, str(status))
            counter.inc(count)

    def _add_candidate(self, exchange: Exchange, version: str) -> None:
        if exchange.candidate_failed:
            self._failures.labels(self._model, version, "candidate").inc()
        if exchange.shadow_failed:
            self._failures.labels(self._model, version, "shadow").inc()
        if exchange.kept_away:
            self._kept_away.labels(self._model, version).inc()
        if exchange.shadow_dropped:
            self._dropped.labels(self._model).inc()

    def refused(self, status: int) -> None:
        """Count an answer without a model."""
        counter = self._refused_by.get(status)
        if counter is None:
            counter = self._refused_by[status] = self._refused.labels(self._model, str(status))
        counter.inc()

    def labels_arrived(self, counts: dict[str, int]) -> None:
        """Count labels by what became of them."""
        for result, count in counts.items():
            if count:
                self._feedback.labels(self._model, result).inc(count)

    def released(self, generation: int, weights: dict[tuple[int, str], float]) -> None:
        """Tell what is applied: `weights` by (version, arm)."""
        self._applied = generation
        self._weight.clear()
        for (version, arm), weight in weights.items():
            self._weight.labels(self._model, str(version), arm).set(weight)

    def gauges(self, *, waiting: int, log_dropped: int) -> dict[str, float]:
        """What this replica is at now, for the control."""
        return {"waiting": waiting, "log_dropped": log_dropped, "generation": self._applied}

    def render(self, sums: MetricSums) -> bytes:
        """The text format of Prometheus, with what all replicas counted."""
        live = sums.gauges
        for gauge, value in (
            (self._waiting, sum(each["waiting"] for each in live)),
            (self._log_dropped, sum(each["log_dropped"] for each in live)),
            (self._generation, min((each["generation"] for each in live), default=self._applied)),
            (self._wanted, sums.wanted),
            (self._replicas, len(live)),
        ):
            gauge.labels(self._model).set(value)
        return render_sums(self.registry, sums.counted)
