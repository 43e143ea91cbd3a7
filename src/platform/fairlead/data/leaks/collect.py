"""What the scan needs of the rows, collected while they stream by: once before the split is decided, once after."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from fairlead.data.leaks.columns import numbers
from fairlead.data.leaks.features import scan_leaks
from fairlead.data.leaks.findings import Findings, rank
from fairlead.data.leaks.fitted import SCALED, Moments, encoded_label, filled_before_split, scaled_before_split
from fairlead.data.leaks.presence import MissingCounts, percent
from fairlead.data.leaks.repeats import Repeats
from fairlead.data.leaks.rows import EntityOverlap, find_twins
from fairlead.dataset.files import LABEL
from fairlead.features.hashing import mix
from fairlead.features.instants import instant_array
from fairlead.records.data import SPLITS, LeakFinding
from fairlead.spec.project import Project

TRAIN_ROWS, OTHER_ROWS = 100_000, 20_000
_VALUE_ROWS = 200_000
_LATE = 0.001
_TWINS = 0.01
ROWS = "(rows)"


class FirstLook:
    """Of all good rows, before the split: moments of fractional numbers, and values known after the row's time."""

    def __init__(self, project: Project) -> None:
        self._time = project.data.time
        self._known_at = project.data.leaks.known_at
        self._numeric = tuple(project.features.numeric)
        self.moments: dict[str, Moments] = {}
        self.late: dict[str, list[int]] = {name: [0, 0] for name in self._known_at}

    def take(self, batch: pa.RecordBatch, times: np.ndarray | None) -> None:
        """A batch of good rows with the columns of the schema; `times` of the rows, datetime64[us]."""
        for name in self._numeric:
            column = batch.column(name)
            if pa.types.is_floating(column.type):
                self.moments.setdefault(name, Moments()).add(column.to_numpy(zero_copy_only=False))
        for name, column_name in self._known_at.items():
            if times is None:
                continue
            known_at = instant_array(batch.column(column_name))
            there = np.asarray(batch.column(name).is_valid().to_numpy(zero_copy_only=False))
            both = there & ~np.isnat(known_at) & ~np.isnat(times)
            self.late[name][0] += int(both.sum())
            self.late[name][1] += int((known_at[both] > times[both]).sum())


@dataclass
class _Values:
    """Whole groups of rows that share a value of one column."""

    values: list[np.ndarray]
    labels: list[np.ndarray]
    train: list[np.ndarray]


