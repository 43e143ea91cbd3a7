"""Calibrations: the formulas at their edges, and what is no calibration."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fairlead.bundle.calibration import Calibration, sigmoid, softmax

LOGITS = st.lists(st.floats(-1e4, 1e4), min_size=1, max_size=20)


def test_sigmoid_is_exact_at_the_middle_and_saturates_without_a_warning() -> None:
    values = sigmoid(np.asarray([0.0, 1e6, -1e6, np.log(3.0)], np.float32))
    assert values.dtype == np.float64
    assert values[:3].tolist() == [0.5, 1.0, 0.0]
    assert values[3] == pytest.approx(0.75, abs=1e-7)


@given(LOGITS)
def test_sigmoid_is_symmetric_and_rises(values: list[float]) -> None:
    logits = np.sort(np.asarray(values))
    scores = sigmoid(logits)
    assert ((scores >= 0) & (scores <= 1)).all()
    assert (np.diff(scores) >= 0).all()
    assert np.allclose(scores + sigmoid(-logits), 1.0, atol=1e-15)


@given(LOGITS, st.floats(-1e3, 1e3))
def test_softmax_sums_to_one_and_does_not_see_a_shift(values: list[float], shift: float) -> None:
    logits = np.asarray([values])
    scores = softmax(logits)
    assert scores.sum() == pytest.approx(1.0, abs=1e-12)
    assert np.allclose(scores, softmax(logits + shift), atol=1e-9)


def test_softmax_of_two_classes_is_the_sigmoid_of_their_difference() -> None:
    logits = np.random.default_rng(1).normal(0, 5, (50, 2))
    assert np.allclose(softmax(logits)[:, 1], sigmoid(logits[:, 1] - logits[:, 0]), atol=1e-15)


def test_a_temperature_divides_the_logits() -> None:
    logits = np.asarray([-2.0, 0.0, 3.0])
    assert np.array_equal(Calibration("temperature", "binary", 2.0).apply(logits), sigmoid(logits / 2))
    rows = np.asarray([[1.0, 2.0, 3.0]])
    assert np.array_equal(Calibration("temperature", "multiclass", 0.5).apply(rows), softmax(rows * 2))


def test_isotonic_interpolates_between_knots_and_is_flat_outside() -> None:
    calibration = Calibration("isotonic", x=(-1.0, 0.0, 2.0), y=(0.1, 0.1, 0.9))
    assert calibration.apply(np.asarray([-9.0, -0.5, 1.0, 9.0])).tolist() == pytest.approx([0.1, 0.1, 0.5, 0.9])


def test_a_regression_passes_unchanged() -> None:
    values = np.asarray([-7.5, 1e9])
    assert np.array_equal(Calibration(task="regression").apply(values), values)


@pytest.mark.parametrize(
    "calibration",
    [
        Calibration(),
        Calibration(task="regression"),
        Calibration("temperature", "multiclass", 1.3721),
        Calibration("isotonic", x=(-1.5, 0.25), y=(0.0, 1.0)),
    ],
)
def test_json_and_back_is_the_same(calibration: Calibration) -> None:
    assert Calibration.from_json(calibration.to_json()) == calibration


@pytest.mark.parametrize(
    "options",
    [
        {"kind": "beta"},
        {"task": "ranking"},
        *({"kind": "temperature", "temperature": value} for value in (0.0, -1.0, float("nan"), float("inf"))),
        {"kind": "temperature", "task": "regression"},
        {"kind": "isotonic"},
        {"kind": "isotonic", "task": "multiclass", "x": (0.0,), "y": (0.5,)},
        *(
            {"kind": "isotonic", "x": x, "y": y}
            for x, y in (
                *(((0.0, 1.0), (0.5,)), ((1.0, 0.0), (0.1, 0.2)), ((0.0, 0.0), (0.1, 0.2)), ((0.0, 1.0), (0.2, 0.1))),
                *(((0.0,), (1.1,)), ((0.0,), (-0.1,)), ((float("nan"),), (0.5,)), ((0.0,), (float("nan"),))),
            )
        ),
    ],
    ids=str,
)
def test_what_is_no_calibration_is_refused(options: dict[str, object]) -> None:
    with pytest.raises(ValueError):
        Calibration(**options)  # type: ignore[arg-type]
