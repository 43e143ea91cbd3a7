"""Anomalies of validation: where they stand, how often, and the change of the schema that takes each of them away."""

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.data.anomalies import describe
from fairlead.data.checks import Checked
from fairlead.data.report import validation_report
from fairlead.data.schema import Schema, load_schema, write_schema
from fairlead.data.suggestions import KINDS, changed
from fairlead.data.validation import ValidationResult, good_rows, validate_data
from fairlead.errors import SchemaMismatch, TooManyRejected, UsageError
from fairlead.records.drift import Anomaly, Place
from fairlead.reports.html import render_html
from fairlead.spec.data import REJECTED_KINDS
from fairlead.spec.project import Project

SCHEMA: dict[str, Any] = {
    "n": {"type": "int", "required": True, "min": 0, "max": 50},
    "x": {"type": "float", "min": -1.0},
    "word": {"type": "string", "values": ["a", "b"], "new_values": "reject"},
    "free": {"type": "string", "values": ["a", "b"]},
    "code": {"type": "string", "pattern": "[A-Z]{2}"},
    "key": {"type": "int", "unique": True},
    "at": {"type": "timestamp", "monotonic": "set"},
    "y": {"type": "int"},
}
ROWS = 40


def project(source: str = "rows/*", **validate: object) -> Project:
    return Project.model_validate(
        {
            "project": "p",
            "data": {
                "source": source,
                "label": {"column": "y"},
                "validate": {"schema": "schema.yaml", "max_rejected": 1, **validate},
            },
            "features": {"numeric": ["n"]},
        }
    )


def row(number: int, **other: object) -> str:
    day, hour = divmod(number, 24)
    good: dict[str, object] = {
        "n": number % 50, "x": number / 2, "word": "ab"[number % 2], "free": "ab"[number % 2], "code": "UA",
        "key": number, "at": f"2024-01-{day + 1:02d}T{hour:02d}:00", "y": number % 2,
    }  # fmt: skip
    return ",".join(str(value) for value in (good | other).values())


def write(base: Path, broken: dict[int, dict[str, object]], schema: dict[str, Any] = SCHEMA) -> None:
    """Two files of 20 rows; `broken`: row (from 1, over both) -> what stands there instead."""
    write_schema(base / "schema.yaml", Schema.model_validate({"columns": schema}), "", {})
    (base / "rows").mkdir(exist_ok=True)
    lines = [row(number, **broken.get(number + 1, {})) for number in range(ROWS)]
    for name, part in (("a", lines[:20]), ("b", lines[20:])):
        (base / "rows" / f"{name}.csv").write_text("\n".join([",".join(SCHEMA), *part]) + "\n")


def validated(base: Path, **validate: object) -> ValidationResult:
    return validate_data(project(**validate), base, base / "work")


