"""Which task a label makes, and which labels are none."""

import pyarrow as pa
import pytest

from fairlead.data.labels import LabelCollector, Labels, unlabelled
from fairlead.errors import LabelProblem
from fairlead.spec.data import Label


def collected(values: list[object], **options: object) -> Labels:
    collector = LabelCollector(Label.model_validate({"column": "y", **options}))
    array = pa.array(values)
    for start in range(0, len(values), 7):
        collector.update(array.slice(start, 7))
    return collector.finish()


@pytest.mark.parametrize(
    ("values", "options", "task", "classes"),
    [
        ([True, False], {}, "binary", ("false", "true")),
        ([True, False], {"positive": False}, "binary", ("true", "false")),
        (["yes", "no"], {}, "binary", ("no", "yes")),
        (["bad", "good"], {"positive": "bad"}, "binary", ("good", "bad")),
        ([1, 0], {}, "binary", ("0", "1")),
        ([1.0, 0.0], {"positive": 1}, "binary", ("0", "1")),
        ([10, 9, 2], {}, "multiclass", ("2", "9", "10")),
        (["b", "a", "c"], {}, "multiclass", ("a", "b", "c")),
        ([1.5, 2.5, 3.5], {}, "regression", ()),
        (list(range(21)), {}, "regression", ()),
        (list(range(21)), {"task": "multiclass"}, "multiclass", tuple(str(i) for i in range(21))),
        ([1, 2, 3], {"task": "regression"}, "regression", ()),
    ],
)
def test_the_task_follows_from_type_and_number_of_values(
    values: list[object], options: dict[str, object], task: str, classes: tuple[str, ...]
) -> None:
    found = collected(values * 3, **options)
    assert (found.task, found.classes) == (task, classes)
    if classes:
        texts = [classes[code] for code in found.codes]
        assert texts[:3] == [str(v).lower().removesuffix(".0") for v in (values * 3)[:3]]
    else:
        assert found.codes.tolist() == [float(v) for v in values * 3]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("values", "options", "said"),
    [
        ([True] * 10, {}, "one value only: true"),
        (["a", "b", "c"], {"positive": "a"}, "has 3 values"),
        (["a", "b"], {"positive": "c"}, "no row has the positive value 'c'"),
        (["a", "b"], {"task": "regression"}, "is no number"),
        ([f"id{i}" for i in range(2000)], {}, "more than 1000 different values"),
        ([[1.0], [2.0]], {}, "holds list"),
    ],
)
def test_what_is_no_label_is_refused(values: list[object], options: dict[str, object], said: str) -> None:
    with pytest.raises(LabelProblem, match=said):
        collected(values, **options)


def test_no_label_at_all_is_refused() -> None:
    with pytest.raises(LabelProblem, match="no value in any good row"):
        LabelCollector(Label(column="y")).finish()


def test_null_and_nan_are_no_labels() -> None:
    assert unlabelled(pa.array([1.0, None, float("nan")])).tolist() == [False, True, True]
    assert unlabelled(pa.array(["a", None])).tolist() == [False, True]
