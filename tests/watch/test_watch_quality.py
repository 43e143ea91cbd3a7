"""Quality from labels that arrive later, late, twice, or for nobody."""

import datetime

import numpy as np
import pyarrow as pa
import pytest

from fairlead.errors import DataError
from fairlead.watch.quality import Joined, LabelCounts, join_feedback, quality_over_time

DAY = datetime.datetime(2013, 9, 1, tzinfo=datetime.UTC)
UTC = pa.timestamp("us", tz="UTC")


def at(hours: float) -> datetime.datetime:
    return DAY + datetime.timedelta(hours=hours)


def requests(rows: list[dict[str, object]]) -> pa.Table:
    usual = {
        "arm": "champion",
        "version": 2,
        "digest": "d2",
        "status": 200,
        "fallback": False,
        "label": "no",
        "score": 0.2,
    }
    filled = [{"request_id": f"r{i}", "time": at(i), **usual, **row} for i, row in enumerate(rows)]
    table = pa.Table.from_pylist(filled)
    for name, kind in (("time", UTC), ("label", pa.string())):
        table = table.set_column(table.schema.get_field_index(name), name, table[name].cast(kind))
    return table


def feedback(rows: list[tuple[str, str, float]]) -> pa.Table:
    columns = {
        "request_id": pa.array([r[0] for r in rows], pa.string()),
        "label": pa.array([r[1] for r in rows], pa.string()),
        "time": pa.array([at(r[2]) for r in rows], UTC),
    }
    return pa.table(columns)


def actual(joined: Joined) -> dict[str, object]:
    return dict(zip(joined.table["request_id"].to_pylist(), joined.table["actual"].to_pylist(), strict=True))


def test_the_first_label_counts_and_the_rest_is_counted() -> None:
    given = feedback([("r0", "no", 9), ("r0", "yes", 5), ("r0", "yes", 7), ("r9", "yes", 5)])
    joined = join_feedback(requests([{}, {}]), given)
    assert actual(joined) == {"r0": "yes", "r1": None}
    assert joined.counts == LabelCounts(used=1, duplicate=1, changed=1, late=0, unknown=1)


def test_a_late_label_is_counted_and_not_used() -> None:
    joined = join_feedback(requests([{}, {}]), feedback([("r0", "no", 3), ("r1", "no", 3)]), max_delay_seconds=7200)
    assert actual(joined) == {"r0": None, "r1": "no"}
    assert (joined.counts.used, joined.counts.late) == (1, 1)


def test_answers_that_are_nobodys_predictions_are_left_out() -> None:
    rows = requests([{}, {"fallback": True}, {"status": 503}])
    joined = join_feedback(rows, feedback([("r0", "no", 9), ("r1", "no", 9), ("r2", "no", 9)]))
    assert set(actual(joined)) == {"r0"}
    assert joined.counts.unknown == 2


def test_an_id_sent_twice_is_answered_once() -> None:
    rows = requests([{"request_id": "same", "score": 0.9}, {"request_id": "same", "score": 0.1}])
    joined = join_feedback(rows, feedback([("same", "yes", 9)]))
    assert joined.table["score"].to_pylist() == [0.9]


def test_metrics_per_arm_and_day_are_those_of_their_rows() -> None:
    rng = np.random.default_rng(0)
    rows, labels = [], []
    for i in range(400):
        score = float(rng.random())
        arm = "candidate" if i % 4 == 0 else "champion"
        version = 3 if arm == "candidate" else 2
        told = "yes" if score >= 0.5 else "no"
        rows.append(
            {"time": at(i / 10), "arm": arm, "version": version, "digest": f"d{version}", "score": score, "label": told}
        )
        labels.append((f"r{i}", "YES" if rng.random() < score else "No", 100.0))
    points = quality_over_time(join_feedback(requests(rows), feedback(labels)), "binary", ("no", "yes"))
    assert [(p.arm, p.version) for p in points] == [("candidate", 3), ("champion", 2)] * 2
    assert points[0].start == DAY.timestamp()
    assert points[2].start == DAY.timestamp() + 86_400
    assert sum(p.labelled for p in points) == 400
    first = [i for i in range(240) if i % 4 == 0]
    truth = np.array([labels[i][1] == "YES" for i in first])
    scores = np.array([rows[i]["score"] for i in first])
    assert points[0].accuracy == pytest.approx(np.mean((scores >= 0.5) == truth))
    assert points[0].loss == pytest.approx(np.mean((scores - truth) ** 2))
    pairs = [(a > b) + (a == b) / 2 for a in scores[truth] for b in scores[~truth]]
    assert points[0].auc == pytest.approx(np.mean(pairs))


def test_windows_without_labels_or_with_one_class_say_so() -> None:
    rows = requests([{}, {"time": at(30)}])
    first, second = quality_over_time(join_feedback(rows, feedback([("r0", "no", 2)])), "binary", ("no", "yes"))
    assert (first.labelled, first.accuracy, first.auc, first.why) == (1, 1.0, None, "labels of one class only")
    assert (second.predictions, second.labelled, second.loss, second.why) == (1, 0, None, "no usable label yet")


def test_a_label_that_is_no_class_is_not_used() -> None:
    (point,) = quality_over_time(join_feedback(requests([{}]), feedback([("r0", "maybe", 2)])), "binary", ("no", "yes"))
    assert point.labelled == 0


def test_a_regression_has_a_squared_error() -> None:
    rows = requests([{"score": 3.0, "label": None}, {"score": 5.0, "label": None}])
    given = feedback([("r0", "4.0", 9), ("r1", "what", 9)])
    (point,) = quality_over_time(join_feedback(rows, given), "regression")
    assert (point.labelled, point.loss) == (1, 1.0)


def test_several_classes_have_an_accuracy() -> None:
    rows = requests([{"label": "a"}, {"label": "b"}])
    given = feedback([("r0", "a", 9), ("r1", "c", 9)])
    (point,) = quality_over_time(join_feedback(rows, given), "multiclass", ("a", "b", "c"))
    assert point.accuracy == 0.5


def test_no_feedback_and_no_requests_are_no_error() -> None:
    assert join_feedback(requests([{}]), feedback([])).counts.used == 0
    empty = requests([{}]).slice(0, 0)
    joined = join_feedback(empty, feedback([("r0", "no", 1)]), max_delay_seconds=60)
    assert joined.counts.unknown == 1
    assert quality_over_time(joined, "binary", ("no", "yes")) == ()


def test_logs_with_missing_columns_and_wrong_options_are_refused() -> None:
    with pytest.raises(DataError, match="the request log lacks the column score"):
        join_feedback(requests([{}]).drop_columns(["score"]), feedback([]))
    joined = join_feedback(requests([{}]), feedback([]))
    with pytest.raises(DataError, match="two classes"):
        quality_over_time(joined, "binary", ("no",))
    with pytest.raises(DataError, match="above 0"):
        quality_over_time(joined, "binary", ("no", "yes"), 0)
