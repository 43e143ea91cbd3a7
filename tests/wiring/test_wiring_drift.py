"""`fairlead data drift` and `fairlead data schema` on files, through the command line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.cli import main
from fairlead.data.schema import ColumnRule, Schema, load_schema, write_schema
from fairlead.data.windows import parse_window, read_windows, window_schema
from fairlead.errors import UsageError
from fairlead.wiring.context import open_context

SEED = 17
Cap = pytest.CaptureFixture[str]
PROJECT = """
project: weather
data:
  source: rows/*.parquet
  label: {column: wet, positive: true}
  time: at
  validate: {schema: schema.yaml}
features: {numeric: [temp, km], categorical: [place], datetime: [at]}
"""


def day_rows(day: int, *, km: float = 1.0, place: str = "", seed: int = SEED) -> pa.Table:
    """100 rows of one day."""
    rng = np.random.default_rng([seed, day])
    start = np.datetime64("2024-01-01", "us") + np.timedelta64(day, "D")
    hours = rng.choice(24, 100, p=np.array([1] * 6 + [6] * 12 + [3] * 6) / 96)
    minutes = (hours * 60 + rng.integers(0, 60, 100)).astype("timedelta64[m]")
    temp = rng.normal(15, 5, 100)
    return pa.table(
        {
            "at": start + minutes,
            "temp": temp,
            "km": rng.gamma(3, 20, 100) * km,
            "place": np.char.add(rng.choice(["a", "b", "c"], 100, p=[0.5, 0.3, 0.2]), place),
            "wet": rng.random(100) < 1 / (1 + np.exp((temp - 15) / 3)),
        }
    )


def write(folder: Path, name: str, days: range, **how: Any) -> None:
    folder.mkdir(exist_ok=True)
    pq.write_table(pa.concat_tables([day_rows(day, **how) for day in days]), folder / f"{name}.parquet")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "fairlead.yaml").write_text(PROJECT)
    write(tmp_path / "rows", "january", range(31))
    write(tmp_path / "rows", "february", range(31, 60))
    return tmp_path


def ask(project: Path, capsys: Cap, *words: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = main([*words, "-f", str(project / "fairlead.yaml"), "-o", "json"])
    return code, json.loads(capsys.readouterr().out)


def test_two_months_that_are_alike_have_not_moved(project: Path, capsys: Cap) -> None:
    code, found = ask(project, capsys, "data", "drift", "--reference", "2024-01", "--live", "2024-02", "--fail")
    assert code == 0
    assert (found["reference_rows"], found["live_rows"]) == (3100, 2900)
    assert not [one for one in found["columns"] if one["moved"] or one["cause"]]
    assert found["shift"]["kind"] == "none"
    assert "no champion" in found["ranked_by"]
    reports = list((project / ".fairlead" / "runs").glob("*/reports/drift.html"))
    assert len(reports) == 1
    assert reports[0].stat().st_size < 300_000


def test_columns_that_fall_apart_are_told_though_neither_moved(project: Path, capsys: Cap) -> None:
    rng = np.random.default_rng(SEED)
    for path in sorted((project / "rows").iterdir()):
        rows = pq.read_table(path)
        twin = rows["temp"].to_numpy() + rng.normal(0, 2, len(rows))
        joined_wrongly = path.stem == "february"
        twin = rng.permutation(twin) if joined_wrongly else twin
        pq.write_table(rows.append_column("roof_temp", pa.array(twin)), path)
    file = project / "fairlead.yaml"
    file.write_text(file.read_text().replace("[temp, km]", "[temp, km, roof_temp]"))
    words = ("data", "drift", "--reference", "2024-01", "--live", "2024-02", "--fail")
    code, found = ask(project, capsys, *words)
    assert code == 10
    assert not [one["feature"] for one in found["columns"] if one["moved"]]
    pairs = {(link["first"], link["second"]) for link in found["links"]}
    assert any(set(pair) == {"temp", "roof_temp"} for pair in pairs)
    assert all("roof_temp" in pair for pair in pairs)
    page = next((project / ".fairlead" / "runs").glob("*/reports/drift.html")).read_text()
    assert "Links between columns" in page


