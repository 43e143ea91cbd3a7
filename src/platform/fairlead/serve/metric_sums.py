"""The counters of all replicas as one: a scrape is answered by any of them, and must not depend on which.

Each replica tells the control what it counted since it last told (`Counted`); the control keeps the sums, so they grow
when a replica leaves, and begin at 0 with a new control, which Prometheus takes for what it is. Gauges are told as they
are. Bounded, because labels are.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.registry import Collector

Labels = tuple[tuple[str, str], ...]
Child = tuple[str, Labels]
"""A family's name, and the labels of one of its children (without `le`)."""
Values = dict[tuple[str, str], float]
"""By name of the sample and `le`, in the order in which they are told."""
Counted = dict[Child, Values]

_COUNTERS = ("counter", "histogram")


@dataclass(slots=True)
class MetricSums:
    """What the control answers: `counted` by all replicas that there were, `gauges` of each one that lives, and the
    generation that is wanted."""

    wanted: int
    counted: Counted = field(default_factory=dict)
    gauges: list[dict[str, float]] = field(default_factory=list)


class Teller:
    """Remembers what was told of a registry's counters. Lives in one event loop."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self._registry = registry
        self._told: Counted = {}

    def take(self) -> Counted:
        """What was counted since the last call; a child appears when it exists, with all its samples."""
        new: Counted = {}
        for family in self._registry.collect():
            if family.type not in _COUNTERS:
                continue
            for child, values in _children(family).items():
                told = self._told.get(child)
                if told == values:
                    continue
                new[child] = {key: value - (told or {}).get(key, 0.0) for key, value in values.items()}
                self._told[child] = values
        return new

    def give_back(self, counted: Counted) -> None:
        """Tell `counted` again the next time."""
        for child, values in counted.items():
            told = self._told[child]
            self._told[child] = {key: value - values.get(key, 0.0) for key, value in told.items()}


def _children(family: Metric) -> Counted:
    children: Counted = {}
    for sample in family.samples:
        if sample.name.endswith("_created"):
            continue
        labels = dict(sample.labels)
        le = labels.pop("le", "")
        children.setdefault((family.name, tuple(labels.items())), {})[sample.name, le] = sample.value
    return children


def add_counted(sums: Counted, counted: Mapping[Child, Mapping[tuple[str, str], float]]) -> None:
    """Add what a replica counted."""
    for child, values in counted.items():
        known = sums.setdefault(child, {})
        for key, value in values.items():
            known[key] = known.get(key, 0.0) + value


class _Sums(Collector):
    """The families of a registry, with the sums for its counters and its own values for its gauges."""

    def __init__(self, registry: CollectorRegistry, counted: Counted) -> None:
        self._registry, self._counted = registry, counted

    def collect(self) -> Iterator[Metric]:
        for family in self._registry.collect():
            if family.type not in _COUNTERS:
                yield family
                continue
            summed = Metric(family.name, family.documentation, family.type)
            for (name, labels), values in sorted(self._counted.items(), key=lambda item: item[0]):
                if name != family.name:
                    continue
                for (sample, le), value in values.items():
                    summed.add_sample(sample, dict([*labels, ("le", le)] if le else labels), value)
            yield summed


def render_sums(registry: CollectorRegistry, counted: Counted) -> bytes:
    """The text format of Prometheus: the counters of `counted`, the gauges of `registry`."""
    summed = CollectorRegistry(auto_describe=False)
    summed.register(_Sums(registry, counted))
    text: bytes = generate_latest(summed)
    return text
