"""Baselines on the same rows, and the claim of a random split."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from fairlead.errors import EvaluationError
from fairlead.evaluate.baselines import NAMES, BaselineData, fit_baselines
from fairlead.evaluate.metrics import Scored, statistic
from fairlead.evaluate.tables import encode


def auc(rows: Scored) -> float:
    return float(statistic("auc", rows).at(np.ones((1, len(rows))))[0])


def table(seed: int, rows: int, extra: str = "z") -> tuple[pa.Table, np.ndarray]:
    """`word` decides most, `hour` and `x` something, `noise` nothing; each has missing values."""
    rng = np.random.default_rng(seed)
    x, noise = rng.normal(size=rows), rng.normal(size=rows)
    word = rng.choice(["a", "b", "c", extra], rows)
    hour = rng.integers(0, 24, rows)
    logit = 2.0 * (word == "a") - 1.5 * (word == "b") + 0.5 * x + 0.05 * (hour - 12)
    labels = (rng.random(rows) < 1 / (1 + np.exp(-logit))).astype(np.int64)
    gone = rng.random(rows) < 0.05
    at = [datetime.datetime(2013, 1, 1 + i % 28, int(h)).isoformat() for i, h in enumerate(hour)]
    columns = {
        "x": pa.array(np.where(gone, np.nan, x), from_pandas=True),
        "noise": pa.array(noise),
        "word": pa.array([None if g else w for g, w in zip(gone, word, strict=True)]),
        "at": pa.array([None if g else t for g, t in zip(gone, at, strict=True)]),
    }
    return pa.table(columns), labels


def data_of(train_rows: int = 2000, test_rows: int = 800) -> BaselineData:
    train, train_labels = table(1, train_rows)
    test, test_labels = table(2, test_rows, extra="never seen")
    return BaselineData(train, train_labels, test, test_labels, ("x", "noise"), ("word",), ("at",))


def test_baselines_are_ordered_as_they_should_be() -> None:
    found = fit_baselines(data_of(), "binary", 2, "f1", 7)
    assert set(found.scored) == set(NAMES)
    assert found.rule_feature == "word"
    assert auc(found.scored["majority"]) == 0.5
    assert abs(auc(found.scored["random"]) - 0.5) < 0.06
    assert auc(found.scored["gradient_boosting"]) > auc(found.scored["one_rule"]) > 0.65


def test_the_same_seed_gives_the_same_baselines() -> None:
    first, again = (fit_baselines(data_of(600, 200), "binary", 2, "f1", 3) for _ in range(2))
    for name in NAMES:
        assert np.array_equal(first.scored[name].scores, again.scored[name].scores)


def test_majority_says_the_training_rate_and_so_predicts_the_larger_class() -> None:
    data = data_of()
    majority = fit_baselines(data, "binary", 2, "f1", 7).scored["majority"]
    assert majority.scores == pytest.approx(np.full(800, data.train_labels.mean()))
    assert majority.threshold == 0.5


def test_values_unknown_in_training_and_timestamps_are_encoded() -> None:
    train, test = encode(data_of())
    assert [f.source for f in train.features] == ["x", "noise", "word", "at:hour", "at:weekday", "at:month"]
    word = test.matrix[:, 2]
    codes = np.unique(word[np.isfinite(word)])
    assert len(codes) == 4
    assert codes[-1] == len(set(data_of().train["word"].drop_null().to_pylist()))
    hours = train.matrix[:, 3]
    assert np.nanmin(hours) == 0
    assert np.nanmax(hours) == 23
    assert np.isnan(hours).any()


def test_declared_calendar_parts_are_used() -> None:
    data = data_of(300, 100)
    declared = BaselineData(**{**data.__dict__, "datetime": {"at": ("weekday",)}})
    assert [f.source for f in encode(declared)[0].features][-1] == "at:weekday"


def test_more_categories_than_boosting_takes_share_a_code() -> None:
    rng = np.random.default_rng(0)
    words = pa.array([f"w{i}" for i in rng.integers(0, 2000, 5000)])
    labels = rng.integers(0, 2, 5000)
    both = pa.table({"word": words})
    data = BaselineData(both, labels, both, labels, categorical=("word",))
    assert encode(data)[0].matrix.max() < 255
    assert fit_baselines(data, "binary", 2, "f1", 7).why == {}


def test_a_random_split_claims_more_than_a_split_by_time_when_days_differ() -> None:
    """Each day has its own level that only its number tells; a later day's is unknown when the split is by time."""
    rng = np.random.default_rng(4)
    day = np.repeat(np.arange(60), 50)
    labels = (rng.random(3000) < np.clip(0.5 + rng.normal(0, 0.35, 60), 0.02, 0.98)[day]).astype(np.int64)
    rows = pa.table({"day": pa.array(day), "noise": pa.array(rng.normal(size=3000))})
    cut = 40 * 50
    data = BaselineData(rows[:cut], labels[:cut], rows[cut:], labels[cut:], ("day", "noise"))
    found = fit_baselines(data, "binary", 2, "f1", 7)
    assert found.random_split_auc is not None
    assert auc(found.scored["gradient_boosting"]) < 0.6
    assert found.random_split_auc > 0.75


