"""How the evidence of a rollout grew: a bounded series of looks per phase and step, for people, never for decisions."""

from dataclasses import dataclass

Point = tuple[float, float | None, float | None, float | None, float | None]
"""Observations behind a metric, its estimate, the lower and upper end of its interval, its log evidence."""


@dataclass(frozen=True, slots=True)
class Look:
    """One look: `seconds` since the rollout began, `requests` of the step so far, a Point per metric."""

    seconds: float
    requests: int
    points: tuple[Point, ...]


@dataclass(frozen=True, slots=True)
class CoursePart:
    """The looks of one phase and step, oldest first, at the traffic that held then (percent). `metrics` names the
    points of each look, `bounds` what each is judged by. A look is kept when the requests grew by `ratio`."""

    phase: str
    step: int
    weight: float
    shadow_percent: float
    metrics: tuple[str, ...]
    bounds: tuple[float | None, ...]
    looks: tuple[Look, ...] = ()
    ratio: float = 1.2
