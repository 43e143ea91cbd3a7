"""The leak scan names what is only known afterwards, and leaves honest features alone."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.data.leaks import MissingCounts, refuse_leaks, scan_leaks
from fairlead.data.prepare import PrepareResult, prepare_data
from fairlead.errors import LeakFound
from fairlead.records.data import LeakFinding
from fairlead.spec.features import Features
from fairlead.spec.project import Project

NUMERIC = ["distance", "temp", "dewp", "humid", "wind_dir", "wind_speed", "wind_gust", "precip", "pressure", "visib"]
CATEGORICAL = ["carrier", "origin", "dest", "engine", "manufacturer", "tailnum"]
KNOWN_AFTERWARDS = ["dep_time", "dep_delay", "arr_time", "air_time"]


def flights(**changes: object) -> Project:
    data: dict[str, object] = {
        "source": "data/*.parquet",
        "label": {"column": "late", "positive": True},
        "time": "scheduled_at",
        "split": {"by": "time", "validation": "2013-03-01", "test": "2013-04-01"},
    }
    features: dict[str, object] = {
        "numeric": [*NUMERIC, "plane_year", "seats", "flight"],
        "categorical": CATEGORICAL,
        "datetime": {"scheduled_at": {"parts": ["hour", "minute", "weekday", "day", "month"]}},
    }
    for key, value in changes.items():
        (features if key in features else data)[key] = value
    return Project.model_validate({"project": "flights", "data": data, "features": features})


def prepared(folder: Path, project: Project, out: Path) -> PrepareResult:
    return prepare_data(project, folder, out)


def severe(findings: tuple[LeakFinding, ...]) -> set[str]:
    return {finding.feature for finding in findings if finding.severe}


def scan(columns: dict[str, object], labels: np.ndarray, task: str = "binary", **features: object) -> set[str]:
    found = scan_leaks(
        pa.table(columns),
        labels,
        Features.model_validate(features or {"numeric": list(columns)}),
        task,
        missing={},
        max_auc=0.85,
        allow=(),
    )
    return severe(found)


def test_honest_features_of_flights_are_not_flagged(flights_folder: Path, tmp_path: Path) -> None:
    result = prepared(flights_folder, flights(), tmp_path)
    assert result.leaks == ()
    assert result.manifest.task == "binary"


def test_what_is_known_only_after_a_flight_is_refused(flights_folder: Path, tmp_path: Path) -> None:
    project = flights(numeric=[*NUMERIC, *KNOWN_AFTERWARDS])
    with pytest.raises(LeakFound) as caught:
        prepared(flights_folder, project, tmp_path)
    named = caught.value.what.split(": ")[1].split(", ")
    assert set(named) == set(KNOWN_AFTERWARDS)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("by", ["time", "random", "time+group"])
def test_of_the_whole_extract_the_four_leaks_are_severe_and_nothing_else(
    by: str, flights_folder: Path, tmp_path: Path
) -> None:
    split: dict[str, object] = {"by": by}
    if by != "random":
        split |= {"validation": "2013-03-01", "test": "2013-04-01"}
    reasons = dict.fromkeys(KNOWN_AFTERWARDS, "to see what else is found")
    everything = [*NUMERIC, "plane_year", "seats", "flight", *KNOWN_AFTERWARDS]
    project = flights(numeric=everything, entity="tailnum", split=split, leaks={"allow": reasons})
    result = prepared(flights_folder, project, tmp_path)
    assert severe(result.leaks) == set(KNOWN_AFTERWARDS)
    told = {(finding.feature, finding.kind) for finding in result.leaks if finding.feature not in KNOWN_AFTERWARDS}
    assert told == ({("tailnum", "entity on both sides")} if by == "random" else set())


@pytest.mark.parametrize("feature", KNOWN_AFTERWARDS)
def test_each_of_them_alone_is_refused_and_allowed_by_name(feature: str, flights_folder: Path, tmp_path: Path) -> None:
    with pytest.raises(LeakFound, match=f"1 feature knows the answer: {feature}"):
        prepared(flights_folder, flights(numeric=[*NUMERIC, feature]), tmp_path)
    reason = "measured at the gate"
    result = prepared(
        flights_folder, flights(numeric=[*NUMERIC, feature], leaks={"allow": {feature: reason}}), tmp_path
    )
    assert {(leak.feature, leak.allowed, leak.reason) for leak in result.leaks if leak.severe} == {
        (feature, True, reason)
    }


def test_delays_are_found_without_cancelled_flights_by_their_difference_to_the_schedule(
    flights_folder: Path, tmp_path: Path
) -> None:
    table = pq.read_table(flights_folder / "data")
    done = table.filter(pa.compute.is_valid(table["late"]))
    (tmp_path / "data").mkdir()
    pq.write_table(done, tmp_path / "data" / "done.parquet")
    with pytest.raises(LeakFound) as caught:
        prepared(tmp_path, flights(numeric=[*NUMERIC, "dep_time", "dep_delay"]), tmp_path / "out")
    assert caught.value.what.endswith(": dep_delay, dep_time")
    assert "difference to scheduled_at" in str(caught.value.why)
    with pytest.raises(LeakFound, match=r"1 feature knows the answer: dep_time"):
        prepared(tmp_path, flights(numeric=["distance", "dep_time"]), tmp_path / "out")


def test_a_copy_of_the_label_is_found_whatever_its_shape() -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 4000)
    noise = rng.normal(size=4000)
    assert scan({"up": labels + 0.1 * noise, "noise": noise}, labels) == {"up"}
    assert scan({"down": -labels + 0.1 * noise}, labels) == {"down"}
    both_ends = np.where(labels == 1, np.abs(noise) + 3, 0) * rng.choice([-1, 1], 4000)
    assert scan({"ends": both_ends}, labels) == {"ends"}
    gaps = pa.array(noise, mask=labels == 1)
    assert scan({"gaps": gaps}, labels) == {"gaps"}
    words = np.where(labels == 1, "closed", "open")
    assert scan({"word": words}, labels, categorical=["word"]) == {"word"}


def test_an_identifier_is_no_leak_and_small_noise_is_none_either() -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 2, 4000)
    ids = [f"id{i}" for i in range(4000)]
    assert scan({"id": ids, "n": np.arange(4000.0)}, labels, categorical=["id"], numeric=["n"]) == set()
    for seed in range(20):
        few = np.random.default_rng(seed)
        columns = {f"x{i}": few.normal(size=24) for i in range(30)}
        assert scan(columns, few.permutation(np.repeat([0, 1], 12))) == set()


def test_the_difference_of_two_honest_looking_numbers_is_found() -> None:
    rng = np.random.default_rng(7)
    planned = rng.normal(1000, 300, 5000)
    delay = rng.normal(0, 20, 5000)
    columns = {"planned": planned, "actual": planned + delay, "other": rng.normal(1000, 300, 5000)}
    found = scan(columns, (delay > 10).astype(int))
    assert len(found) == 1
    assert found <= {"planned", "actual"}


def test_several_classes_and_amounts_have_bounds_of_their_own() -> None:
    rng = np.random.default_rng(7)
    labels = rng.integers(0, 4, 4000)
    noise = rng.normal(size=4000)
    assert scan({"third": (labels == 2) + 0.1 * noise, "noise": noise}, labels, "multiclass") == {"third"}
    amount = np.exp(noise)
    columns = {"copy": amount * 3 + 1, "good": noise + 0.3 * rng.normal(size=4000), "noise": rng.normal(size=4000)}
    assert scan(columns, amount, "regression") == {"copy"}


def test_missing_with_the_label_counts_only_with_enough_rows() -> None:
    assert MissingCounts(1000, 0, 100, 90).auc() == pytest.approx(0.95)
    assert MissingCounts(1000, 500, 100, 50).auc() == pytest.approx(0.5)
    assert MissingCounts(1000, 0, 29, 29).auc() == 0.5
    assert MissingCounts(0, 0, 100, 100).auc() == 0.5


def test_a_refusal_names_the_way_out() -> None:
    finding = LeakFinding("late_fee", 0.97, 0.85, True, False, "it alone ranks the label with an AUC of 0.970")
    with pytest.raises(LeakFound) as caught:
        refuse_leaks([finding, LeakFinding("near", 0.8, 0.85, False, False, "")])
    assert "data.leaks.allow: {late_fee: why it is known in time}" in str(caught.value)
    assert "near" not in caught.value.what
    refuse_leaks([LeakFinding("late_fee", 0.97, 0.85, True, True, "")])
