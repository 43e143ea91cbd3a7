"""The schema file: inferred generously, edited strictly, enforced row by row."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from fairlead.data.checks import Checked, Checker
from fairlead.data.inference import infer_schema
from fairlead.data.readers import RawBatch
from fairlead.data.schema import ColumnRule, Schema, load_schema, schema_yaml
from fairlead.data.sources import Source
from fairlead.data.text_values import likely_kind, parse_text
from fairlead.errors import EmptyData, SchemaMismatch, SpecError
from fairlead.spec.data import Data


def inferred(base: Path, source: str) -> Schema:
    return infer_schema(Source(Data.model_validate({"source": source, "label": {"column": "y"}}), base), ["y"]).schema


def checked(columns: dict[str, object], rules: dict[str, dict[str, object]]) -> Checked:
    batch = pa.RecordBatch.from_pydict(columns)
    schema = Schema(columns={name: ColumnRule.model_validate(rule) for name, rule in rules.items()})
    return Checker(schema, ["a.parquet"]).check(RawBatch(0, 10, batch))


def problems(found: Checked) -> list[tuple[str, str, list[int], tuple[str, ...]]]:
    return [(p.column, p.reason, p.positions.tolist(), p.values) for p in found.problems]


def test_types_presence_ranges_and_domains_are_inferred(tmp_path: Path) -> None:
    rows = 1200
    rng = np.random.default_rng(7)
    table = pa.table(
        {
            "n": rng.integers(1, 4999, rows),
            "x": pa.array(rng.normal(size=rows), mask=rng.random(rows) < 0.1),
            "carrier": rng.choice(["AA", "no", "1e3"], rows),
            "tail": [f"N{i}" for i in range(rows)],
            "at": pa.array(np.datetime64("2013-01-01", "us") + np.arange(rows).astype("timedelta64[h]")),
            "blob": pa.array([b"x"] * rows),
            "pixels": pa.array([[1.0, 2.0]] * rows),
            "y": rng.integers(0, 2, rows),
        }
    )
    pq.write_table(table, tmp_path / "a.parquet")
    schema = inferred(tmp_path, "a.parquet")
    assert schema.kinds() == {
        "n": "int", "x": "float", "carrier": "string", "tail": "string", "at": "timestamp", "pixels": "tensor",
        "y": "int",
    }  # fmt: skip
    assert schema.columns["n"] == ColumnRule(type="int", required=True, min=-50000, max=50000)
    assert schema.columns["x"].required is False
    assert schema.columns["carrier"].values == ["1e3", "AA", "no"]
    assert schema.columns["carrier"].new_values == "allow"
    assert schema.columns["tail"].values is None
    assert schema.columns["y"] == ColumnRule(type="int")


def test_an_inferred_schema_accepts_the_data_that_it_came_from_and_honest_later_data(tmp_path: Path) -> None:
    winter = pa.table({"temp": np.linspace(10, 60, 2000), "carrier": ["AA", "UA"] * 1000, "y": [0, 1] * 1000})
    pq.write_table(winter, tmp_path / "a.parquet")
    schema = inferred(tmp_path, "a.parquet")
    checker = Checker(schema, ["a"])
    assert checker.check(RawBatch(0, 0, winter.combine_chunks().to_batches()[0])).problems == ()
    summer = pa.RecordBatch.from_pydict({"temp": [101.3, -12.0, 75.0], "carrier": ["HA", "AA", "UA"], "y": [0, 1, 0]})
    found = checker.check(RawBatch(0, 0, summer))
    assert found.problems == ()
    assert found.new_values == {"carrier": ("HA",)}
    sentinel = pa.RecordBatch.from_pydict({"temp": [-9999.0], "carrier": ["AA"], "y": [0]})
    assert problems(checker.check(RawBatch(0, 0, sentinel)))[0][:2] == ("temp", "below minimum")


def test_text_is_read_as_what_nearly_all_of_it_is(tmp_path: Path) -> None:
    lines = ["n,x,b,at,word,mostly,mixed,y"]
    for i in range(2000):
        mostly = "oops" if i == 1500 else str(i)
        mixed = "text" if i % 3 else str(i)
        x, truth = ("NA" if i % 7 == 0 else i / 4), ("true" if i % 2 else "FALSE")
        lines.append(f"{i},{x},{truth},2013-01-{i % 28 + 1:02d},w{i},{mostly},{mixed},{i % 2}")
    (tmp_path / "a.csv").write_text("\n".join(lines))
    schema = inferred(tmp_path, "a.csv")
    assert schema.kinds() == {
        "n": "int", "x": "float", "b": "bool", "at": "timestamp", "word": "string", "mostly": "int",
        "mixed": "string", "y": "int",
    }  # fmt: skip
    assert (schema.columns["n"].required, schema.columns["x"].required, schema.columns["mostly"].required) == (
        True, False, False,
    )  # fmt: skip


def test_a_kind_that_later_text_contradicts_becomes_string(tmp_path: Path) -> None:
    rows = "\n".join(str(i) if i < 25_000 else f"id{i}" for i in range(40_000))
    (tmp_path / "a.csv").write_text("y\n" + rows)
    assert inferred(tmp_path, "a.csv").kinds() == {"y": "string"}


def test_columns_that_some_files_lack_are_left_out_and_types_that_differ_refused(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": [1], "x": [1]}), tmp_path / "a.parquet")
    pq.write_table(pa.table({"y": [1.5]}), tmp_path / "b.parquet")
    found = infer_schema(Source(Data.model_validate({"source": "*.parquet", "label": {"column": "y"}}), tmp_path))
    assert found.schema.kinds() == {"y": "float"}
    assert found.skipped == {"x": "b.parquet has no such column"}
    pq.write_table(pa.table({"y": ["a"], "x": [1]}), tmp_path / "b.parquet")
    with pytest.raises(SchemaMismatch, match="different types in different files") as caught:
        inferred(tmp_path, "*.parquet")
    assert caught.value.where == "b.parquet"


def test_no_rows_no_schema(tmp_path: Path) -> None:
    pq.write_table(pa.table({"y": pa.array([], pa.int64())}), tmp_path / "a.parquet")
    (tmp_path / "a.csv").write_text("y\n")
    (tmp_path / "a.jsonl").write_text("\n")
    for name in ("a.parquet", "a.csv"):
        with pytest.raises(EmptyData):
            inferred(tmp_path, name)


def test_the_file_reads_back_as_it_was_written(tmp_path: Path) -> None:
    schema = Schema(
        columns={
            "no": ColumnRule(type="string", values=["yes", "no", "1e3", "a: b", "ü", "# x", ""], required=True),
            "a b": ColumnRule(type="float", min=-1.5, max=1e300),
            "1": ColumnRule(type="int", min=0, unique=True),
            "s": ColumnRule(type="string", values=["x"], new_values="reject"),
        }
    )
    data = schema_yaml(schema, "A title\nof two lines", {"no": "a note: with # signs"})
    assert data == schema_yaml(schema, "A title\nof two lines", {"no": "a note: with # signs"})
    path = tmp_path / "schema.yaml"
    path.write_bytes(data)
    assert load_schema(path) == schema
    assert yaml.safe_load(data)["columns"]["a b"]["max"] == 1e300


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("columns:\n  x: {type: int, mni: 3}\n", "schema.yaml:2: columns.x.mni.*did you mean min"),
        ("columns:\n  x:\n    type: number\n", "schema.yaml:3: columns.x.type"),
        ("columns:\n  x:\n    type: int\n    required: maybe\n", "schema.yaml:4"),
        ("columns: {x: {type: int, min: 3, max: 1}}\n", "min is above max"),
        ("columns: {x: {type: bool, min: 3}}\n", "for numbers, not for bool"),
        ("columns: {x: {type: string, new_values: reject}}\n", "needs values"),
        ("columns: {}\n", "columns"),
        ("version: 2\ncolumns: {x: {type: int}}\n", "schema.yaml:1: version"),
        ("- a\n", "schema"),
        ("a: [\n", "not YAML"),
        ("!!python/object/apply:os.system [ls]\n", "not YAML"),
        ("", "schema"),
    ],
)
def test_a_wrong_schema_file_is_refused_with_its_line(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "schema.yaml"
    path.write_text(text)
    with pytest.raises(SpecError, match=said):
        load_schema(path)


def test_every_rule_finds_the_rows_that_break_it() -> None:
    found = checked(
        {
            "x": [1.0, None, float("nan"), float("inf"), -5.0, 99.0],
            "n": [1, 2, 3, 4, 5, None],
            "s": ["a", "b", "c", None, "a", "a"],
        },
        {
            "x": {"type": "float", "required": True, "min": 0, "max": 50},
            "n": {"type": "int", "required": True, "max": 4},
            "s": {"type": "string", "values": ["a", "b"], "new_values": "reject"},
        },
    )
    assert problems(found) == [
        ("x", "not finite", [3], ("inf",)),
        ("x", "below minimum", [4], ("-5.0",)),
        ("x", "above maximum", [5], ("99.0",)),
        ("x", "missing", [1, 2], ("", "nan")),
        ("n", "above maximum", [4], ("5",)),
        ("n", "missing", [5], ("",)),
        ("s", "not in domain", [2], ("c",)),
    ]
    assert found.bad is not None
    assert found.bad.tolist() == [False, True, True, True, True, True]


def test_an_optional_number_may_be_missing_but_never_infinite() -> None:
    found = checked({"x": [None, float("nan"), float("-inf")]}, {"x": {"type": "float"}})
    assert [(p[1], p[2]) for p in problems(found)] == [("not finite", [2])]


def test_text_that_is_no_value_of_its_type_costs_its_row_only() -> None:
    found = checked(
        {
            "n": ["1", "2.5", "x", None, "NA", " 7 "],
            "at": ["2013-01-01", "2013-02-30", "soon", None, "", "2013-01-01T05:00Z"],
        },
        {"n": {"type": "int", "required": True}, "at": {"type": "timestamp"}},
    )
    assert problems(found) == [
        ("n", "type", [1, 2], ("2.5", "x")),
        ("n", "missing", [3, 4], ("", "NA")),
        ("at", "type", [1, 2], ("2013-02-30", "soon")),
    ]
    assert found.batch.column("n").to_pylist() == [1, None, None, None, None, 7]


def test_floats_that_stand_for_integers_are_integers() -> None:
    found = checked({"n": [1.0, float("nan"), None, 2.5, 1e300]}, {"n": {"type": "int"}})
    assert problems(found) == [("n", "type", [3, 4], ("2.5", "1e+300"))]
    assert found.batch.column("n").to_pylist() == [1, None, None, None, None]


@pytest.mark.parametrize(
    ("values", "kind"),
    [
        (pa.array(["a"] * 200), "int"),
        (pa.array([1.5]), "timestamp"),
        (pa.array([[1.0]]), "float"),
        (pa.array([b"x"]), "string"),
        (pa.array([2**63], pa.uint64()), "int"),
    ],
)
def test_a_column_of_another_type_stops_everything(values: pa.Array, kind: str) -> None:
    with pytest.raises(SchemaMismatch, match=f"c is not of type {kind}") as caught:
        checked({"c": values}, {"c": {"type": kind}})
    last = 10 + len(values)
    assert caught.value.where == f"a.parquet, column c, rows 11 to {last}"


def test_an_absent_column_stops_everything() -> None:
    with pytest.raises(SchemaMismatch, match="gone is absent"):
        checked({"c": [1]}, {"gone": {"type": "int"}})


@pytest.mark.parametrize(
    ("texts", "kind", "values"),
    [
        (["1", "-2", "+3", " 4", "na", "99999999999999999999"], "int", [1, -2, 3, 4, None, None]),
        (["1", "1.", ".5", "-1e-3", "1,5", "NaN", "0x10"], "float", [1.0, 1.0, 0.5, -0.001, None, None, None]),
        (["true", "False", "TRUE", "1", ""], "bool", [True, False, True, None, None]),
    ],
)
def test_text_becomes_values(texts: list[str], kind: str, values: list[object]) -> None:
    found, bad = parse_text(pa.array(texts), kind)
    assert found.to_pylist() == values
    missing = [text in ("NaN", "") for text in texts]
    assert bad.tolist() == [value is None and not gone for value, gone in zip(values, missing, strict=True)]


def test_the_likely_kind_is_the_narrowest() -> None:
    assert likely_kind(pa.array(["1", "0", "NA"])) == "int"
    assert likely_kind(pa.array(["1", "0.5"])) == "float"
    assert likely_kind(pa.array(["", None])) == "string"
    assert likely_kind(pa.array(["2013-01-01T05:00:00-05:00"])) == "timestamp"
