"""All columns of a fitted transform, and what they take and give."""

from dataclasses import dataclass

from fairlead.errors import TransformError
from fairlead.features.crosses import CrossColumn
from fairlead.features.encoders import CategoricalColumn, DatetimeColumn, ImageColumn, NumericColumn
from fairlead.features.ranges import RangeColumn
from fairlead.features.words import TextColumn, columns_of
from fairlead.records.model import Field

_DATATYPES = {"int": "INT64", "float": "FP64", "bool": "BOOL", "string": "BYTES", "timestamp": "BYTES"}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One tensor of the transform. `shape` is per row; `columns` names the last axis (empty for images);
    `cardinalities` is the number of indices of each categorical column, or of each place of a text."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    columns: tuple[str, ...] = ()
    cardinalities: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Columns:
    """Fitted columns by kind. A name in both `numeric` and `ranges` is one raw column that gives both."""

    numeric: tuple[NumericColumn, ...] = ()
    categorical: tuple[CategoricalColumn, ...] = ()
    datetime: tuple[DatetimeColumn, ...] = ()
    image: ImageColumn | None = None
    ranges: tuple[RangeColumn, ...] = ()
    crosses: tuple[CrossColumn, ...] = ()
    text: tuple[TextColumn, ...] = ()

    @property
    def numbers(self) -> tuple[str, ...]:
        """The raw columns of numbers; those of `numeric` come first, in its order."""
        return tuple(dict.fromkeys([c.name for c in self.numeric] + [c.name for c in self.ranges]))

    @property
    def cyclic(self) -> tuple[DatetimeColumn, ...]:
        """Points in time that give points on circles."""
        return tuple(c for c in self.datetime if c.encode != "category")

    @property
    def coded(self) -> tuple[DatetimeColumn, ...]:
        """Points in time that give categories."""
        return tuple(c for c in self.datetime if c.encode != "cyclic")

    @property
    def fields(self) -> tuple[Field, ...]:
        """The raw inputs. A field is required when it was never missing in the training split."""
        of_number = {c.name: (c.kind, c.missing_seen) for c in self.ranges}
        of_number |= {c.name: (c.kind, c.indicator) for c in self.numeric}
        known = [(name, of_number[name]) for name in self.numbers]
        numbers = [Field(n, k, "BOOL" if k == "bool" else "FP64", required=not seen) for n, (k, seen) in known]
        categories = [
            Field(c.name, c.kind, _DATATYPES.get(c.kind, "BYTES"), required=not c.missing_seen)
            for c in self.categorical
        ]
        moments = [Field(c.name, c.kind, "BYTES", required=not c.missing_seen) for c in self.datetime]
        images = [Field(self.image.name, "tensor", "FP32", self.image.shape, True)] if self.image is not None else []
        texts = [Field(c.name, "string", "BYTES", required=not c.missing_seen) for c in self.text]
        return (*numbers, *categories, *moments, *images, *texts)

    @property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """The tensors that the transform gives, in the order numeric, categorical, image, text."""
        out = []
        names = [c.name for c in self.numeric]
        names += [f"{c.name} is missing" for c in self.numeric if c.indicator]
        names += [f"{c.name}.{part}.{axis}" for c in self.cyclic for part in c.parts for axis in ("sin", "cos")]
        if names:
            out.append(TensorSpec("numeric", "float32", (len(names),), tuple(names)))
        sizes = self.cardinalities
        if sizes:
            out.append(TensorSpec("categorical", "int64", (len(sizes),), tuple(sizes), tuple(sizes.values())))
        if self.image is not None:
            out.append(TensorSpec("image", "float32", self.image.shape))
        if self.text:
            places = tuple(c.cardinality for c in self.text for _ in range(c.max_tokens))
            out.append(TensorSpec("text", "int64", (len(places),), columns_of(self.text), places))
        return tuple(out)

    @property
    def cardinalities(self) -> dict[str, int]:
        """The number of indices of each column of the tensor `categorical`, by name and in its order."""
        sizes = {c.name: c.cardinality for c in self.categorical}
        for c in self.coded:
            sizes |= {f"{c.name}.{part}": size for part, size in zip(c.parts, c.cardinalities, strict=True)}
        sizes |= {c.name: c.cardinality for c in self.ranges}
        return sizes | {c.name: c.cardinality for c in self.crosses}


def crossed(columns: Columns, of: tuple[str, ...], name: str) -> tuple[int, ...]:
    """How many present indices each part of a cross has. Raises TransformError for a part that is no category."""
    known = columns.cardinalities
    absent = [part for part in of if part not in known]
    if absent:
        raise TransformError(
            f"the cross {name} names {', '.join(absent)}, which is no category", where=f"crosses.{name}"
        )
    return tuple(known[part] - 1 for part in of)
