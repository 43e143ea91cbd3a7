"""`fairlead data validate` against a schema and an accepted baseline, through the command line: what it tells of."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from fairlead.cli import main
from fairlead.cli.anomaly_lines import anomaly_lines
from fairlead.data.schema import load_schema, write_schema

SEED = 53
Cap = pytest.CaptureFixture[str]
PROJECT = """
project: shop
data:
  source: rows/*.parquet
  label: {column: bought, positive: true}
  time: at
  validate: {schema: schema.yaml, max_rejected: 1}
features: {numeric: [amount, miles], categorical: [plan]}
"""


def rows(seed: int, count: int = 4000) -> dict[str, Any]:
    rng = np.random.default_rng([SEED, seed])
    return {
        "at": np.datetime64("2024-01-01", "us") + np.sort(rng.integers(0, 30 * 86_400, count)).astype("timedelta64[s]"),
        "amount": np.round(rng.lognormal(3, 0.8, count), 2),
        "miles": np.round(rng.gamma(2, 6, count), 2),
        "plan": rng.choice(["basic", "plus", "pro"], count, p=[0.5, 0.3, 0.2]),
        "bought": rng.random(count) < 0.3,
    }


def write(base: Path, table: dict[str, Any], folder: str = "rows") -> None:
    (base / folder).mkdir(exist_ok=True)
    pq.write_table(pa.table(table), base / folder / "a.parquet")


@pytest.fixture
def accepted(tmp_path: Path, capsys: Cap) -> Path:
    """A project whose first rows were validated and accepted."""
    (tmp_path / "fairlead.yaml").write_text(PROJECT)
    write(tmp_path, rows(0))
    assert ask(tmp_path, capsys, "data", "validate")[0] == 0
    assert ask(tmp_path, capsys, "data", "schema", "accept")[0] == 0
    return tmp_path


def ask(base: Path, capsys: Cap, *words: str) -> tuple[int, Any]:
    capsys.readouterr()
    code = main([*words, "-f", str(base / "fairlead.yaml"), "-o", "json"])
    return code, json.loads(capsys.readouterr().out)


def anomalies(base: Path, capsys: Cap, *words: str) -> list[dict[str, Any]]:
    code, found = ask(base, capsys, "data", "validate", *words)
    assert code == 0, found
    told: list[dict[str, Any]] = found["anomalies"]
    return told


def test_first_negative_values_are_told_with_their_places(accepted: Path, capsys: Cap) -> None:
    table = rows(1)
    write(accepted, table)
    assert anomalies(accepted, capsys) == []
    chosen = np.random.default_rng(SEED).permutation(4000)[:80]
    table["miles"][chosen] = -table["miles"][chosen] - 0.01
    write(accepted, table)
    (found,) = anomalies(accepted, capsys)
    assert (found["column"], found["kind"], found["severe"], found["count"]) == ("miles", "first_negative", False, 80)
    assert [place["row"] for place in found["places"]] == (np.sort(chosen)[:5] + 1).tolist()
    assert found["places"][0]["file"] == "rows/a.parquet"
    assert "none of 4,000 accepted ones was" in found["what"]
    # Once they are accepted, they are no news.
    assert ask(accepted, capsys, "data", "schema", "accept")[0] == 0
    assert anomalies(accepted, capsys) == []


def test_a_few_first_negatives_are_what_chance_brings(accepted: Path, capsys: Cap) -> None:
    table = rows(1)
    table["miles"][:5] *= -1
    write(accepted, table)
    assert anomalies(accepted, capsys) == []


def test_another_sign_is_told_once(accepted: Path, capsys: Cap) -> None:
    table = rows(1)
    table["miles"] *= -1
    write(accepted, table)
    assert [one["kind"] for one in anomalies(accepted, capsys) if one["column"] == "miles"] == ["sign"]


def test_drift_names_first_negatives_too(accepted: Path, capsys: Cap) -> None:
    table = rows(1)
    write(accepted, table, "live")
    words = ("data", "drift", "--live-data", "live/*.parquet")
    assert not [one for one in ask(accepted, capsys, *words)[1]["columns"] if one["cause"]]
    table["miles"][:80] = -table["miles"][:80] - 0.01
    write(accepted, table, "live")
    causes = {one["column"]: one["cause_kind"] for one in ask(accepted, capsys, *words)[1]["columns"] if one["cause"]}
    assert causes == {"miles": "first_negative"}


def test_a_baseline_written_before_signs_were_watched_still_serves(accepted: Path, capsys: Cap) -> None:
    path = accepted / "schema.baseline.json"
    stored = json.loads(path.read_bytes())
    for column in stored["columns"].values():
        del column["low"], column["present"]
    path.write_text(json.dumps(stored))
    table = rows(1)
    table["miles"][:80] *= -1
    write(accepted, table)
    assert anomalies(accepted, capsys) == []


def test_a_bound_on_the_distance_to_what_was_accepted_is_held(accepted: Path, capsys: Cap) -> None:
    schema = load_schema(accepted / "schema.yaml")
    rules = {name: schema.columns[name].model_copy(update={"max_distance": 0.1}) for name in ("amount", "plan")}
    write_schema(accepted / "schema.yaml", schema.model_copy(update={"columns": {**schema.columns, **rules}}), "", {})
    table = rows(1)
    write(accepted, table)
    assert anomalies(accepted, capsys) == []
    table["amount"] += 6
    write(accepted, table)
    assert [(one["column"], one["kind"]) for one in anomalies(accepted, capsys)] == [("amount", "distance")]


def test_stale_data_and_too_few_rows_are_told_and_fail_the_step_where_declared(accepted: Path, capsys: Cap) -> None:
    bounds = ("--set", "data.validate.max_age=7d", "--set", "data.validate.min_rows=5000")
    found = {one["kind"]: one for one in anomalies(accepted, capsys, *bounds)}
    assert set(found) == {"freshness", "volume"}
    assert "4,000 rows, at least 5,000" in found["volume"]["what"]
    code, error = ask(accepted, capsys, "data", "validate", *bounds, "--set", "data.validate.fail_on=severe")
    assert (code, error["error"]["code"]) == (3, "FL-211")
    listed = json.loads(Path(error["error"]["where"]).read_bytes())
    assert {one["kind"] for one in listed} == {"freshness", "volume"}
    assert anomalies(accepted, capsys, "--set", "data.validate.fail_on=any") == []


def test_drift_of_another_batch_tells_its_age_and_its_rows(accepted: Path, capsys: Cap) -> None:
    write(accepted, rows(1), "live")
    words = ("data", "drift", "--live-data", "live/*.parquet")
    assert ask(accepted, capsys, *words)[1]["warnings"] == []
    bounds = ("--set", "data.validate.max_age=7d", "--set", "data.validate.min_rows=5000")
    told = ask(accepted, capsys, *words, *bounds)[1]["warnings"]
    assert len(told) == 2
    assert "4,000 rows, at least 5,000" in told[0]
    assert "7.0 are allowed" in told[1]


def test_serving_rows_have_no_label(accepted: Path, capsys: Cap) -> None:
    table = rows(1)
    del table["bought"]
    write(accepted, table, "live")
    live = ("--set", "data.source=live/*.parquet")
    code, refused = ask(accepted, capsys, "data", "validate", *live)
    assert (code, refused["error"]["code"]) == (3, "FL-204")
    assert anomalies(accepted, capsys, *live, "--environment", "serving") == []


def test_the_terminal_tells_shortly_and_a_suggested_change_is_taken(accepted: Path, capsys: Cap) -> None:
    table = rows(1)
    table["plan"][7] = "gold"
    table["miles"][3] = 1e6
    write(accepted, table)
    capsys.readouterr()
    assert main(["data", "validate", "-f", str(accepted / "fairlead.yaml")]) == 0
    told = capsys.readouterr().out
    assert "severe   miles  above_max" in told
    assert "rows/a.parquet row 4" in told
    assert "warning  plan  new_values" in told
    changes = [one["change"] for one in anomalies(accepted, capsys)]
    assert changes == ["columns: {miles: {max: 1000000.0}}", "columns: {plan: {values: [basic, gold, plus, pro]}}"]
    for change in changes:
        assert ask(accepted, capsys, "data", "schema", "accept", "--change", change)[0] == 0
    assert anomalies(accepted, capsys) == []
    code, refused = ask(accepted, capsys, "data", "schema", "diff", "--change", changes[0])
    assert (code, refused["error"]["code"]) == (2, "FL-101")


@pytest.mark.parametrize("word", ["schema.columns.miles.monotonic", "schema.columns.monotonic"])
def test_keys_of_the_schema_file_are_explained(word: str, capsys: Cap) -> None:
    capsys.readouterr()
    assert main(["explain", word, "-o", "json"]) == 0
    (field,) = json.loads(capsys.readouterr().out)["fields"]
    assert field["path"] == "schema.columns.<name>.monotonic"
    assert field["choices"] == ["file", "set"]


def test_the_terminal_shows_ten_and_names_the_column_where_a_change_is_long() -> None:
    long = "columns: {plan: {values: [" + ", ".join(f"plan {number}" for number in range(40)) + "]}}"
    one = {
        "severe": False, "column": "plan", "kind": "new_values", "what": "40 rows", "examples": [], "change": long,
        "places": [{"file": "a.csv", "row": 1200, "value": ""}],
    }  # fmt: skip
    lines = anomaly_lines({"anomalies": [one] * 12}).splitlines()
    assert lines[:2] == [
        "warning  plan  new_values  40 rows (first in a.csv row 1,200)",
        "         or: fairlead data schema accept --column plan",
    ]
    assert len(lines) == 21
    assert lines[-1].startswith("and 2 more")
    assert anomaly_lines({}) == ""
