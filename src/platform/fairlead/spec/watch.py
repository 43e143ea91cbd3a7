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


class Watch(Section):
    """What is looked at while a version is live."""

    skew: Skew = Field(default_factory=Skew, description="Live features against training statistics.")
