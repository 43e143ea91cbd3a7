"""What one pass over the training split accumulates for each feature, in bounded memory."""

import math

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
from fairlead.features.moments import Moments
from fairlead.features.samples import BoundedSample
from fairlead.spec.features import Categorical, Datetime, Image, Numeric

# A vocabulary counts at most this many different values at a time; the rarest half is forgotten when it is full.
MAX_COUNTED = 500_000
# A deviation this small beside the mean is rounding, not information.
_RELATIVE_ZERO = 1e-12


class NumericFit:
    """Mean, deviation, and (for a median or clipping) a bounded sample. See `samples` for the error of quantiles."""

    def __init__(self, name: str, options: Numeric) -> None:
        self.name, self.options = name, options
        self.kind = "float"
        self.missing = 0
        self._moments = Moments()
        needed = options.impute == "median" or options.clip is not None
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
        if self._sample is not None:
            self._sample.update(present)

    def finish(self) -> NumericColumn:
        """The fitted column. Mean and deviation are of the clipped values, as far as the sample knows them."""
        moments, sample = self._moments, self._sample.values() if self._sample is not None else np.empty(0)
        low = high = None
        if self.options.clip is not None and len(sample):
            low, high = (float(v) for v in np.quantile(sample, self.options.clip))
            moments = Moments()
            moments.update(np.clip(sample, low, high))
        mean, std = (moments.mean, moments.std) if moments.count else (0.0, 0.0)
        if not (math.isfinite(mean) and math.isfinite(std)):
            raise TransformError(
                f"column {self.name}: its values are too large to scale", fix="clip or drop the column"
            )
        if std <= _RELATIVE_ZERO * abs(mean) or std == 0.0:
            std = 1.0
        impute = self.options.impute
        if impute == "median":
            fill = float(np.median(sample)) if len(sample) else 0.0
        elif impute == "mean":
            fill = mean
        else:
            fill = 0.0 if impute == "zero" else float(impute)
        standard = self.options.scale == "standard"
        return NumericColumn(
            name=self.name,
            kind=self.kind,
            impute=fill,
            mean=mean if standard else 0.0,
            std=std if standard else 1.0,
            standard=standard,
            low=low,
            high=high,
            indicator=self.missing > 0,
        )


class CategoricalFit:
    """Counts of the values. Beyond `MAX_COUNTED` different values the rarest half is forgotten, so that the counts of
    values rarer than that are lower bounds; the frequent ones, which make the vocabulary, keep theirs."""

    def __init__(self, name: str, options: Categorical) -> None:
        self.name, self.options = name, options
        self.kind = "string"
        self.missing = 0
        self._counts: dict[str, int] = {}

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
        counts = self._counts
        found = pc.value_counts(texts.drop_null())
        for text, count in zip(found.field(0).to_pylist(), found.field(1).to_pylist(), strict=True):
            counts[text] = counts.get(text, 0) + count
        if len(counts) > max(MAX_COUNTED, 2 * self.options.max_values):
            self._counts = dict(self._ordered()[: len(counts) // 2])

    def finish(self) -> CategoricalColumn:
        """The fitted column: values in the order of their count, equal counts by spelling."""
        if self.options.encode == "hash":
            return CategoricalColumn(self.name, self.kind, (), self.options.buckets, self.missing > 0)
        kept = [text for text, count in self._ordered() if count >= self.options.min_count]
        values = tuple(kept[: self.options.max_values])
        return CategoricalColumn(self.name, self.kind, values, self.options.oov_buckets, self.missing > 0)

    def _ordered(self) -> list[tuple[str, int]]:
        return sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))


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

    def finish(self) -> DatetimeColumn:
        """The fitted column."""
        return DatetimeColumn(self.name, "timestamp", self.options.parts, self.missing > 0)


class ImageFit:
    """Only checks the shape."""

    def __init__(self, name: str, options: Image) -> None:
        self.name = name
        self._column = ImageColumn(name, options.shape, options.scale)

    def update(self, array: pa.Array) -> None:
        """Take a batch of the column. Raises TransformError for blocks of another shape."""
        self._column.of_array(array)

    def finish(self) -> ImageColumn:
        """The fitted column."""
        return self._column