BROKEN: dict[str, tuple[dict[int, dict[str, object]], str, Anomaly]] = {
    "below": ({23: {"n": -3}, 31: {"n": -7}}, "n", Anomaly("n", "below_min", True, 2 / 40, "", (), "", 2,
        (Place("rows/b.csv", 3, "-3"), Place("rows/b.csv", 11, "-7")), "columns: {n: {min: -7}}")),
    "above": ({5: {"n": 51}}, "n", Anomaly("n", "above_max", True, 1 / 40, "", (), "", 1,
        (Place("rows/a.csv", 5, "51"),), "columns: {n: {max: 51}}")),
    "missing": ({1: {"n": ""}}, "n", Anomaly("n", "missing_required", True, 1 / 40, "", (), "", 1,
        (Place("rows/a.csv", 1, ""),), "columns: {n: {required: null}}")),
    "half": ({2: {"n": 1.5}}, "n", Anomaly("n", "wrong_type", True, 1 / 40, "", (), "", 1,
        (Place("rows/a.csv", 2, "1.5"),), "columns: {n: {type: float}}")),
    "text": ({2: {"x": "many"}}, "x", Anomaly("x", "wrong_type", True, 1 / 40, "", (), "", 1,
        (Place("rows/a.csv", 2, "many"),), "columns: {x: {type: string, min: null}}")),
    "domain": ({9: {"word": "c"}}, "word", Anomaly("word", "not_in_values", True, 1 / 40, "", (), "", 1,
        (Place("rows/a.csv", 9, "c"),), "columns: {word: {values: [a, b, c]}}")),
    "new": ({9: {"free": "c"}, 30: {"free": "no"}}, "free", Anomaly("free", "new_values", False, 2 / 40, "", (), "", 2,
        (Place("rows/a.csv", 9, "c"), Place("rows/b.csv", 10, "no")), "columns: {free: {values: [a, b, c, 'no']}}")),
    "pattern": ({7: {"code": "Ua"}}, "code", Anomaly("code", "not_of_pattern", True, 1 / 40, "", (), "", 1,
        (Place("rows/a.csv", 7, "Ua"),), "columns: {code: {pattern: null}}")),
    "again": ({22: {"key": 3}}, "key", Anomaly("key", "not_unique", True, 1 / 40, "", (), "", 1,
        (Place("rows/b.csv", 2, "3"),), "columns: {key: {unique: null}}")),
    "back": ({21: {"at": "2024-01-01"}}, "at", Anomaly("at", "goes_back", True, 1 / 40, "", (), "", 1,
        (Place("rows/b.csv", 1, "2024-01-01T00:00:00.000000"),), "columns: {at: {monotonic: null}}")),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_an_anomaly_has_its_places_and_a_change_of_the_schema_that_takes_it_away(name: str, tmp_path: Path) -> None:
    broken, column, wanted = BROKEN[name]
    write(tmp_path, broken)
    result = validated(tmp_path)
    (found,) = result.found
    assert found.column == column
    for part in ("kind", "severe", "share", "count", "places", "change"):
        assert getattr(found, part) == getattr(wanted, part), part
    assert found.places[0].file in describe(found)
    report = render_html(validation_report(project(), result))
    assert all(text in report for text in (found.kind, found.places[0].file))
    schema = changed(load_schema(tmp_path / "schema.yaml"), found.change)
    write_schema(tmp_path / "schema.yaml", schema, "", {})
    after = validated(tmp_path)
    assert after.found == ()
    assert after.rows_rejected == 0


def test_no_anomaly_where_nothing_is_wrong(tmp_path: Path) -> None:
    write(tmp_path, {})
    assert validated(tmp_path).found == ()


def test_five_places_are_enough_and_the_count_goes_on(tmp_path: Path) -> None:
    write(tmp_path, {number: {"n": -number} for number in range(11, 31)})
    (found,) = validated(tmp_path).found
    assert (found.count, len(found.places), found.change) == (20, 5, "columns: {n: {min: -30}}")
    assert [place.row for place in found.places] == [11, 12, 13, 14, 15]


def test_rows_that_cannot_be_split_are_an_anomaly_without_a_change(tmp_path: Path) -> None:
    write(tmp_path, {})
    with (tmp_path / "rows" / "a.csv").open("a") as file:
        file.write("1,2\n")
    (found,) = validated(tmp_path).found
    assert (found.column, found.kind, found.count, found.change) == ("", "wrong_columns", 1, "")
    assert found.places == (Place("rows/a.csv", 21, "1,2"),)


def test_the_step_that_fails_names_places_and_changes(tmp_path: Path) -> None:
    write(tmp_path, {23: {"n": -3}})
    with pytest.raises(TooManyRejected) as caught:
        validated(tmp_path, max_rejected=0.001)
    assert caught.value.why == "n: below minimum (1, such as '-3' in rows/b.csv row 3)"
    assert "--change 'columns: {n: {min: -3}}'" in str(caught.value.fix)


def test_a_kind_has_a_bound_of_its_own(tmp_path: Path) -> None:
    write(tmp_path, {23: {"n": -3}, 24: {"n": 99}, 25: {"n": 98}})
    assert validated(tmp_path, max_rejected_by={"below_min": 0.025, "above_max": "5%"}).rows_rejected == 3
    with pytest.raises(TooManyRejected, match="2 problems of kind above_max in 40 rows") as caught:
        validated(tmp_path, max_rejected_by={"below_min": 0.025, "above_max": 0.02})
    assert caught.value.why == "n: above maximum (2, such as '99' in rows/b.csv row 4)"
    assert "max_rejected_by.above_max" in str(caught.value.fix)


def test_the_kinds_that_the_project_file_takes_are_those_that_are_told() -> None:
    assert set(REJECTED_KINDS) == set(KINDS.values())


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("columns: {gone: {min: 1}}", "no column gone"),
        ("columns: {n: {mni: 1}}", "columns.n.mni"),
        ("columns: {n: {min: 60}}", "min is above max"),
        ("columns: {n: 3}", "columns.n: neither"),
        ("n: {min: 1}", "the one key columns"),
        ("columns: [", "not YAML"),
        ("columns: {" + ", ".join(f"{name}: null" for name in SCHEMA) + "}", "no column would be left"),
    ],
)
def test_what_is_no_change_of_the_schema_is_refused_with_its_place(change: str, said: str) -> None:
    with pytest.raises(UsageError) as caught:
        changed(Schema.model_validate({"columns": SCHEMA}), change)
    assert said in str(caught.value.why)
    assert caught.value.fix


