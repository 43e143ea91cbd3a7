"""The ``features`` section: which columns the model sees, and how each becomes numbers."""

import difflib
from collections.abc import Mapping
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from fairlead.spec.quantities import Section
from fairlead.spec.quantities import is_value as _is

Number = Annotated[float, Field(allow_inf_nan=False)]
T = TypeVar("T", bound=Section)


class Numeric(Section):
    """A number: missing values imputed (with an indicator when any were missing), clipped, logarithm taken, scaled; or
    the number of the range that holds it. The steps happen in this order."""

    impute: Literal["mean", "median", "zero"] | Number = Field("median", description="What stands for a missing value.")
    clip: tuple[float, float] | None = Field(
        None, description="Quantiles of the training split to clip at, e.g. [0.001, 0.999]."
    )
    log: bool = Field(False, description="Take sign(x) ln(1 + |x|) before scaling.", exclude_if=_is(False))
    scale: Literal["standard", "robust", "minmax", "none"] = Field(
        "standard",
        description=(
            "standard: (x - mean) / std of the training split. robust: (x - median) / interquartile range. "
            "minmax: from 0 at the smallest value of the training split to 1 at its largest, never beyond."
        ),
    )
    encode: Literal["number", "buckets", "both"] = Field(
        "number",
        description="buckets: a category instead, which range of equal share of the training split holds it.",
        exclude_if=_is("number"),
    )
    buckets: int = Field(10, ge=2, le=1000, description="buckets, both: number of ranges.", exclude_if=_is(10))

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.clip is not None and not 0 <= self.clip[0] < self.clip[1] <= 1:
            raise ValueError("clip takes two rising shares between 0 and 1, such as [0.01, 0.99]")
        if self.encode == "number" and "buckets" in self.model_fields_set:
            raise ValueError("buckets needs encode: buckets or encode: both")
        return self


class Categorical(Section):
    """A category: an index into the training split's vocabulary, or a hash bucket. Missing has an index of its own."""

    encode: Literal["vocabulary", "hash"] = Field("vocabulary", description="How a value becomes an index.")
    max_values: int = Field(10_000, ge=1, description="Vocabulary: the most frequent values that get an index.")
    min_count: int = Field(1, ge=1, description="Vocabulary: rarer values are out of vocabulary.")
    oov_buckets: int = Field(1, ge=1, description="Indices shared by values out of vocabulary, by hash.")
    buckets: int = Field(1024, ge=2, description="hash: number of buckets.")


class Datetime(Section):
    """A point in time: calendar parts as it was written, without conversion between zones."""

    parts: tuple[Literal["hour", "minute", "weekday", "day", "month", "dayofyear", "week"], ...] = Field(
        ("hour", "weekday", "month"), min_length=1, description="Calendar parts."
    )
    encode: Literal["category", "cyclic", "both"] = Field(
        "category",
        description=(
            "category: each part is a category. cyclic: each part is two numbers, the sine and cosine of its place in "
            "its period, so that 23 h is as near to 0 h as 1 h is."
        ),
        exclude_if=_is("category"),
    )


class Text(Section):
    """A text: its words as indices into the training split's vocabulary, cut or padded to a fixed number of them."""

    max_tokens: int = Field(32, ge=1, le=4096, description="Words that are kept; shorter texts are padded with 0.")
    max_values: int = Field(20_000, ge=1, description="The most frequent words that get an index.")
    min_count: int = Field(1, ge=1, description="Rarer words are out of vocabulary.")
    oov_buckets: int = Field(1, ge=1, description="Indices shared by words out of vocabulary, by hash.")
    lowercase: bool = Field(True, description="Words that differ in case only are the same word.")


class Cross(Section):
    """Categories taken together: each combination is a category of its own."""

    of: tuple[str, ...] = Field(
        min_length=2,
        max_length=4,
        description=(
            "What is crossed: categories, calendar parts (at.hour), and numbers with encode: buckets or both."
        ),
    )
    buckets: int = Field(
        1024,
        ge=2,
        description="Combinations that get an index of their own when they are this few; else hash buckets they share.",
    )


class Image(Section):
    """A picture or another fixed-shape block of numbers, in a list column."""

    shape: tuple[int, ...] = Field(description="Channels, height, width.", min_length=2, max_length=3)
    scale: float = Field(1.0, gt=0, description="Values are divided by this.")


class Features(Section):
    """Lists of names take the defaults; a mapping gives options per column."""

    numeric: tuple[str, ...] | dict[str, Numeric] = Field((), description="Numbers.")
    categorical: tuple[str, ...] | dict[str, Categorical] = Field((), description="Categories.")
    datetime: tuple[str, ...] | dict[str, Datetime] = Field((), description="Points in time.")
    image: dict[str, Image] = Field(default_factory=dict, description="Pictures.")
    text: tuple[str, ...] | dict[str, Text] = Field((), description="Texts.", exclude_if=lambda value: not value)
    crosses: dict[str, Cross] = Field(
        default_factory=dict,
        description="Categories made of several others, each under a name of its own.",
        exclude_if=_is({}),
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        names = [*self.names(), *self.crosses]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"listed twice: {', '.join(twice)}")
        if not names:
            raise ValueError("name at least one feature")
        known = self._crossable()
        for cross, options in self.crosses.items():
            if len(set(options.of)) < len(options.of):
                raise ValueError(f"crosses.{cross} names a category twice")
            for part in options.of:
                if part not in known:
                    near = difflib.get_close_matches(part, known, 1)
                    hint = f"did you mean {near[0]}?" if near else f"one of {', '.join(known) or 'none'}"
                    raise ValueError(f"crosses.{cross} names {part}, which is no category; {hint}")
        return self

    def _crossable(self) -> list[str]:
        """What can be crossed: the categories that the other features give."""
        moments = self.datetime_options().items()
        return [
            *self.categorical,
            *(f"{name}.{part}" for name, options in moments if options.encode != "cyclic" for part in options.parts),
            *(name for name, options in self.numeric_options().items() if options.encode != "number"),
        ]

    def names(self) -> tuple[str, ...]:
        """All feature columns, in the order numeric, categorical, datetime, image, text."""
        return (*self.numeric, *self.categorical, *self.datetime, *self.image, *self.text)

    def numeric_options(self) -> dict[str, Numeric]:
        """Options of each numeric column."""
        return _options(self.numeric, Numeric)

    def categorical_options(self) -> dict[str, Categorical]:
        """Options of each categorical column."""
        return _options(self.categorical, Categorical)

    def datetime_options(self) -> dict[str, Datetime]:
        """Options of each datetime column."""
        return _options(self.datetime, Datetime)

    def text_options(self) -> dict[str, Text]:
        """Options of each text column."""
        return _options(self.text, Text)


def _options(given: tuple[str, ...] | Mapping[str, T], section: type[T]) -> dict[str, T]:
    return {name: section() for name in given} if isinstance(given, tuple) else dict(given)
