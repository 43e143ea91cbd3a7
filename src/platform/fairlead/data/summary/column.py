"""What the summaries of all columns have in common: rows, missing, different and frequent values."""

from typing import Any, Self

from fairlead.data.summary.distinct import DistinctSketch
from fairlead.data.summary.frequent import FrequentItems


class ColumnSummary:
    """A column of a kind (see `features.kinds`). Subclasses add what their values have: `numbers`, `values`."""

    def __init__(self, kind: str) -> None:
        self.kind = kind
        self.rows = 0
        self.missing = 0
        self.distinct = DistinctSketch()
        self.frequent = FrequentItems()

    @property
    def count(self) -> int:
        """Present values."""
        return self.rows - self.missing

    def merge(self, other: Self) -> None:
        """Add what `other` saw."""
        self.rows += other.rows
        self.missing += other.missing
        self.distinct.merge(other.distinct)
        self.frequent.merge(other.frequent)

    def settle(self, most: int = 0) -> None:
        """Bring the sketches to rest; with `most` only where more than so many hashes wait, a quarter of it numbers."""
        self.distinct.relax(most)
        self.frequent.pack()

    @property
    def num_distinct(self) -> tuple[int, float]:
        """(different values, one standard error as a share; 0: exact)."""
        if self.frequent.exact:
            return self.frequent.num_listed, 0.0
        return min(self.distinct.estimate, self.count), self.distinct.relative_error

    def to_value(self) -> dict[str, Any]:
        """JSON."""
        counts = {"kind": self.kind, "rows": self.rows, "missing": self.missing}
        return {**counts, "distinct": self.distinct.to_value(), "frequent": self.frequent.to_value()}

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> Self:
        """What `to_value` gave."""
        made = cls(value["kind"])
        made.rows, made.missing = value["rows"], value["missing"]
        made.distinct = DistinctSketch.from_value(value["distinct"])
        made.frequent = FrequentItems.from_value(value["frequent"])
        return made
