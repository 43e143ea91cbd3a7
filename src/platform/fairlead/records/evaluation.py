"""What the evaluate stage found out about one model on held-out rows."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from fairlead.records.evidence import Interval, Verdict


@dataclass(frozen=True, slots=True)
class MetricValue:
    """One number with its interval. `slice` is "" for all rows, else "carrier=AA"."""

    name: str
    value: float | None
    interval: Interval | None
    rows: int
    slice: str = ""
    why: str = ""


@dataclass(frozen=True, slots=True)
class GateResult:
    """One gate: `name` as declared, e.g. "auc >= 0.68", what was observed, the bound, and why."""

    name: str
    verdict: Verdict
    observed: float | None
    interval: Interval | None
    bound: float | None
    why: str


@dataclass(frozen=True, slots=True)
class Evaluation:
    """All of it. `baselines` maps a name (random, majority, one_rule, gradient_boosting, champion) to its metrics on
    the same rows. `curves` holds plottable series by name (roc, precision_recall, reliability): lists of (x, y).
    `differences` maps a name to this model's metrics minus that one's, with paired intervals. `effective_rows`: how
    many equally weighted rows these are worth, None where all count alike."""

    task: str
    split: str
    rows: int
    metrics: Mapping[str, MetricValue]
    slices: tuple[MetricValue, ...]
    baselines: Mapping[str, Mapping[str, MetricValue]]
    gates: tuple[GateResult, ...]
    confusion: tuple[tuple[int, ...], ...] = ()
    classes: tuple[str, ...] = ()
    curves: Mapping[str, tuple[tuple[float, float], ...]] = field(default_factory=dict)
    threshold: float | None = None
    calibration: Mapping[str, float] = field(default_factory=dict)
    champion: str | None = None
    random_split_auc: float | None = None
    differences: Mapping[str, Mapping[str, MetricValue]] = field(default_factory=dict)
    effective_rows: float | None = None

    @property
    def passed(self) -> bool:
        """True when every gate passed. No gates at all pass as well, and the report says so."""
        return all(gate.verdict is Verdict.PASS for gate in self.gates)
