"""What one pass over the training split accumulates for each feature, in bounded memory."""

import math
from collections import Counter
from collections.abc import Iterable

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from fairlead.errors import TransformError
from fairlead.features.categories import category_array
from fairlead.features.encoders import (
    CategoricalColumn,
    DatetimeColumn,
    ImageColumn,
    NumericColumn,
    numbers_of_array,
    refuse_infinite,
)
from fairlead.features.instants import wall_clock_array
from fairlead.features.kinds import kind_of
from fairlead.features.logarithm import signed_log
from fairlead.features.moments import Moments
from fairlead.features.ranges import RangeColumn
from fairlead.features.samples import BoundedSample
from fairlead.features.words import TextColumn, text_array, words_of
from fairlead.spec.features import Categorical, Datetime, Image, Numeric, Text

# A vocabulary counts at most this many different values at a time; the rarest half is forgotten when it is full.
MAX_COUNTED = 500_000
# A deviation this small beside the mean is rounding, not information.
_RELATIVE_ZERO = 1e-12


class NumericFit:
    """Mean, deviation, range, and (where quantiles are needed) a bounded sample. See `samples` for their error."""

    def __init__(self, name: str, options: Numeric) -> None:
        self.name, self.options = name, options
        self.kind = "float"
        self.missing = 0
        self._moments, self._logs = Moments(), Moments()
        needed = options.impute == "median" or options.clip is not None
        needed = needed or options.scale == "robust" or options.encode != "number"
        self._sample = BoundedSample(name) if needed else None

    def update(self, array: pa.Array) -> None:
        """Take a batch of the column. Raises TransformError for a type that is no number and for infinities."""
        self.kind = "bool" if pa.types.is_boolean(array.type) else "float"
        values = numbers_of_array(array, self.name)
        missing = np.isnan(values)
        present = values[~missing]
        self.missing += int(missing.sum())
        refuse_infinite(present, (self.name,))
        self._moments.update(present)
        if self.options.log:
            self._logs.update(signed_log(present))
        if self._sample is not None:
            self._sample.update(present)

    def finish(self) -> tuple[NumericColumn | RangeColumn, ...]:
        """The fitted columns: a number, its range, or both."""
        sample = self._sample.values() if self._sample is not None else np.empty(0)
        encode = self.options.encode
        columns: list[NumericColumn | RangeColumn] = []
        if encode != "buckets":
            columns.append(self._number(sample))
        if encode != "number":
            shares = np.arange(1, self.options.buckets) / self.options.buckets
            edges = np.unique(np.quantile(sample, shares)) if len(sample) else np.empty(0)
            columns.append(RangeColumn(self.name, self.kind, tuple(edges.tolist()), self.missing > 0))
        return tuple(columns)

    def _number(self, sample: np.ndarray) -> NumericColumn:
        """Centre and spread are those of the clipped values, as far as the sample knows them, and of their logarithms
        where these are taken."""
        options, moments = self.options, self._logs if self.options.log else self._moments
        raw = self._moments
        low = high = None
        used = sample
        if options.clip is not None and len(sample):
            low, high = (float(v) for v in np.quantile(sample, options.clip))
            used = np.clip(sample, low, high)
            raw = Moments()
            raw.update(used)
        elif options.scale == "minmax" and raw.count:
            low, high = raw.minimum, raw.maximum
        if options.log:
            used = signed_log(used)
        if options.clip is not None and len(sample):
            moments = Moments()
            moments.update(used)
        centre, spread = self._scaling(moments, used)
        impute = options.impute
        if impute == "median":
            fill = float(np.median(sample)) if len(sample) else 0.0
        elif impute == "mean":
            fill = raw.mean if raw.count else 0.0
        else:
            fill = 0.0 if impute == "zero" else float(impute)
        return NumericColumn(
            name=self.name,
            kind=self.kind,
            impute=fill,
            mean=centre,
            std=spread,
            standard=options.scale != "none",
            low=low,
            high=high,
            indicator=self.missing > 0,
            log=options.log,
        )

    def _scaling(self, moments: Moments, used: np.ndarray) -> tuple[float, float]:
        """(centre, spread) of what is scaled; 0 and 1 without values, spread 1 when all are the same."""
        scale = self.options.scale
        centre, spread = (moments.mean, moments.std) if moments.count else (0.0, 0.0)
        if scale == "minmax" and moments.count:
            centre, spread = moments.minimum, moments.maximum - moments.minimum
        elif scale == "robust" and len(used):
            first, centre, third = (float(v) for v in np.quantile(used, (0.25, 0.5, 0.75)))
            # Where half of the values are one and the same, the quartiles say nothing.
            spread = third - first if third > first else spread
        if not (math.isfinite(centre) and math.isfinite(spread)):
            raise TransformError(
                f"column {self.name}: its values are too large to scale", fix="clip or drop the column"
            )
        if spread <= _RELATIVE_ZERO * abs(centre) or spread == 0.0:
            spread = 1.0
        return (0.0, 1.0) if scale == "none" else (centre, spread)


