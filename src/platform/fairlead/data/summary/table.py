"""The summary of a table: its columns, which values are missing together, its groups, and ties with the label."""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import numpy as np
import orjson
import pyarrow as pa

from fairlead.data.readers import WIDE_COLUMNS
from fairlead.data.summary.draw import Draw
from fairlead.data.summary.frequent import FrequentItems
from fairlead.data.summary.groups import Codes, GroupedBatch, Groups
from fairlead.data.summary.numbers import NumberSummary, float_values
from fairlead.data.summary.values import ValueSummary
from fairlead.features.hashing import stable_hash
from fairlead.features.kinds import kind_of

FORMAT = 1
Summary = NumberSummary | ValueSummary
_NUMBERS = ("int", "float", "timestamp")
_PATTERNS = (1000, 250)
_SEPARATOR = "\x1f"
_WAITING = 4096  # of a column of a wide table


class TableSummary:
    """Statistics of all rows of some batches. `patterns` counts sets of columns that are missing together (names joined
    by U+001F); `groups` has the columns by split, month and label. `mixed` names columns that are text in one file and
    numbers in the next: the values of the later kind count as missing. `unreadable` counts
    by column the texts that are not of the schema's type (they count as missing), under "" rows without columns.

    The sketches of wide tables come to rest with each batch and after each merge, those of others when much waits: what
    a wide table keeps would outgrow its batches."""

    def __init__(self) -> None:
        self.rows = 0
        self.columns: dict[str, Summary] = {}
        self.patterns = FrequentItems(*_PATTERNS)
        self.groups: dict[str, Groups] = {}
        self.mixed: set[str] = set()
        self.unreadable: Counter[str] = Counter()

    @classmethod
    def of(
        cls, batch: pa.RecordBatch, draw: Draw, seed: int, coded: Mapping[str, Codes] | None = None
    ) -> "TableSummary":
        """Of one batch; `seed` is that of its file."""
        made = cls()
        made.rows = batch.num_rows
        wide = batch.num_columns > WIDE_COLUMNS
        grouped = [GroupedBatch(dimension, codes, draw, seed, wide) for dimension, codes in (coded or {}).items()]
        absent: dict[str, np.ndarray] = {}
        for field, array in zip(batch.schema, batch.columns, strict=True):
            name, kind = field.name, kind_of(field.type) or "other"
            if kind in _NUMBERS:
                number = NumberSummary.of(array, kind, draw, seed ^ stable_hash(name))
                made.columns[name] = number
                for group in grouped:
                    group.add_numbers(name, float_values(array, kind))
            else:
                made.columns[name] = ValueSummary.of(array, kind, draw)
                if kind in ("string", "bool"):
                    for group in grouped:
                        group.add_values(name, array)
            if wide:
                made.columns[name].settle()
            if made.columns[name].missing:
                absent[name] = array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False)
        made._take_patterns(absent)
        made.groups = {group.made.dimension: group.made for group in grouped}
        return made

    def _take_patterns(self, absent: Mapping[str, np.ndarray]) -> None:
        if not absent:
            return
        names = list(absent)
        packed = np.packbits(np.stack(list(absent.values())), axis=0).T
        packed = np.ascontiguousarray(packed[packed.any(axis=1)])
        keys = packed.view(f"V{packed.shape[1]}").ravel()
        if packed.shape[1] == 1:
            keys = packed.ravel()
        found, counts = np.unique(keys, return_counts=True)
        bits = np.unpackbits(np.frombuffer(found.tobytes(), np.uint8).reshape(len(found), -1), axis=1)
        patterns = [_SEPARATOR.join(name for name, bit in zip(names, row, strict=False) if bit) for row in bits]
        self.patterns.add(patterns, counts)

    def merge(self, other: "TableSummary") -> None:
        """Add what `other` saw. A column that one of the two lacks is missing there in all rows."""
        for name, column in other.columns.items():
            mine = self.columns.get(name)
            if mine is None:
                column.missing += self.rows
                column.rows += self.rows
                self.columns[name] = column
            elif type(mine) is type(column):
                mine.merge(column)  # type: ignore[arg-type]
            else:
                _merge_unlike(self, name, mine, column)
        for name, mine in self.columns.items():
            if name not in other.columns:
                mine.missing += other.rows
                mine.rows += other.rows
        self.rows += other.rows
        self.patterns.merge(other.patterns)
        self.mixed |= other.mixed
        self.unreadable.update(other.unreadable)
        for dimension, groups in other.groups.items():
            if dimension in self.groups:
                self.groups[dimension].merge(groups)
            else:
                self.groups[dimension] = groups
        if len(self.columns) > WIDE_COLUMNS:
            self.settle(_WAITING)

    def settle(self, most: int = 0) -> None:
        """Bring the sketches to rest, as writing and reading does: what follows then depends on the rows alone. With
        `most` only where more than so many hashes wait, a quarter of it numbers (in groups a sixteenth)."""
        for column in self.columns.values():
            column.settle(most)
        for groups in self.groups.values():
            for columns in groups.groups.values():
                for part in columns.values():
                    part.quantiles.relax(most // 16)

    def to_value(self) -> dict[str, Any]:
        """JSON."""
        return {
            "format": FORMAT,
            "rows": self.rows,
            "mixed": sorted(self.mixed),
            "unreadable": dict(self.unreadable),
            "columns": {name: column.to_value() for name, column in self.columns.items()},
            "patterns": self.patterns.to_value(),
            "groups": {dimension: groups.to_value() for dimension, groups in self.groups.items()},
        }

    def to_json(self) -> bytes:
        """Everything: `from_json` gives a summary that goes on as this one would."""
        return orjson.dumps(self.to_value())

    @classmethod
    def from_value(cls, value: dict[str, Any]) -> "TableSummary":
        """What `to_value` gave. Raises ValueError for another format."""
        if value.get("format") != FORMAT:
            raise ValueError(f"a summary of format {value.get('format')}, not {FORMAT}")
        made = cls()
        made.rows, made.mixed = value["rows"], set(value["mixed"])
        made.unreadable = Counter(value["unreadable"])
        for name, column in value["columns"].items():
            number = column["kind"] in _NUMBERS
            made.columns[name] = NumberSummary.from_value(column) if number else ValueSummary.from_value(column)
        made.patterns = FrequentItems.from_value(value["patterns"])
        made.groups = {dimension: Groups.from_value(groups) for dimension, groups in value["groups"].items()}
        return made

    @classmethod
    def from_json(cls, data: bytes) -> "TableSummary":
        """What `to_json` gave."""
        return cls.from_value(orjson.loads(data))


def _merge_unlike(table: TableSummary, name: str, mine: Summary, other: Summary) -> None:
    """Text in one file, numbers in the next, or nothing at all: an empty one gives way, else the first kind stays."""
    if not mine.count:
        other.missing += mine.rows
        other.rows += mine.rows
        table.columns[name] = other
    else:
        mine.missing += other.rows
        mine.rows += other.rows
        if other.count:
            table.mixed.add(name)
