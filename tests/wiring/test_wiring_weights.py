"""A weighted project from its file to its report: one process, real rows, a real network."""

import datetime
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from sklearn.metrics import roc_auc_score

from fairlead.bundle.calibration import Calibration
from fairlead.bundle.runtime import Predictor
from fairlead.dataset import LABEL, WEIGHT, PreparedData, fetch_prepared
from fairlead.records.codec import from_json
from fairlead.records.evaluation import Evaluation
from fairlead.wiring import steps
from fairlead.wiring.context import Context, open_context
from fairlead.wiring.drafts import fetch_draft
from fairlead.wiring.evaluate import baseline_data

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning:torch", "ignore::DeprecationWarning:onnxscript")
PROJECT: dict[str, Any] = {
    "project": "orders",
    "data": {
        "source": "rows.parquet",
        "label": {"column": "late", "task": "binary", "positive": "yes"},
        "time": "at",
        "weight": "worth",
        "split": {"by": "time", "validation": "2026-02-10", "test": "2026-02-20"},
        "validate": {"schema": "schema.yaml"},
        "leaks": {"allow": {"distance": "rows are made so"}},
    },
    "features": {"numeric": ["distance"], "categorical": ["plan"]},
    "train": {"launcher": "inprocess", "global_batch": 64, "epochs": 2, "preflight": False, "retraining_noise": False},
    "evaluate": {
        "bootstrap": 50,
        "slices": {"columns": ["plan"], "min_rows": 20},
        "gates": [
            {"metric": "auc", "min": 0.55},
            {"metric": "auc", "not_worse_than": "gradient_boosting", "margin": 0.2},
        ],
    },
}


def rows(count: int = 900, seed: int = 7) -> pa.Table:
    """Orders of sixty days. Those of plan "b" count fivefold, and there distance tells the opposite."""
    rng = np.random.default_rng(seed)
    plan, distance = rng.choice(["a", "b"], count), rng.normal(size=count).round(6)
    odds = 2.5 * np.where(plan == "a", distance, -distance) + rng.logistic(0, 1, count)
    first = datetime.datetime(2026, 1, 1)
    return pa.table(
        {
            "distance": distance,
            "plan": plan,
            "at": [first + datetime.timedelta(minutes=int(m)) for m in np.sort(rng.integers(0, 60 * 24 * 60, count))],
            "worth": np.where(plan == "b", 5.0, 1.0) * rng.integers(1, 5, count),
            "late": np.where(odds > 0, "yes", "no"),
        }
    )


class Run:
    """Prepared, trained and judged; nothing of it is made before it is asked for."""

    def __init__(self, base: Path, table: pa.Table, **data: Any) -> None:
        base.mkdir(exist_ok=True)
        pq.write_table(table, base / "rows.parquet")
        spec = {**PROJECT, "data": {**PROJECT["data"], **data}}
        (base / "fairlead.yaml").write_text(yaml.safe_dump(spec))
        self.context: Context = open_context(base / "fairlead.yaml", (), "one")
        source = steps.validate(self.context.to_json())["source_fingerprint"]
        self.prepared = steps.prepare(self.context.to_json(), source)

    @property
    def fingerprint(self) -> str:
        return str(self.prepared["fingerprint"])

    def data(self) -> PreparedData:
        return fetch_prepared(self.context.store, self.fingerprint, self.context.home / "cache" / "prepared")

    def judge(self) -> "Run":
        """Train and evaluate."""
        self.trained = steps.train(self.context.to_json(), self.fingerprint)
        self.judged = steps.evaluate(self.context.to_json(), self.fingerprint, self.trained["draft"])
        self.evaluation = from_json(Evaluation, (self.context.run_folder / "evaluation.json").read_bytes())
        sealed = self.context.run_folder / "bundle"
        self.calibration = Calibration.from_json((sealed / "calibration.json").read_bytes())
        return self

    def facts(self) -> dict[str, Any]:
        """All that was found, but for what a clock measured."""
        value = json.loads((self.context.run_folder / "evaluation.json").read_bytes())
        value["metrics"].pop("latency_ms")
        return {"evaluation": value, "weights": self.trained["weights_sha256"], "calibration": self.calibration}


def reweighted(table: pa.Table, factor: float) -> pa.Table:
    worth = pa.array(table["worth"].to_numpy() * factor)
    return table.set_column(table.column_names.index("worth"), "worth", worth)