# --- rules across rows, lists, environments --------------------------------------------------------------------------
def parquet(base: Path, tables: dict[str, dict[str, Any]], rules: dict[str, Any]) -> None:
    write_schema(base / "schema.yaml", Schema.model_validate({"columns": rules}), "", {})
    (base / "rows").mkdir(exist_ok=True)
    for name, columns in tables.items():
        pq.write_table(pa.table(columns), base / "rows" / f"{name}.parquet", row_group_size=3)


@pytest.mark.parametrize(
    ("over", "back"), [("file", {("a", 3), ("b", 4)}), ("set", {("a", 3), ("b", 1), ("b", 2), ("b", 4)})]
)
def test_what_goes_back_is_refused_and_what_is_left_never_does(
    over: str, back: set[tuple[str, int]], tmp_path: Path
) -> None:
    files = {"a": [1.0, 4.0, 3.0, 4.0, None, 5.0, float("nan"), 6.0], "b": [2.0, 5.0, 7.0, 6.5, 8.0, 9.0]}
    rules = {"n": {"type": "float", "monotonic": over}, "y": {"type": "int"}}
    parquet(tmp_path, {k: {"n": pa.array(v), "y": [i % 2 for i in range(len(v))]} for k, v in files.items()}, rules)
    kept: list[float] = []

    def keep(checked: Checked) -> None:
        kept.extend(value for value in good_rows(checked)["n"].to_pylist() if value is not None and value == value)

    validate_data(project(), tmp_path, tmp_path / "work", sink=keep)
    listed = pq.read_table(tmp_path / "work" / "quarantine.parquet").to_pylist()
    assert {(Path(line["file"]).stem, line["row"]) for line in listed} == back
    if over == "set":
        assert kept == sorted(kept)


def test_rows_of_another_fault_do_not_count_as_the_largest_so_far(tmp_path: Path) -> None:
    rules = {"n": {"type": "int", "max": 100, "monotonic": "set"}, "y": {"type": "int"}}
    parquet(tmp_path, {"a": {"n": [1, 9999, 2, 3, 4, 5, 6], "y": [0, 1] * 3 + [0]}}, rules)
    assert validated(tmp_path).reasons == {("n", "above maximum"): 1}


def test_points_in_time_go_back_across_batches_of_any_size(tmp_path: Path) -> None:
    """Against the definition, on random steps."""
    rng = np.random.default_rng(5)
    times = np.datetime64("2024-01-01", "us") + np.cumsum(rng.integers(-2, 6, 500)).astype("timedelta64[h]")
    rules = {"at": {"type": "timestamp", "monotonic": "set"}, "n": {"type": "int"}, "y": {"type": "int"}}
    parquet(tmp_path, {"a": {"at": times, "n": np.arange(500), "y": [0, 1] * 250}}, rules)
    validated(tmp_path)
    listed = pq.read_table(tmp_path / "work" / "quarantine.parquet")["row"].to_pylist()
    wanted = [i + 1 for i in range(1, 500) if times[i] < times[:i].max()]
    assert listed == wanted
    assert len(wanted) > 20


