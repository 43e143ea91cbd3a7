"""`fairlead init`: a project file that runs unedited, from data that nobody has described."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.cli import main
from fairlead.cli.init import flow, render, scalar
from fairlead.data.prepare import prepare_data, validate_data
from fairlead.data.proposal import Proposal, project_name, propose
from fairlead.errors import LabelProblem, SourceNotFound
from fairlead.spec.load import load_project, load_text

ROWS = 1200


def customers(rows: int = ROWS, seed: int = 5) -> dict[str, list[Any]]:
    """A table with everything that is awkward."""
    rng = np.random.default_rng(seed)
    score = rng.normal(size=rows)
    churned = score + rng.normal(size=rows) > 0.5
    day = np.datetime64("2021-01-01") + rng.integers(0, 500, rows).astype("timedelta64[D]")
    return {
        "Unnamed: 0": list(range(rows)),
        "customer id": [f"C{number:06d}" for number in rng.permutation(rows)],
        "signup": [str(value) for value in day],
        "score": [None if rng.random() < 0.1 else round(float(value), 4) for value in score],
        "visits": rng.integers(0, 400, rows).tolist(),
        "plan_code": rng.choice([1, 2, 3, 10], rows).tolist(),
        "shop_id": rng.integers(1000, 1100, rows).tolist(),
        "city": [f"city {number}" for number in rng.integers(0, 400, rows)],
        "has: card": rng.choice([True, False], rows).tolist(),
        "answer, yes?": rng.choice(["no", "1e3", "null"], rows).tolist(),
        "constant": [1] * rows,
        "empty": [None] * rows,
        "us_date": [f"{value.astype(object):%m/%d/%Y}" for value in day],
        "churn_reason": ["price" if yes else None for yes in churned],
        "churned": [None if i % 100 == 7 else ("yes" if yes else "no") for i, yes in enumerate(churned)],
    }


def write(folder: Path, name: str, columns: dict[str, list[Any]]) -> Path:
    path = folder / name
    table = pa.table(columns)
    if name.endswith(".parquet"):
        pq.write_table(table, path, row_group_size=500)
    elif name.endswith(".csv"):
        pa_csv.write_csv(table, path)
    else:
        path.write_text("".join(json.dumps(row) + "\n" for row in table.to_pylist()))
    return path


def proposal_of(tmp_path: Path, columns: dict[str, list[Any]], label: str, name: str = "data.parquet") -> Proposal:
    write(tmp_path, name, columns)
    return propose(name, label, tmp_path)


# --- what each column becomes ----------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["data.csv", "data.parquet", "data.jsonl"])
def test_each_column_gets_the_role_that_a_person_would_give_it(name: str, tmp_path: Path) -> None:
    found = proposal_of(tmp_path, customers(), "churned", name)
    assert (found.task, found.positive, found.classes) == ("binary", "yes", ("no", "yes"))
    assert set(found.numeric) == {"score", "visits"}
    assert set(found.categorical) == {"plan_code", "city", "has: card", "answer, yes?"}
    assert found.datetime == {"signup": ("weekday", "month")}
    assert (found.split_by, found.time) == ("time", "signup")
    assert {column: why.split(":")[0] for column, why in found.excluded.items()} == {
        "Unnamed: 0": "a different number in every row",
        "customer id": "a different value in every row",
        "shop_id": "an identifier by its name (100 values)",
        "constant": "one value only",
        "empty": "no values",
        "us_date": f"dates in a form such as {customers()['us_date'][0]}",
        "churn_reason": "may only be known afterwards",
    }
    assert found.entity_candidates == ("shop_id",)
    assert (found.rows, found.exact) == (ROWS, True)


@pytest.mark.parametrize("name", ["data.csv", "data.parquet", "data.jsonl"])
def test_the_file_written_from_it_prepares_unedited(name: str, tmp_path: Path) -> None:
    write(tmp_path, name, customers())
    assert main(["init", "--from", str(tmp_path / name), "--label", "churned", "--dir", str(tmp_path)]) == 0
    loaded = load_project(tmp_path)
    result = prepare_data(loaded.project, loaded.base, tmp_path / "out")
    assert result.manifest.task == "binary"
    assert result.manifest.rows_read == ROWS
    assert min(result.manifest.rows(side) for side in ("train", "validation", "test")) > 200
    assert (tmp_path / "schema.yaml").exists()


def regression(rng: np.random.Generator) -> dict[str, list[Any]]:
    size = rng.gamma(5, 20, 600)
    return {
        "sqm": size.tolist(),
        "rooms": rng.integers(1, 7, 600).tolist(),
        "price": (size * 3000 + rng.normal(0, 9e4, 600)).tolist(),
    }


def three_classes(rng: np.random.Generator) -> dict[str, list[Any]]:
    kind = rng.integers(0, 3, 150)
    return {f"x{i}": (kind + rng.normal(0, 0.3, 150)).tolist() for i in range(4)} | {"kind": [f"k{v}" for v in kind]}


def groups(rng: np.random.Generator) -> dict[str, list[Any]]:
    user = rng.integers(0, 120, 900)
    return {
        "user_id": [f"u{v}" for v in user],
        "amount": rng.normal(size=900).tolist(),
        "fraud": (rng.random(900) < 0.2).tolist(),
    }


@pytest.mark.parametrize(
    ("make", "label", "task", "split"),
    [
        (regression, "price", "regression", "random"),
        (three_classes, "kind", "multiclass", "stratified"),
        (groups, "fraud", "binary", "group"),
    ],
)
def test_other_tasks_prepare_unedited(make: Any, label: str, task: str, split: str, tmp_path: Path) -> None:
    write(tmp_path, "data.parquet", make(np.random.default_rng(3)))
    assert main(["init", "--from", str(tmp_path / "data.parquet"), "--label", label, "--dir", str(tmp_path)]) == 0
    loaded = load_project(tmp_path)
    assert loaded.project.data.split.by == split
    assert loaded.project.train.launcher == "inprocess"
    assert loaded.project.train.workers == 1
    result = prepare_data(loaded.project, loaded.base, tmp_path / "out")
    assert result.manifest.task == task


def test_a_label_that_many_columns_predict_is_easy_and_those_are_allowed(tmp_path: Path) -> None:
    found = proposal_of(tmp_path, three_classes(np.random.default_rng(3)), "kind")
    assert set(found.allow) == set(found.numeric) == {"x0", "x1", "x2", "x3"}
    assert '      x3: "found by fairlead init; write here why it is known in time"\n' in render(found)


def test_a_single_column_that_knows_the_answer_is_left_out(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    late = rng.random(800) < 0.3
    columns = {f"x{i}": rng.normal(size=800).tolist() for i in range(6)} | {
        "late_minutes": (late * 40 + rng.normal(0, 9, 800)).tolist(),
        "late": late.tolist(),
    }
    found = proposal_of(tmp_path, columns, "late")
    assert set(found.excluded) == {"late_minutes"}
    assert "its name is like the label's" in found.excluded["late_minutes"]
    assert found.allow == {}


def test_labels_of_whole_numbers_with_gaps_are_classes(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    values = [None if i % 9 == 0 else float(i % 2) for i in range(200)]
    found = proposal_of(tmp_path, {"x": rng.normal(size=200).tolist(), "y": values}, "y")
    assert (found.task, found.positive) == ("binary", 1)
    (tmp_path / "fairlead.yaml").write_text(render(found))
    loaded = load_project(tmp_path)
    assert prepare_data(loaded.project, loaded.base, tmp_path / "out").manifest.label_classes == ("0", "1")


def test_the_rarer_value_is_positive_when_no_word_says_so(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    labels = ["a" if i % 4 == 0 else "b" for i in range(200)]
    assert proposal_of(tmp_path, {"x": rng.normal(size=200).tolist(), "y": labels}, "y").positive == "a"


def test_a_time_split_that_would_lack_a_class_is_not_proposed(tmp_path: Path) -> None:
    days = [str(np.datetime64("2020-01-01") + i) for i in range(300)]
    labels = [i < 20 for i in range(300)]
    rng = np.random.default_rng(3)
    found = proposal_of(
        tmp_path,
        {"x": rng.normal(size=300).tolist(), "y": labels, "z": rng.normal(size=300).tolist(), "day": days},
        "y",
    )
    assert found.split_by == "stratified"
    assert "day" not in found.datetime or "lack a class" in found.split_why


def test_dates_of_birth_do_not_decide_a_split(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    days = [str(np.datetime64("1960-01-01") + int(v)) for v in rng.integers(0, 9000, 300)]
    found = proposal_of(
        tmp_path, {"x": rng.normal(size=300).tolist(), "birth_date": days, "y": (rng.random(300) < 0.5).tolist()}, "y"
    )
    assert found.time_candidates == ()
    assert "birth_date" in found.datetime


def test_dates_as_text_in_parquet_work_from_init_to_prepared_data(tmp_path: Path) -> None:
    write(tmp_path, "data.parquet", customers())
    assert main(["init", "--from", str(tmp_path / "data.parquet"), "--label", "churned", "--dir", str(tmp_path)]) == 0
    loaded = load_project(tmp_path)
    manifest = prepare_data(loaded.project, loaded.base, tmp_path / "out").manifest
    assert manifest.schema["signup"] == "timestamp"
    assert manifest.split_by == "time"


def test_many_categories_are_hashed(tmp_path: Path) -> None:
    rng = np.random.default_rng(3)
    columns = {"street": [f"s{v}" for v in rng.integers(0, 3000, 8000)], "y": (rng.random(8000) < 0.5).tolist()}
    found = proposal_of(tmp_path, columns, "y")
    assert found.categorical["street"] == {"encode": "hash", "buckets": 4096}


def test_a_folder_of_parts_is_sampled_from_first_to_last(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    rng = np.random.default_rng(3)
    for part in range(12):
        x = rng.normal(size=50)
        write(
            tmp_path / "parts",
            f"p{part:02d}.csv",
            {"x": x.tolist(), "part": [f"n{part}"] * 50, "y": (x + rng.normal(0, 2, 50) > 0).tolist()},
        )
    found = propose("parts", "y", tmp_path)
    assert "part" in found.categorical
    assert (found.rows, found.exact) == (600, False)
    assert found.project == "parts"


def test_settings_follow_the_size(tmp_path: Path) -> None:
    small = proposal_of(tmp_path, three_classes(np.random.default_rng(3)), "kind")
    assert (small.small, small.batch, small.epochs) == (True, 16, 40)
    large = load_text(render(_replaced(small, rows=10_000_000)))
    assert (large.train.launcher, large.train.workers, large.train.global_batch, large.train.epochs) == (
        "auto",
        2,
        1024,
        4,
    )


def _replaced(proposal: Proposal, **changes: Any) -> Proposal:
    import dataclasses

    return dataclasses.replace(proposal, **changes)


# --- what cannot be done ---------------------------------------------------------------------------------------------
def test_an_unknown_label_names_the_nearest(tmp_path: Path) -> None:
    with pytest.raises(LabelProblem) as caught:
        proposal_of(tmp_path, customers(50), "churnd")
    assert caught.value.fix == "did you mean churned?"


@pytest.mark.parametrize(
    ("label", "values", "what"),
    [
        ("y", [1] * 60, "one value only"),
        ("y", [None] * 60, "no values"),
        ("y", [f"v{i}" for i in range(2000)], "more than 1000"),
    ],
)
def test_a_label_that_cannot_be_predicted_is_refused(label: str, values: list[Any], what: str, tmp_path: Path) -> None:
    columns = {"x": [float(i * 37 % 11) for i in range(len(values))], label: values}
    with pytest.raises(LabelProblem, match=what):
        proposal_of(tmp_path, columns, label)


def test_data_without_a_usable_column_is_refused_with_the_reasons(tmp_path: Path) -> None:
    with pytest.raises(LabelProblem) as caught:
        proposal_of(tmp_path, {"id": list(range(100)), "c": [1] * 100, "y": [0, 1] * 50}, "y")
    assert "c: one value only" in str(caught.value.why)


def test_missing_empty_and_broken_files_are_refused_and_nothing_is_written(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "head.csv").write_text("x,y\n")
    (tmp_path / "broken.parquet").write_bytes(b"PAR1 not really")
    (tmp_path / "notes.txt").write_text("hello")
    for name in ("nowhere.csv", "empty.csv", "head.csv", "broken.parquet", "notes.txt"):
        assert main(["init", "--from", str(tmp_path / name), "--label", "y", "--dir", str(tmp_path / "p")]) == 3, name
        assert "FL-20" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
    with pytest.raises(SourceNotFound):
        propose("nowhere.csv", "y", tmp_path)


def test_an_existing_file_is_kept_unless_forced(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "data.csv", customers(300))
    words = ["init", "--from", str(tmp_path / "data.csv"), "--label", "churned", "--dir", str(tmp_path)]
    (tmp_path / "fairlead.yaml").write_text("mine")
    assert main(words) == 2
    assert "--force replaces it" in capsys.readouterr().err
    assert (tmp_path / "fairlead.yaml").read_text() == "mine"
    assert main([*words, "--force"]) == 0
    assert load_project(tmp_path).project.project == "data"


def test_the_schema_of_other_data_is_not_taken_over(tmp_path: Path) -> None:
    write(tmp_path, "data.csv", customers(300))
    (tmp_path / "schema.yaml").write_text("of something else")
    assert main(["init", "--from", str(tmp_path / "data.csv"), "--label", "churned", "--dir", str(tmp_path)]) == 0
    assert load_project(tmp_path).project.data.validate_.schema_file == "data.schema.yaml"


def test_paths_are_written_as_the_project_folder_sees_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "raw").mkdir()
    write(tmp_path / "raw", "data.csv", customers(300))
    monkeypatch.chdir(tmp_path / "raw")
    assert main(["init", "--from", "data.csv", "--label", "churned", "--dir", "../project"]) == 0
    assert load_project(tmp_path / "project").project.data.source == "../raw/data.csv"


def test_json_tells_what_was_decided(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path, "data.csv", customers(300))
    words = ["init", "--from", str(tmp_path / "data.csv"), "--label", "churned", "--dir", str(tmp_path), "-o", "json"]
    assert main(words) == 0
    value = json.loads(capsys.readouterr().out)
    assert value["task"] == "binary"
    assert value["excluded"]["constant"] == "one value only"
    assert "score" in value["features"]


# --- the text --------------------------------------------------------------------------------------------------------
def test_the_text_explains_what_was_left_out(tmp_path: Path) -> None:
    text = render(proposal_of(tmp_path, customers(), "churned"))
    assert "  #   customer id: a different value in every row: an identifier or free text" in text
    assert max(map(len, text.splitlines())) <= 120


@settings(max_examples=300, deadline=None)
@given(st.text(min_size=1, max_size=20))
def test_any_text_is_written_so_that_it_reads_back(text: str) -> None:
    data = f"{{source: a, label: {{column: {scalar(text)}}}, entity: {scalar(text)}}}"
    document = f"project: a\ndata: {data}\nfeatures: {{numeric: [x y z]}}\n"
    assert load_text(document).data.label.column == text
    assert load_text(document + f"store: {flow(text)}\n").store == text


@settings(max_examples=60, deadline=None)
@given(
    st.lists(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12), min_size=1, max_size=8, unique=True
    )
)
def test_columns_of_any_name_give_a_valid_file(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    rng = np.random.default_rng(3)
    folder = tmp_path_factory.mktemp("names")
    columns: dict[str, list[Any]] = {name: rng.normal(size=60).tolist() for name in names if name != "y"}
    columns |= {"plain": rng.normal(size=60).tolist(), "y": (rng.random(60) < 0.5).tolist()}
    found = proposal_of(folder, columns, "y")
    assert set(load_text(render(found)).features.numeric) == set(found.numeric)
    assert set(found.numeric) | set(found.excluded) == set(columns) - {"y"}


@pytest.mark.parametrize(
    ("source", "name"),
    [
        ("data/Flights 2013.parquet", "flights-2013"), ("data/*.parquet", "data"),
        ("s3://bucket/Über_Lieder/", "ber-lieder"),
        ("2013.csv", "project"), ("x" * 90 + ".csv", "x" * 40), ("a" * 39 + "-b.csv", "a" * 39),
    ],
)  # fmt: skip
def test_project_names_are_valid(source: str, name: str) -> None:
    assert project_name(source) == name
    load_text(f"project: {name}\ndata: {{source: a, label: {{column: y}}}}\nfeatures: {{numeric: [x]}}\n")


def test_a_group_that_is_the_only_feature_stays_a_feature(tmp_path: Path) -> None:
    columns = groups(np.random.default_rng(3))
    del columns["amount"]
    found = proposal_of(tmp_path, columns, "fraud")
    assert (found.split_by, list(found.categorical)) == ("stratified", ["user_id"])
    load_text(render(found))


@pytest.mark.parametrize("delimiter", [None, ";", "tab"])
def test_the_delimiter_is_found_or_taken_and_the_file_prepares_unedited(delimiter: str | None, tmp_path: Path) -> None:
    character = "\t" if delimiter == "tab" else ";"
    late = np.random.default_rng(7).choice(["yes", "no"], 400)
    rows = [f"{i}{character}{i * 31 % 97}{character}{late[i]}{character}" for i in range(400)]
    (tmp_path / "a.csv").write_text("\n".join([f"{character}size{character}late{character}", *rows]))
    words = [] if delimiter is None else ["--delimiter", delimiter]
    source = ["--from", str(tmp_path / "a.csv"), "--dir", str(tmp_path)]
    assert main(["init", *source, "--label", "late", *words]) == 0
    project = load_project(tmp_path / "fairlead.yaml").project
    assert project.data.delimiter == character
    assert project.features.names() == ("size",)
    text = (tmp_path / "fairlead.yaml").read_text()
    assert "unnamed_1: its name in the header is empty" in text
    assert validate_data(project, tmp_path, tmp_path / "work").rows_rejected == 0


def test_what_would_be_read_otherwise_than_it_was_meant_is_left_out_by_name(tmp_path: Path) -> None:
    late = np.random.default_rng(7).choice(["yes", "no"], 300)
    rows = [f'{i * 31 % 97},"{i},5",{i % 28 + 1}/{i % 12 + 1}/2013,{late[i]}' for i in range(300)]
    (tmp_path / "a.csv").write_text("\n".join(["size,price,day,late", *rows]))
    proposal = propose("a.csv", "late", tmp_path)
    assert proposal.numeric == ("size",)
    assert "decimal comma" in proposal.excluded["price"]
    assert "dates" in proposal.excluded["day"]
    with pytest.raises(LabelProblem, match="decimal comma"):
        propose("a.csv", "price", tmp_path)


def test_a_character_that_cannot_separate_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "a.csv").write_text("a,b\n1,2\n")
    code = main(["init", "--from", str(tmp_path / "a.csv"), "--label", "b", "--delimiter", "ab", "-o", "json"])
    assert (code, json.loads(capsys.readouterr().out)["error"]["where"]) == (2, "--delimiter")