def with_worthless_rows(table: pa.Table) -> pa.Table:
    """A fifth more rows at the same times, with features and labels of other rows and no weight."""
    chosen = np.sort(np.random.default_rng(9).choice(table.num_rows, table.num_rows // 5, replace=False))
    extra = table.take(pa.array(chosen))
    late = pa.array(["no" if value == "yes" else "yes" for value in extra["late"].to_pylist()])
    extra = reweighted(extra.set_column(extra.column_names.index("late"), "late", late), 0.0)
    order = np.argsort(np.concatenate([np.arange(table.num_rows), chosen + 0.5]), kind="stable")
    return pa.concat_tables([table, extra]).take(pa.array(order))


@pytest.fixture(scope="module")
def weighted(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("weighted"), rows()).judge()


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return Run(tmp_path_factory.mktemp("plain"), rows(), weight=None).judge()


def test_declared_weights_reach_everything_that_is_said_of_a_model(weighted: Run, plain: Run) -> None:
    mine, other = weighted.evaluation, plain.evaluation
    assert weighted.data().manifest.rows("train") == plain.data().manifest.rows("train")
    # The network, its calibration, its threshold.
    assert weighted.trained["weights_sha256"] != plain.trained["weights_sha256"]
    assert weighted.calibration.temperature != plain.calibration.temperature
    assert mine.threshold != other.threshold
    assert mine.calibration["log_loss_after"] <= mine.calibration["log_loss_before"]
    # Metrics: those of the served bundle on the test rows, by scikit-learn.
    test = weighted.data().table("test")
    predictor = Predictor.of_draft(fetch_draft(weighted.context, weighted.trained["draft"]))
    scores = weighted.calibration.apply(predictor.predict_table(test).logits)
    labels, weights = test[LABEL].to_numpy(), test[WEIGHT].to_numpy()
    assert mine.metrics["auc"].value == pytest.approx(roc_auc_score(labels, scores, sample_weight=weights))
    assert mine.metrics["auc"].value != pytest.approx(roc_auc_score(labels, scores))
    squares = (scores - labels) ** 2
    assert mine.metrics["brier"].value == pytest.approx(np.average(squares, weights=weights))
    # Intervals, slices, gates.
    for name, metric in mine.metrics.items():
        assert metric.interval != other.metrics[name].interval or name in ("latency_ms", "size_mb"), name
    on_b = chosen_rows(test, "b")
    by_slice = {value.slice: value.value for value in mine.slices if value.name == "brier"}
    assert by_slice["plan=b"] == pytest.approx(np.average(squares[on_b], weights=weights[on_b]))
    assert mine.gates[0].observed == mine.metrics["auc"].value
    assert mine.gates[1].observed == mine.differences["gradient_boosting"]["auc"].value
    assert mine.gates[1].observed != other.gates[1].observed
    # Baselines: fitted and judged by the weights.
    train = weighted.data().table("train")
    rate = np.average(train[LABEL].to_numpy(), weights=train[WEIGHT].to_numpy())
    majority = mine.baselines["majority"]["brier"].value
    assert majority == pytest.approx(np.average((rate - labels) ** 2, weights=weights))
    for name in ("one_rule", "gradient_boosting"):
        assert mine.baselines[name]["log_loss"].value != other.baselines[name]["log_loss"].value


def chosen_rows(table: pa.Table, plan: str) -> np.ndarray:
    return np.array(table["plan"].to_pylist()) == plan


def test_training_follows_the_weights_where_the_plans_disagree(weighted: Run, plain: Run) -> None:
    """The network learns first what the heavy rows say: on plan "b" it is ahead of the one that was told nothing."""

    def loss_on_b(run: Run) -> float:
        test = run.data().table("test")
        predictor = Predictor.of_draft(fetch_draft(run.context, run.trained["draft"]))
        logits, signs = predictor.predict_table(test).logits, 2 * test[LABEL].to_numpy() - 1
        return float(np.logaddexp(0, -signs * logits)[chosen_rows(test, "b")].mean())

    assert loss_on_b(weighted) < loss_on_b(plain)


def test_the_report_and_the_card_say_that_rows_count_differently(weighted: Run, plain: Run) -> None:
    worth = f"worth {weighted.evaluation.effective_rows:,.0f} equally weighted ones"
    assert worth in weighted.judged["report_markdown"]
    assert worth in (weighted.context.run_folder / "bundle" / "card.md").read_text()
    assert "equally weighted" not in plain.judged["report_markdown"]
    assert plain.evaluation.effective_rows is None


def test_twice_the_weights_train_and_judge_the_same_to_the_bit(weighted: Run, tmp_path: Path) -> None:
    doubled = Run(tmp_path / "doubled", reweighted(rows(), 2.0)).judge()
    assert doubled.facts() == weighted.facts()


def test_rows_of_weight_0_leave_the_prepared_data_as_it_is_without_them(weighted: Run, tmp_path: Path) -> None:
    (tmp_path / "zeros").mkdir()
    schema = (weighted.context.base / "schema.yaml").read_text()
    (tmp_path / "zeros" / "schema.yaml").write_text(schema)
    zeros = Run(tmp_path / "zeros", with_worthless_rows(rows()))
    assert zeros.fingerprint == weighted.fingerprint
    assert zeros.data().manifest.rows_left_out == rows().num_rows // 5
    assert "180 rows of weight 0 (worth) are left out" in zeros.prepared["report_markdown"]


@pytest.mark.parametrize(("weight", "how"), [("worth", "weights"), (None, "weights"), ("worth", "effective_number")])
def test_baselines_are_fitted_without_the_weights_of_the_classes(
    weight: str | None, how: str, weighted: Run, tmp_path: Path
) -> None:
    run = Run(tmp_path / "balanced", rows(), weight=weight, balance={"how": how})
    data = run.data()
    found = baseline_data(run.context, data, data.table("test"))
    if weight is None:
        assert WEIGHT in data.table("train").column_names
        assert found.train_weights is None
        return
    declared = weighted.data().table("train")[WEIGHT].to_numpy()
    assert found.train_weights is not None
    assert found.train_weights / found.train_weights.mean() == pytest.approx(declared)
    assert data.table("train")[WEIGHT].to_numpy() != pytest.approx(declared)