def test_lists_have_as_many_items_as_the_schema_says(tmp_path: Path) -> None:
    rules = {"list": {"type": "tensor", "min_items": 2, "max_items": 3}, "n": {"type": "int"}, "y": {"type": "int"}}
    lists = [[1.0, 2.0], [1.0], [], None, [1.0, 2.0, 3.0], [1.0] * 4]
    parquet(tmp_path, {"a": {"list": lists, "n": list(range(6)), "y": [0, 1] * 3}}, rules)
    result = validated(tmp_path)
    assert result.reasons == {("list", "too few items"): 2, ("list", "too many items"): 1}
    changes = {"columns: {list: {min_items: null}}", "columns: {list: {max_items: null}}"}
    assert {one.change for one in result.found} == changes


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ({"type": "string", "monotonic": "set"}, "monotonic is for numbers and points in time, not for string"),
        ({"type": "int", "monotonic": "always"}, "'file' or 'set'"),
        ({"type": "float", "min_items": 1}, "lists"),
        ({"type": "tensor", "min_items": 3, "max_items": 1}, "min_items is above max_items"),
        ({"type": "int", "environments": []}, "at least 1 item"),
        ({"type": "int", "environments": ["staging"]}, "'training' or 'serving'"),
        ({"type": "int", "required": True, "required_in": ["training"]}, "write one of them"),
        ({"type": "int", "environments": ["serving"], "required_in": ["training"]}, "required_in names an environment"),
        ({"type": "string", "min_mean": 1}, "numbers and booleans"),
        ({"type": "int", "min_mean": 2, "max_mean": 1}, "min_mean is above max_mean"),
        ({"type": "timestamp", "max_distance": 0.1}, "max_distance is for numbers, strings and booleans"),
    ],
)
def test_rules_that_say_nothing_sensible_are_refused(rule: dict[str, Any], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        Schema.model_validate({"columns": {"c": rule}})


SERVED: dict[str, Any] = {
    "n": {"type": "int", "required_in": ["training"]},
    "late": {"type": "int", "environments": ["training"]},
    "y": {"type": "int"},
}


def test_at_serving_the_label_and_columns_of_training_are_not_looked_for(tmp_path: Path) -> None:
    parquet(tmp_path, {"a": {"n": pa.array([1, None, 3])}}, SERVED)
    result = validated(tmp_path, environment="serving")
    assert (result.rows_read, result.rows_rejected, result.rows_unlabelled, result.found) == (3, 0, 0, ())
    with pytest.raises(SchemaMismatch, match="the column late is absent"):
        validated(tmp_path)


def test_at_training_the_same_column_is_required_and_at_serving_its_presence_is_told(tmp_path: Path) -> None:
    parquet(tmp_path, {"a": {"n": pa.array([1, None, 3]), "late": [1, 2, 3], "y": [0, 1, 0]}}, SERVED)
    assert validated(tmp_path).reasons == {("n", "missing"): 1}
    (found,) = validated(tmp_path, environment="serving").found
    assert (found.column, found.kind, found.severe) == ("late", "unexpected_column", False)
    schema = changed(load_schema(tmp_path / "schema.yaml"), found.change)
    write_schema(tmp_path / "schema.yaml", schema, "", {})
    assert validated(tmp_path, environment="serving").found == ()


def test_a_feature_that_serving_will_not_have_is_refused_before_training(tmp_path: Path) -> None:
    rules = SERVED | {"n": {"type": "int", "environments": ["training"]}}
    parquet(tmp_path, {"a": {"n": [1, 2], "late": [1, 2], "y": [0, 1]}}, rules)
    with pytest.raises(SchemaMismatch, match="the feature n does not exist at serving") as caught:
        validated(tmp_path)
    assert "features" in str(caught.value.fix)