class SecondLook:
    """Of the rows of all sides: samples, what is missing where there is no label, whole groups of equal values."""

    def __init__(self, project: Project, task: str, classes: int, rows_of_side: tuple[int, ...]) -> None:
        self._project, self._task, self._classes = project, task, classes
        self._rows = rows_of_side
        limits = (TRAIN_ROWS, OTHER_ROWS, OTHER_ROWS)
        self._shares = [min(1.0, limit / max(1, rows)) for limit, rows in zip(limits, rows_of_side, strict=True)]
        self._samples: list[list[pa.RecordBatch]] = [[] for _ in SPLITS]
        self._missing = {name: [0, 0] for name in project.features.names()}
        self._unlabelled = 0
        self._train_moments: dict[str, Moments] = {}
        self._encoded: dict[str, _Values | None] = {}
        features = project.features
        named = (*features.categorical, *features.text, *features.numeric) if self._shares[0] < 1.0 else ()
        self._repeats = Repeats(named, rows_of_side[0])
        self._value_share = min(1.0, _VALUE_ROWS / max(1, sum(rows_of_side)))

    def hidden(self, rows: pa.RecordBatch) -> None:
        """Rows of the training period without a label."""
        self._unlabelled += rows.num_rows
        for name, counts in self._missing.items():
            counts[1] += num_missing(rows.column(name))

    def take(self, side: int, rows: pa.RecordBatch, places: np.ndarray) -> None:
        """Rows of one side with their label in the column LABEL; `places` are their numbers among all rows."""
        labels = rows.column(rows.schema.get_field_index(LABEL)).to_numpy(zero_copy_only=False)
        if side == 0:
            for name, counts in self._missing.items():
                counts[0] += num_missing(rows.column(name))
            self._repeats.take(rows)
        for name in self._project.features.numeric:
            column = rows.column(name)
            if not pa.types.is_floating(column.type):
                continue
            values = column.to_numpy(zero_copy_only=False).astype(np.float64)
            if side == 0:
                self._train_moments.setdefault(name, Moments()).add(values)
            self._take_values(name, values, labels, side)
        share = self._shares[side]
        if share < 1.0:
            position = mix(places.astype(np.uint64)).astype(np.float64) / 2.0**64
            rows = rows.filter(pa.array(position < share))
        self._samples[side].append(rows)

    def sample(self, side: int) -> pa.Table:
        """At most 100,000 rows that train, 20,000 of another side."""
        return pa.Table.from_batches(self._samples[side])

    def findings(self, first: FirstLook, entities: dict[int, EntityOverlap]) -> tuple[LeakFinding, ...]:
        """All findings, worst first. `entities`: overlap of each later side with training."""
        leaks = self._project.data.leaks
        train = self.sample(0)
        labelled = self._rows[0]
        missing = {name: MissingCounts(labelled, a, self._unlabelled, b) for name, (a, b) in self._missing.items()}
        time = self._project.data.time
        of_features = scan_leaks(
            train,
            train[LABEL].to_numpy(),
            self._project.features,
            self._task,
            missing=missing,
            max_auc=leaks.max_auc,
            allow=leaks.reasons(),
            time=time if time and self._project.data.split.in_time else None,
            num_rows=labelled,
            repeated=self._repeats.names(),
        )
        rest = Findings(leaks.reasons())
        self._late(rest, first)
        self._fitted(rest, first, train)
        self._twins(rest, train)
        self._entities(rest, entities)
        return rank((*of_features, *rest.ranked()))

    def _take_values(self, name: str, values: np.ndarray, labels: np.ndarray, side: int) -> None:
        if name not in self._encoded:
            # Looked at once: an encoding repeats its values, and has fractions.
            known = values[np.isfinite(values)]
            repeats = len(known) > 0 and len(np.unique(known)) <= 0.8 * len(known) and bool(np.any(known % 1 != 0))
            self._encoded[name] = _Values([], [], []) if repeats else None
        kept = self._encoded[name]
        if kept is None:
            return
        chosen = mix(values.view(np.uint64), 1).astype(np.float64) / 2.0**64 < self._value_share
        kept.values.append(values[chosen])
        kept.labels.append(labels[chosen])
        kept.train.append(np.full(int(chosen.sum()), side == 0))

    def _late(self, findings: Findings, first: FirstLook) -> None:
        for name, (rows, late) in first.late.items():
            share = late / rows if rows else 0.0
            if late:
                column = self._project.data.leaks.known_at[name]
                why = (
                    f"{column} is later than {self._project.data.time} in {percent(late, rows)} of the rows: it is "
                    "known only after the moment of prediction"
                )
                findings.note(name, "known too late", share, _LATE, why, severe=share > _LATE)

    def _fitted(self, findings: Findings, first: FirstLook, train: pa.Table) -> None:
        for name, own in self._train_moments.items():
            sample = numbers(train, name)
            everything = first.moments.get(name, Moments())
            for why in (scaled_before_split(everything, own, sample), filled_before_split(everything, own, sample)):
                if why:
                    findings.note(name, "fitted on all rows", 1.0, SCALED, why, severe=False)
        for name, kept in self._encoded.items():
            if kept is None or not kept.values:
                continue
            values, labels, in_train = (np.concatenate(part) for part in (kept.values, kept.labels, kept.train))
            for target in self._targets(labels):
                why = encoded_label(values, target, in_train)
                if why:
                    findings.note(name, "encoded with its label", 1.0, 0.99, why, severe=True)

    def _targets(self, labels: np.ndarray) -> list[np.ndarray]:
        if self._task == "regression":
            return [labels.astype(np.float64)]
        wanted = [1] if self._classes == 2 else range(min(self._classes, 20))
        return [(labels == value).astype(np.float64) for value in wanted]

    def _twins(self, findings: Findings, train: pa.Table) -> None:
        split = self._project.data.split.by
        names = [name for name in self._project.features.names() if name not in self._project.features.image]
        for side in (2, 1):
            if not self._samples[side]:
                continue
            other = self.sample(side)
            columns = [[table[name].combine_chunks() for name in (*names, LABEL)] for table in (train, other)]
            twins = find_twins(columns[0], columns[1])
            about = f"of {twins.rows:,} {SPLITS[side]} rows looked at"
            seen = "" if self._shares[0] == 1.0 else f" (among {train.num_rows:,} of {self._rows[0]:,} training rows)"
            if twins.exact:
                why = f"{twins.exact:.2%} {about} repeat a training row in all features and the label{seen}"
                severe = split == "group" and twins.exact > _TWINS
                findings.note(ROWS, "twins across the split", twins.exact, _TWINS, why, severe=severe)
            if twins.near and twins.near > _TWINS:
                why = f"{twins.near:.2%} {about} differ from a training row in one feature at most{seen}"
                findings.note(ROWS, "near twins across the split", twins.near, _TWINS, why, severe=False)

    def _entities(self, findings: Findings, entities: dict[int, EntityOverlap]) -> None:
        data = self._project.data
        if data.split.by not in ("random", "stratified") or data.entity is None:
            return
        bound = data.leaks.max_auc
        for side, overlap in entities.items():
            if not overlap.share:
                continue
            severe = overlap.score > bound
            told = f"; its mean training label alone ranks their labels with {overlap.score:.3f}" if severe else ""
            why = f"{overlap.share:.1%} of the {SPLITS[side]} rows are of a {data.entity} that also trains{told}"
            findings.note(data.entity, "entity on both sides", overlap.score, bound, why, severe=severe)


def num_missing(array: pa.Array) -> int:
    """Nulls, and NaN of a float."""
    if pa.types.is_floating(array.type):
        return int(array.is_null(nan_is_null=True).to_numpy(zero_copy_only=False).sum())
    return int(array.null_count)