class _Vocabulary:
    """Counts of values. Beyond `MAX_COUNTED` different values the rarest half is forgotten, so that the counts of
    values rarer than that are lower bounds; the frequent ones, which make the vocabulary, keep theirs."""

    def __init__(self, max_values: int) -> None:
        self._counts: dict[str, int] = {}
        self._bound = max(MAX_COUNTED, 2 * max_values)

    def update(self, found: Iterable[tuple[str, int]]) -> None:
        counts = self._counts
        for text, count in found:
            counts[text] = counts.get(text, 0) + count
        if len(counts) > self._bound:
            self._counts = dict(self._ordered()[: len(counts) // 2])

    def values(self, at_most: int, min_count: int) -> tuple[str, ...]:
        """In the order of their count, equal counts by spelling."""
        return tuple([text for text, count in self._ordered() if count >= min_count][:at_most])

    def _ordered(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))


class CategoricalFit:
    """Counts of the values, for a vocabulary; a hash needs none."""

    def __init__(self, name: str, options: Categorical) -> None:
        self.name, self.options = name, options
        self.kind = "string"
        self.missing = 0
        self._vocabulary = _Vocabulary(options.max_values)

    def update(self, array: pa.Array) -> None:
        """Take a batch of the column. Raises TransformError for a type that cannot be a category."""
        self.kind = kind_of(array.type) or "string"
        try:
            texts = category_array(array)
        except TypeError as error:
            raise TransformError(f"column {self.name}: {error}") from error
        self.missing += texts.null_count
        if self.options.encode == "hash":
            return
        found = pc.value_counts(texts.drop_null())
        self._vocabulary.update(zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True))

    def finish(self) -> tuple[CategoricalColumn, ...]:
        """The fitted column: values in the order of their count, equal counts by spelling."""
        if self.options.encode == "hash":
            return (CategoricalColumn(self.name, self.kind, (), self.options.buckets, self.missing > 0),)
        values = self._vocabulary.values(self.options.max_values, self.options.min_count)
        return (CategoricalColumn(self.name, self.kind, values, self.options.oov_buckets, self.missing > 0),)


class DatetimeFit:
    """Nothing but whether values are missing: calendar parts are known beforehand."""

    def __init__(self, name: str, options: Datetime) -> None:
        self.name, self.options = name, options
        self.missing = 0

    def update(self, array: pa.Array) -> None:
        """Take a batch of the column. Raises TransformError for what is no point in time."""
        try:
            clock = wall_clock_array(array)
        except (TypeError, ValueError) as error:
            raise TransformError(f"column {self.name}: {error}") from error
        self.missing += int(np.isnat(clock).sum())

    def finish(self) -> tuple[DatetimeColumn, ...]:
        """The fitted column."""
        return (DatetimeColumn(self.name, "timestamp", self.options.parts, self.missing > 0, self.options.encode),)


class TextFit:
    """Counts of the words."""

    def __init__(self, name: str, options: Text) -> None:
        self.name, self.options = name, options
        self.missing = 0
        self._vocabulary = _Vocabulary(options.max_values)

    def update(self, array: pa.Array) -> None:
        """Take a batch of the column. Raises TransformError for what is no text."""
        texts = text_array(array, self.name)
        self.missing += texts.null_count
        times = np.bincount(texts.indices.drop_null().to_numpy(), minlength=len(texts.dictionary)).tolist()
        counts: Counter[str] = Counter()
        for text, count in zip(texts.dictionary.to_pylist(), times, strict=True):
            for word in words_of(text, self.options.lowercase):
                counts[word] += count
        self._vocabulary.update(counts.items())

    def finish(self) -> tuple[TextColumn, ...]:
        """The fitted column."""
        options = self.options
        values = self._vocabulary.values(options.max_values, options.min_count)
        missing_seen = self.missing > 0
        return (
            TextColumn(self.name, values, options.max_tokens, options.oov_buckets, options.lowercase, missing_seen),
        )


class ImageFit:
    """Only checks the shape."""

    def __init__(self, name: str, options: Image) -> None:
        self.name = name
        self._column = ImageColumn(name, options.shape, options.scale)

    def update(self, array: pa.Array) -> None:
        """Take a batch of the column. Raises TransformError for blocks of another shape."""
        self._column.of_array(array)

    def finish(self) -> tuple[ImageColumn, ...]:
        """The fitted column."""
        return (self._column,)