def test_other_files_are_compared_and_causes_named(project: Path, capsys: Cap) -> None:
    write(project / "live", "march", range(60, 90), km=0.621371, place="_")
    words = ("data", "drift", "--live-data", "live/*.parquet", "--fail")
    code, found = ask(project, capsys, *words)
    assert code == 10
    causes = {one["column"]: one["cause_kind"] for one in found["columns"] if one["cause"]}
    assert causes == {"km": "conversion", "place": "vocabulary"}
    capsys.readouterr()
    assert main([*words[:-1], "-f", str(project / "fairlead.yaml")]) == 0
    assert "kilometres and miles" in capsys.readouterr().out


def test_days_are_watched_from_the_end_of_the_reference_on(project: Path, capsys: Cap) -> None:
    write(project / "rows", "march", range(60, 90), km=3.0)
    code, found = ask(
        project, capsys, "data", "drift", "--daily", "--reference", "..2024-03-01",
        "--set", "watch.drift.false_alarms_per_month=0.05",
    )  # fmt: skip
    assert code == 0
    assert [(one["feature"], one["direction"]) for one in found["alarms"]] == [("km", "up")]
    assert "2024-03-02" <= found["alarms"][0]["day"] <= "2024-03-08"
    assert found["budget"] == 0.05


@pytest.mark.parametrize(
    "words",
    [
        ("--reference", "january", "--live", "2024-02"),
        ("--reference", "2024-02-01..2024-01-01", "--live", "2024-02"),
        ("--reference", "2024-01"),
        ("--daily", "--reference", "2024-01"),
        ("--daily", "--reference", "..2024-02-01", "--set", "watch.drift.same_weekday=[nothing]"),
    ],
)
def test_what_cannot_be_compared_is_refused_with_what_to_do(project: Path, capsys: Cap, words: tuple[str, ...]) -> None:
    code, found = ask(project, capsys, "data", "drift", *words)
    assert code == 2
    assert found["error"]["code"] == "FL-101"
    assert found["error"]["fix"]


def test_a_window_without_rows_is_named(project: Path, capsys: Cap) -> None:
    code, found = ask(project, capsys, "data", "drift", "--reference", "2024-01", "--live", "2025")
    assert (code, found["error"]["code"]) == (3, "FL-203")
    assert "2025" in found["error"]["what"]


def test_windows_end_before_their_end_and_samples_are_uniform_and_the_same_each_time(project: Path) -> None:
    context = open_context(project / "fairlead.yaml")
    schema = window_schema(context.project, context.base)
    windows = [parse_window("2024-01-01..2024-01-03"), parse_window("2024-01-02"), parse_window("all")]
    two, one, every = read_windows(context.project, context.base, schema, windows)
    assert (two.total, one.total, every.total) == (200, 100, 6000)
    few = [read_windows(context.project, context.base, schema, windows, most_rows=40) for _ in range(2)]
    assert [rows.table.num_rows for rows in few[0]] == [40, 40, 40]
    assert few[0][2].table.equals(few[1][2].table)
    (daily,) = read_windows(context.project, context.base, schema, [windows[2]], most_rows=7, a_day=True)
    assert daily.table.num_rows == 60 * 7
    with pytest.raises(UsageError):
        parse_window("2024-1")


def validated(project: Path, capsys: Cap) -> list[dict[str, Any]]:
    code, result = ask(project, capsys, "data", "validate")
    assert code == 0
    anomalies: list[dict[str, Any]] = result["anomalies"]
    return anomalies


