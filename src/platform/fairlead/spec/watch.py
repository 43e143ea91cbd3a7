"""The ``watch`` section: what is looked at while a version is live."""

from pydantic import Field

from fairlead.spec.quantities import Section, Share


class Skew(Section):
    """Live features against a model's training statistics, checked at the start of a shadow."""

    max_distance: float = Field(
        0.1, gt=0, lt=1, description="Distance of frequencies beyond which a feature is skewed."
    )
    min_rows: int = Field(500, ge=50, description="Live rows before anything is said.")
    false_alarm: Share = Field(0.001, gt=0, lt=0.5, description="Chance of naming any feature when nothing is skewed.")


class Drift(Section):
    """Windows of rows against each other, and days against those of a reference (`fairlead data drift`)."""

    max_distance: float = Field(0.1, gt=0, lt=1, description="Distance of frequencies beyond which a feature moved.")
    false_alarm: Share = Field(
        0.001, gt=0, lt=0.5, description="Chance of accusing any feature of two windows that are alike."
    )
    false_alarms_per_month: float = Field(
        1.0,
        gt=0,
        le=1000,
        description="Days watched one after another: false alarms in 30 days, all features together.",
    )
    same_weekday: tuple[str, ...] = Field(
        (), description="Features whose days are compared with days of the same weekday; all for every feature."
    )
    max_rows: int = Field(50_000, ge=1000, description="Rows of a window that are kept for the comparison, at random.")


class Watch(Section):
    """What is looked at while a version is live."""

    skew: Skew = Field(default_factory=Skew, description="Live features against training statistics.")
    drift: Drift = Field(default_factory=Drift, description="Windows and days of rows against a reference.")
