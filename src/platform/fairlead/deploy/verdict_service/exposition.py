"""A rollout as Prometheus metrics, from its record alone: what is decided, on what evidence, how far it is."""

from collections.abc import Iterable, Iterator
from datetime import datetime

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from fairlead.deploy.rollout.course import ends_of, log_evidence
from fairlead.deploy.verdict_service.answer import DECISIONS, answer
from fairlead.records.evidence import MetricVerdict, Verdict
from fairlead.records.rollout import Phase, RolloutRecord

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_PREFIX = "fairlead_rollout_"
_ARM = ("model", "version")
_METRIC = (*_ARM, "metric")


def render(model: str, record: RolloutRecord | None, *, hosted: bool) -> bytes:
    """The text format of Prometheus for the newest rollout of `model`; without one only that there is none."""
    registry = CollectorRegistry()
    registry.register(_Rollout(tuple(families(model, record, hosted=hosted))))
    text: bytes = generate_latest(registry)
    return text


class _Rollout(Collector):
    def __init__(self, found: tuple[Metric, ...]) -> None:
        self._found = found

    def collect(self) -> Iterator[Metric]:
        """See Collector."""
        yield from self._found


def families(model: str, record: RolloutRecord | None, *, hosted: bool) -> Iterator[Metric]:
    """The metrics themselves, with their help."""
    yield _gauge("open", "1 while a rollout has not ended.", ("model",), [((model,), _is_open(record))])
    if record is None:
        return
    arm = (record.model, str(record.candidate.version))
    yield from _state(record, arm, hosted)
    yield from _evidence(record.last_metrics, arm)


def _state(record: RolloutRecord, arm: tuple[str, str], hosted: bool) -> Iterator[Metric]:
    labels = ("model", "rollout", "champion", "candidate")
    names = (record.model, record.id, str(record.champion.version), str(record.candidate.version))
    yield _gauge("info", "The newest rollout: its id and its two versions.", labels, [(names, 1)])
    phases = [((*arm, phase.value), phase is record.phase) for phase in Phase]
    yield _gauge("phase", "1 for the phase that the rollout is in.", (*_ARM, "phase"), phases)
    said = answer(record, hosted=hosted)
    decisions = [((*arm, decision), decision == said.decision) for decision in DECISIONS]
    help_text = "1 for what the rollout says about making the candidate champion."
    yield _gauge("decision", help_text, (*_ARM, "decision"), decisions)
    for name, text, value in (
        ("hosted", "1 while somebody runs the loop of the rollout.", hosted),
        ("weight_percent", "Share of the keys that the rollout gives the candidate.", record.weight),
        ("shadow_percent", "Share of the requests that are copied to the candidate.", record.shadow_percent),
        ("generation", "Generation of the newest decision.", record.generation),
        ("decisions_made", "Decisions so far.", len(record.decisions)),
        ("step_requests", "Requests (in shadow: pairs) that the present step counted.", record.last_requests),
        ("started_timestamp_seconds", "When the rollout began.", _timestamp(record.started_at)),
        ("updated_timestamp_seconds", "When its record was last written.", _timestamp(record.updated_at)),
    ):
        yield _gauge(name, text, _ARM, [(arm, value)])


def _evidence(metrics: Iterable[MetricVerdict], arm: tuple[str, str]) -> Iterator[Metric]:
    judged = [((*arm, metric.metric), metric) for metric in metrics]
    verdicts = [
        ((*labels, verdict.value), metric.verdict is verdict) for labels, metric in judged for verdict in Verdict
    ]
    yield _gauge("verdict", "1 for the verdict of a metric.", (*_METRIC, "verdict"), verdicts)
    numbers = (
        ("observations", "Observations behind a metric.", lambda m: m.n),
        ("estimate", "The present estimate of a metric.", lambda m: m.observed),
        ("confidence_lower", "Lower end of the interval, valid at every look.", lambda m: ends_of(m)[0]),
        ("confidence_upper", "Upper end of the interval, valid at every look.", lambda m: ends_of(m)[1]),
        ("bound", "What the metric is judged by.", lambda m: m.bound),
        ("log_evidence", "Natural log of the likelihood ratio, bad over healthy, of a sequential test.", log_evidence),
        ("requests_needed", "Observations still needed at the present estimate.", lambda m: m.needed),
    )
    for name, text, read in numbers:
        known = [(labels, value) for labels, metric in judged if (value := read(metric)) is not None]
        yield _gauge(name, text, _METRIC, known)


def _gauge(
    name: str, text: str, labels: tuple[str, ...], samples: Iterable[tuple[tuple[str, ...], float | None]]
) -> Metric:
    family = GaugeMetricFamily(_PREFIX + name, text, labels=labels)
    for values, value in samples:
        if value is not None:
            family.add_metric(values, float(value))
    return family


def _is_open(record: RolloutRecord | None) -> bool:
    return record is not None and record.phase not in (Phase.PROMOTED, Phase.ABORTED)


def _timestamp(at: str) -> float | None:
    return datetime.fromisoformat(at).timestamp() if at else None