def test_validation_names_a_unit_and_a_vocabulary_once_a_baseline_is_accepted(project: Path, capsys: Cap) -> None:
    assert validated(project, capsys) == []
    code, first = ask(project, capsys, "data", "schema", "diff")
    assert (code, first["baseline"], first["changes"]) == (0, None, [])
    assert ask(project, capsys, "data", "schema", "accept")[0] == 0
    assert (project / "schema.baseline.json").stat().st_size < 100_000
    assert validated(project, capsys) == []
    write(project / "rows", "january", range(31), km=1.609344, place="_")
    write(project / "rows", "february", range(31, 60), km=1.609344, place="_")
    found = {one["column"]: one for one in validated(project, capsys)}
    assert {name: (one["kind"], one["severe"]) for name, one in found.items()} == {
        "km": ("conversion", True),
        "place": ("vocabulary", True),
    }
    code, told = ask(project, capsys, "data", "schema", "diff")
    assert [(one["column"], one["key"]) for one in told["changes"]] == [("place", "values")]
    assert {one["column"] for one in told["anomalies"]} == {"km", "place"}
    # One column is accepted, the other stays an anomaly.
    assert ask(project, capsys, "data", "schema", "accept", "--column", "place")[0] == 0
    assert [one["column"] for one in validated(project, capsys)] == ["km"]
    assert ask(project, capsys, "data", "schema", "diff")[1]["changes"] == []


def test_missing_values_default_values_volume_and_age_are_told(project: Path, capsys: Cap) -> None:
    validated(project, capsys)
    assert ask(project, capsys, "data", "schema", "accept")[0] == 0
    table = pa.concat_tables([day_rows(day) for day in range(31, 33)])
    rows = np.arange(table.num_rows)
    table = table.set_column(1, "temp", pa.array(np.where(rows % 4 == 0, -9.0, table["temp"].to_numpy())))
    table = table.set_column(2, "km", pa.array(table["km"].to_numpy(), mask=rows % 3 == 0))
    pq.write_table(table, project / "rows" / "february.parquet")
    (project / "rows" / "january.parquet").unlink()
    code, result = ask(project, capsys, "data", "validate", "--set", "data.validate.max_rejected=1", "--set",
                       "data.validate.max_age=7d")  # fmt: skip
    assert code == 0
    kinds = {(one["column"], one["kind"]) for one in result["anomalies"]}
    assert kinds >= {("", "freshness"), ("", "volume"), ("km", "missing"), ("temp", "default_value")}


def test_a_damaged_baseline_is_refused_by_name(project: Path, capsys: Cap) -> None:
    validated(project, capsys)
    (project / "schema.baseline.json").write_text("{")
    code, result = ask(project, capsys, "data", "validate")
    assert code == 2
    assert "schema.baseline.json" in result["error"]["what"]


def test_units_patterns_and_shares_of_missing_values_are_written_into_the_schema_by_people(
    project: Path, capsys: Cap
) -> None:
    validated(project, capsys)
    schema = project / "schema.yaml"
    rules = dict(load_schema(schema).columns)
    rules["km"] = ColumnRule(type="float", unit="km", max_missing=0.1)
    rules["place"] = ColumnRule(type="string", pattern="[ab]")
    write_schema(schema, Schema(columns=rules), "by hand", {})
    assert ask(project, capsys, "data", "schema", "accept")[0] == 0
    assert "unit: km" in schema.read_text()
    table = pa.concat_tables([day_rows(3, km=1000.0, seed=seed) for seed in range(10)])
    holes = np.arange(table.num_rows) % 4 == 0
    pq.write_table(
        table.set_column(2, "km", pa.array(table["km"].to_numpy(), mask=holes)), project / "rows" / "january.parquet"
    )
    (project / "rows" / "february.parquet").unlink()
    code, result = ask(project, capsys, "data", "validate", "--set", "data.validate.max_rejected=1")
    assert code == 0
    assert result["rejected"] == table["place"].to_pylist().count("c")
    said = [one["what"] for one in result["anomalies"] if one["column"] == "km"]
    assert any("10.0% are allowed" in what for what in said)
    assert any("thousands" in what and "the schema's unit is km" in what for what in said)
