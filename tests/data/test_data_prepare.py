"""Validate and prepare, end to end on small real files: what is accepted, refused, counted, and written."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from fairlead.data.prepare import prepare_data, validate_data
from fairlead.data.report import prepare_report, validation_report
from fairlead.dataset import LABEL, fetch_prepared
from fairlead.errors import (
    DataError,
    EmptyData,
    LabelProblem,
    PreparedDataDamaged,
    SchemaMismatch,
    SourceNotFound,
    SourceUnreadable,
    SplitTooSmall,
    TooManyRejected,
    TransformError,
)
from fairlead.features.transform import Transform
from fairlead.records.data import SPLITS
from fairlead.reports.html import render_html
from fairlead.reports.markdown import render_markdown
from fairlead.spec.project import Project
from fairlead.store import open_store


def customers(rows: int = 600, seed: int = 7) -> pa.Table:
    rng = np.random.default_rng(seed)
    churned = rng.random(rows) < 0.3
    return pa.table(
        {
            "age": pa.array(rng.normal(40, 10, rows) + 5 * churned, mask=rng.random(rows) < 0.1),
            "visits": rng.integers(0, 30, rows),
            "plan": rng.choice(["basic", "plus", "pro"], rows),
            "since": pa.array(np.datetime64("2020-01-01", "us") + rng.integers(0, 900, rows).astype("timedelta64[D]")),
            "person": [f"p{i}" for i in rng.integers(0, 200, rows)],
            "churned": churned,
        }
    )


def project(**data: object) -> Project:
    evaluate = data.pop("evaluate", {})
    features = data.pop("features", {"numeric": ["age", "visits"], "categorical": ["plan"], "datetime": ["since"]})
    return Project.model_validate(
        {
            "project": "churn",
            "data": {"source": "raw", "label": {"column": "churned"}, **data},
            "features": features,
            "evaluate": evaluate,
        }
    )


@pytest.fixture
def base(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    table = customers()
    for part in range(3):
        pq.write_table(table.slice(part * 200, 200), tmp_path / "raw" / f"{part}.parquet", row_group_size=70)
    return tmp_path


def leftovers(base: Path) -> list[str]:
    """Everything below `base` apart from the raw files and the cache of digests."""
    return sorted(
        p.name for p in base.iterdir() if p.name not in ("raw", ".fairlead") and (p.is_file() or any(p.iterdir()))
    )


def test_prepared_data_holds_every_good_row_once_with_its_label(base: Path) -> None:
    result = prepare_data(project(entity="person", evaluate={"slices": {"columns": ["plan"]}}), base, base / "out")
    tables = [result.data.table(split) for split in SPLITS]
    together = pa.concat_tables(tables).to_pylist()
    raw = customers()
    expected = [
        {**{k: v for k, v in row.items() if k != "churned"}, LABEL: int(row["churned"])} for row in raw.to_pylist()
    ]
    key: Callable[[dict[str, object]], str] = lambda row: repr(sorted(row.items()))  # noqa: E731
    assert sorted(map(key, together)) == sorted(map(key, expected))
    manifest = result.manifest
    assert [manifest.rows(split) for split in SPLITS] == [360, 120, 120]
    assert manifest.label_classes == ("false", "true")
    assert manifest.schema == {
        "age": "float", "visits": "int", "plan": "string", "since": "timestamp", "person": "string",
    }  # fmt: skip
    assert [file.rows for file in manifest.sources] == [200, 200, 200]
    assert manifest.rows_read == 600


def test_the_transform_and_statistics_see_the_training_split_only(base: Path) -> None:
    result = prepare_data(project(), base, base / "out")
    train = result.data.table("train")
    again = Transform.fit(train.to_batches(), project().features)
    for left, right in zip(result.transform.numeric, again.numeric, strict=True):
        assert left.mean == pytest.approx(right.mean, rel=1e-12)
        assert left.impute == right.impute
    assert result.data.transform_json() == result.transform.to_json()
    assert result.statistics.rows == 360
    label = result.statistics.columns[LABEL]
    assert label.top == {name: train[LABEL].to_pylist().count(i) for i, name in enumerate(("false", "true"))}


def test_the_same_input_gives_the_same_fingerprint_and_is_not_written_twice(base: Path, tmp_path: Path) -> None:
    store = open_store("store", base)
    first = prepare_data(project(), base, base / "one", store)
    second = prepare_data(project(), base, base / "two", store)
    assert first.manifest.fingerprint == second.manifest.fingerprint
    keys = store.list(f"prepared/{first.manifest.fingerprint}/")
    names = {key.rpartition("/")[2] for key in keys}
    assert names >= {"manifest.json", "transform.json", "statistics.json", "schema.yaml", "train-00000.parquet"}
    version = store.read_versioned(keys[0])
    prepare_data(project(), base, base / "two", store)
    assert store.read_versioned(keys[0]) == version
    fetched = fetch_prepared(store, first.manifest.fingerprint, base / "cache")
    assert fetched.table("test").equals(first.data.table("test"))
    other = prepare_data(project(split={"by": "random", "seed": 8}), base, base / "one")
    assert other.manifest.fingerprint != first.manifest.fingerprint


def test_csv_json_lines_and_parquet_of_the_same_rows_prepare_alike(base: Path) -> None:
    table = customers()
    found = {}
    for name in ("csv", "jsonl", "parquet"):
        folder = base / name
        folder.mkdir()
        if name == "csv":
            pa_csv.write_csv(table, folder / "a.csv")
        elif name == "jsonl":
            lines = [orjson.dumps(row) for row in table.to_pylist()]
            (folder / "a.jsonl").write_bytes(b"\n".join(lines))
        else:
            pq.write_table(table, folder / "a.parquet")
        result = prepare_data(project(source=name), base, base / "out")
        found[name] = result.data.table("train")
    assert found["csv"].equals(found["parquet"])
    assert found["jsonl"].equals(found["parquet"])


def test_rows_without_a_label_are_left_out_and_counted(base: Path) -> None:
    table = customers()
    labels = pa.array([None if i < 50 else value for i, value in enumerate(table["churned"].to_pylist())])
    pq.write_table(table.set_column(5, "churned", labels), base / "raw" / "0.parquet")
    result = prepare_data(project(source="raw/0.parquet"), base, base / "out")
    assert (result.manifest.rows_unlabelled, result.manifest.rows_rejected) == (50, 0)
    assert sum(result.manifest.rows(split) for split in SPLITS) == 550
    assert any("50 rows have no label" in warning for warning in result.warnings)


def test_bad_rows_go_to_quarantine_with_their_place_and_reason(base: Path) -> None:
    lines = ["age,visits,plan,since,person,churned"]
    lines += [
        f"{20.5 + i % 50},{i % 10},basic,2020-01-{i % 28 + 1:02d},p{i},{str(i % 3 == 0).lower()}" for i in range(2000)
    ]
    lines[10] = "old,1,basic,2020-01-01,p9,true"
    lines[20] = "33,1,basic,2020-02-30,p19,true"
    lines[30] = "inf,1,basic,2020-01-01,p29,true"
    lines[40] = "33,1,basic"
    (base / "raw" / "a.csv").write_text("\n".join(lines))
    wanted = project(source="raw/a.csv", validate={"max_rejected": "1%", "schema": "schema.yaml"})
    result = validate_data(wanted, base, base / "work")
    assert (result.rows_read, result.rows_rejected) == (2000, 4)
    assert result.quarantine is not None
    assert pq.read_table(result.quarantine).to_pylist() == [
        {"file": "raw/a.csv", "row": 40, "column": "", "reason": "columns", "value": "33,1,basic"},
        {"file": "raw/a.csv", "row": 10, "column": "age", "reason": "type", "value": "old"},
        {"file": "raw/a.csv", "row": 30, "column": "age", "reason": "not finite", "value": "inf"},
        {"file": "raw/a.csv", "row": 20, "column": "since", "reason": "type", "value": "2020-02-30"},
    ]
    assert result.schema_inferred
    assert not validate_data(wanted, base, base / "work").schema_inferred
    prepared = prepare_data(wanted, base, base / "out")
    assert sum(prepared.manifest.rows(split) for split in SPLITS) == 1996
    assert "4 rows" in render_markdown(validation_report(wanted, result))


def test_too_many_bad_rows_fail_the_step_and_the_quarantine_stays(base: Path) -> None:
    table = customers()
    ages = pa.array([float("inf") if i % 10 == 0 else 30.0 for i in range(600)])
    pq.write_table(table.set_column(0, "age", ages), base / "raw" / "1.parquet")
    with pytest.raises(TooManyRejected, match=r"60 of 1,000 rows \(6.000%\) break the schema, 0.100% are allowed"):
        validate_data(project(), base, base / "work")
    listed = pq.read_table(base / "work" / "quarantine.parquet")
    assert listed["row"].to_pylist() == list(range(1, 600, 10))
    assert set(listed["file"].to_pylist()) == {"raw/1.parquet"}
    with pytest.raises(TooManyRejected):
        prepare_data(project(), base, base / "out")
    assert leftovers(base) == ["work"]


def test_nan_in_a_required_number_is_a_bad_row(base: Path) -> None:
    (base / "schema.yaml").write_text(
        "columns:\n  age: {type: float, required: true}\n  visits: {type: int}\n  plan: {type: string}\n"
        "  since: {type: timestamp}\n  churned: {type: bool}\n"
    )
    with pytest.raises(TooManyRejected, match="break the schema") as caught:
        validate_data(project(validate={"schema": "schema.yaml"}), base, base / "work")
    assert "age: missing" in str(caught.value.why)


def test_a_column_that_must_be_unique_rejects_repetitions(base: Path) -> None:
    columns = (
        "age: {type: float}, visits: {type: int}, plan: {type: string}, since: {type: timestamp}, churned: {type: bool}"
    )
    (base / "schema.yaml").write_text(f"columns: {{person: {{type: string, unique: true}}, {columns}}}\n")
    result = validate_data(project(validate={"schema": "schema.yaml", "max_rejected": 1}), base, base / "work")
    people = customers()["person"].to_pylist()
    assert result.rows_rejected == len(people) - len(set(people))
    assert set(result.reasons) == {("person", "not unique")}


def test_duplicates_are_dropped_or_kept_on_one_side(base: Path) -> None:
    table = customers()
    pq.write_table(pa.concat_tables([table, table.slice(0, 100)]), base / "raw" / "0.parquet")
    kept = prepare_data(project(source="raw/0.parquet"), base, base / "out")
    dropped = prepare_data(project(source="raw/0.parquet", duplicates="drop"), base, base / "out")
    assert (kept.manifest.rows_duplicate, dropped.manifest.rows_duplicate) == (0, 100)
    assert sum(dropped.manifest.rows(split) for split in SPLITS) == 600
    rows = [set(map(repr, kept.data.table(split).to_pylist())) for split in SPLITS]
    assert not rows[0] & rows[1]
    assert not rows[0] & rows[2]


@pytest.mark.parametrize("by", ["group", "stratified", "time"])
def test_the_other_splits_work_end_to_end(by: str, base: Path) -> None:
    result = prepare_data(project(split={"by": by}, time="since", entity="person"), base, base / "out")
    tables = [result.data.table(split) for split in SPLITS]
    assert sum(table.num_rows for table in tables) == 600
    if by == "group":
        people = [set(table["person"].to_pylist()) for table in tables]
        assert not people[0] & people[1]
        assert not people[1] & people[2]
    if by == "stratified":
        rates = [np.mean(table[LABEL].to_numpy()) for table in tables]
        assert max(rates) - min(rates) < 0.01
    if by == "time":
        assert max(tables[0]["since"].to_pylist()) < min(tables[1]["since"].to_pylist())


def test_text_with_zones_splits_by_instant_and_keeps_the_wall_clock(base: Path) -> None:
    lines = ["at,x,y,zone"]
    for i in range(600):
        zone = "-05:00" if i % 2 else "Z"
        lines.append(f"2013-01-{i // 2 % 28 + 1:02d}T23:{i % 60:02d}:00{zone},{i % 7},{i % 3 == 0},{zone}")
    (base / "raw" / "a.csv").write_text("\n".join(lines))
    wanted = project(
        source="raw/a.csv",
        label={"column": "y"},
        time="at",
        split={"by": "time", "validation": "2013-01-15", "test": "2013-01-22"},
        features={"numeric": ["x"], "categorical": ["zone"], "datetime": ["at"]},
    )
    result = prepare_data(wanted, base, base / "out")
    assert {moment.hour for moment in result.data.table("train")["at"].to_pylist()} == {23}
    days: dict[str, set[int]] = {"Z": set(), "-05:00": set()}
    for row in result.data.table("validation").to_pylist():
        days[row["zone"]].add(row["at"].day)
    assert days == {"Z": set(range(15, 22)), "-05:00": set(range(14, 21))}


def test_multiclass_and_regression_labels(base: Path) -> None:
    many = prepare_data(project(label={"column": "plan"}, features={"numeric": ["age", "visits"]}), base, base / "out")
    assert (many.manifest.task, many.manifest.label_classes) == ("multiclass", ("basic", "plus", "pro"))
    amount = prepare_data(project(label={"column": "age"}, features={"numeric": ["visits"]}), base, base / "out")
    assert (amount.manifest.task, amount.manifest.label_classes) == ("regression", ())
    assert amount.data.table("train")[LABEL].type == pa.float64()
    assert amount.manifest.rows_unlabelled > 0
    assert "regression" in render_markdown(prepare_report(project(), amount))


def test_images_travel_through(base: Path) -> None:
    rng = np.random.default_rng(7)
    pixels = rng.integers(0, 17, (200, 64))
    table = pa.table({"pixels": pixels.tolist(), "digit": (np.arange(200) % 10).astype(np.int64)})
    pq.write_table(table, base / "raw" / "digits.parquet")
    features = {"image": {"pixels": {"shape": [1, 8, 8], "scale": 16}}}
    wanted = project(source="raw/digits.parquet", label={"column": "digit"}, features=features)
    result = prepare_data(wanted, base, base / "out")
    tensors = result.transform.apply_table(result.data.table("test"))
    assert tensors["image"].shape == (40, 1, 8, 8)
    assert result.manifest.schema == {"pixels": "tensor"}


def test_a_category_with_a_value_a_row_is_bounded_and_warned_of(base: Path) -> None:
    table = customers(4000).append_column("ticket", pa.array([f"t{i}" for i in range(4000)]))
    pq.write_table(table, base / "raw" / "0.parquet")
    features = {"numeric": ["age"], "categorical": {"ticket": {"max_values": 500}}}
    result = prepare_data(project(source="raw/0.parquet", features=features), base, base / "out")
    assert len(result.transform.categorical[0].values) == 500
    assert any("ticket has 2,400" in warning for warning in result.warnings)


def test_reports_are_small_and_whole(base: Path) -> None:
    validation = validate_data(project(), base, base / "work")
    prepared = prepare_data(project(), base, base / "out")
    for report in (validation_report(project(), validation), prepare_report(project(), prepared)):
        page = render_html(report)
        assert len(page.encode()) < 300_000
        assert all(name in page for name in ("age", "visits", "plan", "since"))


def test_progress_is_told(base: Path) -> None:
    said: list[tuple[str, float | None]] = []
    prepare_data(project(), base, base / "out", None, lambda message, share=None: said.append((message, share)))
    assert said[0][0] == "inferring the schema"
    assert said[-1] == ("wrote 600 of 600 rows", 1.0)


def damaged(base: Path, damage: str) -> Project:
    """A project whose data has one thing wrong."""
    raw = base / "raw"
    table = customers()
    if damage == "no file":
        return project(source="elsewhere/*.parquet")
    if damage == "truncated":
        path = raw / "1.parquet"
        path.write_bytes(path.read_bytes()[:-100])
    elif damage == "delimiter":
        (raw / "a.csv").write_text("age;churned\n1;true\n")
        return project(source="raw/a.csv")
    elif damage == "encoding":
        (raw / "a.csv").write_bytes("age,plan,churned\n1,für,true\n".encode("latin-1"))
        return project(source="raw/a.csv")
    elif damage == "empty":
        pq.write_table(table.slice(0, 0), raw / "empty.parquet")
        return project(source="raw/empty.parquet")
    elif damage == "types differ":
        pq.write_table(table.set_column(1, "visits", pa.array(["many"] * 600)), raw / "9.parquet")
    elif damage == "all mixed":
        rows = [f'{{"visits": {i if i % 2 else chr(34) + "x" + chr(34)}, "churned": {i % 2}}}' for i in range(400)]
        (raw / "a.jsonl").write_text("\n".join(rows))
        return project(source="raw/a.jsonl", features={"numeric": ["visits"]})
    elif damage == "one class":
        pq.write_table(table.set_column(5, "churned", pa.array([True] * 600)), raw / "one.parquet")
        return project(source="raw/one.parquet")
    elif damage == "no label":
        pq.write_table(table.set_column(5, "churned", pa.nulls(600, pa.bool_())), raw / "none.parquet")
        return project(source="raw/none.parquet")
    elif damage == "unknown label":
        return project(label={"column": "churn"})
    elif damage == "unknown feature":
        return project(features={"numeric": ["agee"]})
    elif damage == "feature of another type":
        return project(features={"numeric": ["plan"]})
    elif damage == "few rows":
        pq.write_table(table.slice(0, 20), raw / "few.parquet")
        return project(source="raw/few.parquet")
    elif damage == "empty test":
        split = {"by": "time", "validation": "2021-01-01", "test": "2099-01-01"}
        return project(time="since", split=split)
    elif damage == "two images":
        shape = {"shape": [1, 1, 2]}
        pixels = pa.array([[1.0, 2.0]] * 600)
        both = table.append_column("a", pixels).append_column("b", pixels)
        pq.write_table(both, raw / "images.parquet")
        return project(source="raw/images.parquet", features={"image": {"a": shape, "b": shape}})
    return project()


@pytest.mark.parametrize(
    ("damage", "error", "said"),
    [
        ("no file", SourceNotFound, "elsewhere"),
        ("truncated", SourceUnreadable, "raw/1.parquet"),
        ("delimiter", SourceUnreadable, "separated by commas"),
        ("encoding", SourceUnreadable, "row 1"),
        ("empty", EmptyData, "no rows"),
        ("types differ", SchemaMismatch, "9.parquet"),
        ("all mixed", SchemaMismatch, "string, which cannot be numeric"),
        ("one class", LabelProblem, "one value only"),
        ("no label", LabelProblem, "no value in any good row"),
        ("unknown label", LabelProblem, "did you mean churned"),
        ("unknown feature", SchemaMismatch, "did you mean age"),
        ("feature of another type", SchemaMismatch, "string, which cannot be numeric"),
        ("few rows", SplitTooSmall, "at least"),
        ("empty test", SplitTooSmall, "test has 0 rows"),
        ("two images", TransformError, "one image column at most"),
    ],
)
def test_bad_input_has_a_coded_error_with_a_place_and_leaves_nothing(
    damage: str, error: type[DataError], said: str, base: Path
) -> None:
    wanted = damaged(base, damage)
    with pytest.raises(error) as caught:
        prepare_data(wanted, base, base / "out", open_store("store", base))
    assert said in str(caught.value)
    assert caught.value.exit_code == 3
    assert caught.value.code.startswith("FL-2")
    assert leftovers(base) == []


def test_a_source_with_other_values_in_as_many_rows_is_refused_too(base: Path) -> None:
    """Its rows would get the labels of the rows that were there before."""
    path = base / "raw" / "a.csv"
    lines = ["x,y", *(f"{i % 7},{i % 2}" for i in range(300))]
    path.write_text("\n".join(lines) + "\n")
    wanted = project(source="raw/a.csv", label={"column": "y"}, features={"numeric": ["x"]})

    def replace(message: str, share: float | None = None) -> None:
        if message == "writing the splits":
            facts = path.stat()
            path.write_text("\n".join([lines[0], *reversed(lines[1:])]) + "\n")
            os.utime(path, ns=(facts.st_atime_ns, facts.st_mtime_ns + 1_000_000))

    with pytest.raises(SourceUnreadable, match="changed while it was read"):
        prepare_data(wanted, base, base / "out", progress=replace)
    assert leftovers(base) == []


def test_a_source_that_changes_between_the_passes_is_refused(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (base / "raw" / "a.csv").write_text("x,y\n" + "\n".join(f"{i % 7},{i % 2}" for i in range(300)) + "\n")
    wanted = project(source="raw/a.csv", label={"column": "y"}, features={"numeric": ["x"]})

    def grow(message: str, share: float | None = None) -> None:
        if message == "writing the splits":
            with (base / "raw" / "a.csv").open("a") as file:
                file.write("1,1\n")

    with pytest.raises(SourceUnreadable, match="changed while it was read"):
        prepare_data(wanted, base, base / "out", None, grow)
    assert leftovers(base) == []


def test_a_damaged_copy_is_found_when_it_is_fetched(base: Path) -> None:
    store = open_store("store", base)
    result = prepare_data(project(), base, base / "out", store)
    key = f"prepared/{result.manifest.fingerprint}/train-00000.parquet"
    content = bytearray(store.read(key))
    content[200] ^= 1
    store.write(key, bytes(content))
    with pytest.raises(PreparedDataDamaged, match=r"train-00000\.parquet has another digest"):
        fetch_prepared(store, result.manifest.fingerprint, base / "cache")
