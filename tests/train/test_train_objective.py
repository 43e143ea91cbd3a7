"""What outputs mean."""

import math

import numpy as np
import pytest
import torch
from sklearn.metrics import roc_auc_score

from fairlead.errors import TrainError
from fairlead.train.objective import Objective, auc, objective_for


def test_a_network_that_gives_zero_answers_the_base_rate() -> None:
    objective = objective_for("binary", 2, [np.array([0, 0, 0, 1]), np.array([0, 0, 1, 0])])
    answer = torch.sigmoid(objective.output(torch.zeros(3), 3))
    assert answer.tolist() == pytest.approx([2.5 / 9] * 3)
    objective = objective_for("multiclass", 3, [np.array([0] * 60 + [1] * 30 + [2] * 10)])
    shares = torch.softmax(objective.output(torch.zeros(1, 3), 1), dim=1)[0]
    assert shares.tolist() == pytest.approx([0.6, 0.3, 0.1], abs=0.01)


def test_regression_works_on_the_standardised_label_and_answers_in_its_unit() -> None:
    labels = np.random.default_rng(1).normal(1e6, 2.0, size=5000)
    objective = objective_for("regression", 0, [labels[:100], labels[100:1000], labels[1000:]])
    assert objective.scale == pytest.approx(labels.std(), rel=1e-9)
    assert objective.offset[0] == pytest.approx(labels.mean(), rel=1e-12)
    loss = objective.loss(torch.zeros(5000), torch.from_numpy(labels))
    assert loss.dtype == torch.float32
    assert float(loss.mean()) == pytest.approx(1.0, rel=1e-4)
    assert float(objective.output(torch.ones(1), 1)) == pytest.approx(labels.mean() + labels.std(), abs=0.1)


def test_a_constant_label_has_scale_one() -> None:
    assert objective_for("regression", 0, [np.full(10, 3.7)]).scale == 1.0


def test_members_are_judged_one_by_one_and_answer_with_their_mean() -> None:
    objective = Objective("binary", 2, 1.0, (0.0,))
    members = torch.tensor([[2.0, -2.0], [0.0, 0.0]])
    labels = torch.tensor([1.0, 1.0])
    expected = [(math.log1p(math.exp(-2)) + math.log(2)) / 2, (math.log1p(math.exp(2)) + math.log(2)) / 2]
    assert objective.loss(members, labels).tolist() == pytest.approx(expected)
    assert objective.output(members, 2).tolist() == [1.0, -1.0]


@pytest.mark.parametrize(("shape", "rows"), [((5,), 5), ((5, 1), 5), ((3, 5), 5), ((1, 1), 1)])
def test_binary_networks_may_answer_in_three_shapes(shape: tuple[int, ...], rows: int) -> None:
    objective = Objective("binary", 2, 1.0, (0.0,))
    assert objective.output(torch.zeros(shape), rows).shape == (rows,)


@pytest.mark.parametrize(
    ("task", "shape"), [("binary", (5, 2)), ("binary", (4,)), ("multiclass", (5,)), ("multiclass", (5, 2))]
)
def test_other_shapes_are_refused_with_the_shape_that_is_needed(task: str, shape: tuple[int, ...]) -> None:
    objective = Objective(task, 3, 1.0, (0.0,) * 3)
    with pytest.raises(TrainError, match=r"needs \[5"):
        objective.loss(torch.zeros(shape), torch.zeros(5))


@pytest.mark.parametrize("digits", [1, 8])
def test_auc_is_that_of_scikit_learn_with_and_without_ties(digits: int) -> None:
    random = np.random.default_rng(digits)
    labels = (random.random(500) < 0.3).astype(np.float32)
    scores = np.round(random.normal(size=500) + labels, digits).astype(np.float32)
    assert auc(scores, labels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-12)


def test_weights_are_repeated_rows_for_the_objective_and_the_auc() -> None:
    random = np.random.default_rng(7)
    times = random.integers(0, 4, 400)
    for task, labels in (("binary", random.integers(0, 2, 400)), ("regression", random.normal(5, 3, 400))):
        weighted = objective_for(task, 2, [labels[:150], labels[150:]], [times[:150], times[150:]])
        repeated = objective_for(task, 2, [np.repeat(labels, times)])
        assert weighted.offset == pytest.approx(repeated.offset)
        assert weighted.scale == pytest.approx(repeated.scale)
    labels = (random.random(400) < 0.3).astype(np.float32)
    scores = np.round(random.normal(size=400) + labels, 1).astype(np.float32)
    expected = auc(np.repeat(scores, times), np.repeat(labels, times))
    assert auc(scores, labels, times) == pytest.approx(expected, abs=1e-12)
    assert auc(scores, labels, labels) is None


def test_auc_of_one_class_is_none() -> None:
    assert auc(np.array([0.1, 0.2]), np.array([1.0, 1.0])) is None


@pytest.mark.parametrize(("task", "classes"), [("ranking", 2), ("binary", 2), ("multiclass", 2)])
def test_unknown_tasks_and_labels_out_of_range_are_refused(task: str, classes: int) -> None:
    with pytest.raises(TrainError, match=r"there is no task|outside 0 to 1"):
        objective_for(task, classes, [np.array([0, 1, 2])])


def test_no_rows_are_refused() -> None:
    with pytest.raises(TrainError, match="no rows"):
        objective_for("regression", 0, [np.empty(0)])