def test_several_classes_and_one_that_training_rows_lack() -> None:
    rng = np.random.default_rng(5)
    labels = rng.integers(0, 3, 900)
    rows = pa.table({"x": pa.array(labels + rng.normal(0, 0.3, 900))})
    train = labels < 2
    data = BaselineData(
        rows.filter(pa.array(train)), labels[train], rows.filter(pa.array(~train)), labels[~train], numeric=("x",)
    )
    found = fit_baselines(data, "multiclass", 3, "f1", 7)
    for name in NAMES:
        scores = found.scored[name].scores
        assert scores.shape == (int((~train).sum()), 3)
        assert scores.sum(axis=1) == pytest.approx(np.ones(len(scores)))
    assert found.random_split_auc is None


def test_a_regression_has_baselines_in_its_own_unit() -> None:
    rng = np.random.default_rng(6)
    x = rng.normal(size=1200)
    labels = 100 + 10 * x + rng.normal(0, 2, 1200)
    rows = pa.table({"x": pa.array(x)})
    data = BaselineData(rows[:800], labels[:800], rows[800:], labels[800:], numeric=("x",))
    found = fit_baselines(data, "regression", 0, "f1", 7)
    errors = {name: float(np.mean((r.scores - r.labels) ** 2)) for name, r in found.scored.items()}
    assert errors["gradient_boosting"] < errors["one_rule"] < errors["majority"] < errors["random"]


def test_pictures_are_taken_as_their_values() -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 400)
    pictures = rng.normal(size=(400, 1, 2, 2)) + labels[:, None, None, None]
    rows = pa.table({"image": pa.array(pictures.tolist())})
    data = BaselineData(rows[:300], labels[:300], rows[300:], labels[300:], image=("image",))
    assert auc(fit_baselines(data, "binary", 2, "f1", 7).scored["gradient_boosting"]) > 0.85


@pytest.mark.parametrize(
    ("labels", "why"), [(np.zeros(20), "one class only"), (np.full(20, np.nan), "no labelled training rows")]
)
def test_training_rows_that_teach_nothing_leave_all_baselines_out(labels: np.ndarray, why: str) -> None:
    rows = pa.table({"x": pa.array(np.arange(20.0))})
    data = BaselineData(rows, labels, rows, np.arange(20) % 2, numeric=("x",))
    found = fit_baselines(data, "binary", 2, "f1", 7)
    assert found.scored == {}
    assert all(why in reason for reason in found.why.values())


def test_without_features_the_two_that_need_none_remain() -> None:
    rows = pa.table({})
    labels = np.arange(40) % 2
    found = fit_baselines(BaselineData(rows, labels, rows, labels), "binary", 2, "f1", 7)
    assert set(found.scored) == {"random", "majority"}
    assert set(found.why) == {"one_rule", "gradient_boosting"}


def test_other_test_rows_than_the_models_are_refused() -> None:
    data = data_of(100, 50)
    with pytest.raises(EvaluationError, match="other rows than the model"):
        data.check(1.0 - data.test_labels)
    with pytest.raises(EvaluationError, match="lacks seats"):
        BaselineData(**{**data.__dict__, "numeric": ("seats",)}).check(data.test_labels.astype(float))
