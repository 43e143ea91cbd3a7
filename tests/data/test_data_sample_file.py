"""`fairlead data sample`: rows of a source in one file, drawn in two streaming passes."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest

from fairlead.cli import main
from fairlead.errors import EXIT_OK

ROWS = 6000
PROJECT = """
project: orders
data: {source: raw, label: {column: late, positive: "yes"}, validate: {schema: schema.yaml, max_rejected: 20%}}
features: {numeric: [amount]}
"""


def rows() -> pa.Table:
    rng = np.random.default_rng(7)
    return pa.table(
        {
            "number": np.arange(ROWS),
            "amount": rng.gamma(2, 3, ROWS).round(4),
            "town": rng.choice(["Bonn", "Rome", "Oslo"], ROWS, p=[0.7, 0.2, 0.1]),
            "late": np.where(rng.random(ROWS) < 0.1, "yes", "no"),
        }
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "raw").mkdir()
    for number in range(3):
        part = rows().slice(number * 2000, 2000)
        pq.write_table(part, tmp_path / "raw" / f"{number}.parquet", row_group_size=300)
    (tmp_path / "fairlead.yaml").write_text(PROJECT)
    return tmp_path


def draw(project: Path, capsys: pytest.CaptureFixture[str], *words: str, out: str = "sample.parquet") -> dict[str, Any]:
    capsys.readouterr()
    path = project / out
    command = ["data", "sample", "-f", str(project / "fairlead.yaml"), "--out", str(path), "-o", "json", *words]
    code = main(command)
    told = capsys.readouterr()
    assert code == EXIT_OK, told.err
    facts: dict[str, Any] = json.loads(told.out)
    assert not list(project.rglob(".partial*"))
    return {**facts, "table": pq.read_table(path)}


def test_a_simple_sample_is_a_part_of_the_source_in_its_order_and_the_same_again(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    first = draw(project, capsys, "--rows", "500")
    numbers = first["table"]["number"].to_numpy()
    assert (first["rows"], first["of_rows"], first["rejected"]) == (500, ROWS, 0)
    assert (np.diff(numbers) > 0).all()
    assert first["table"].equals(rows().take(pa.array(numbers)).cast(first["table"].schema))
    again = draw(project, capsys, "--rows", "500", out="again.parquet")
    assert again["table"].equals(first["table"])
    other = draw(project, capsys, "--rows", "500", "--seed", "8", out="other.parquet")
    assert not other["table"].equals(first["table"])


def test_the_cut_into_files_and_their_format_play_no_role(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = draw(project, capsys, "--rows", "300", "--by", "importance", "--chance", "amount")
    for path in (project / "raw").iterdir():
        path.unlink()
    pyarrow.csv.write_csv(rows(), project / "raw" / "all.csv")
    after = draw(project, capsys, "--rows", "300", "--by", "importance", "--chance", "amount", out="after.parquet")
    assert after["table"].equals(before["table"])


def test_a_stratified_sample_keeps_the_shares_of_a_named_column_or_the_label(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = rows()
    for column, words in (("late", ()), ("town", ("--strata", "town"))):
        found = draw(project, capsys, "--rows", "600", "--by", "stratified", *words)["table"]
        for value in set(whole[column].to_pylist()):
            share = whole[column].to_pylist().count(value) / ROWS
            assert abs(found[column].to_pylist().count(value) - 600 * share) < 1


def test_an_importance_sample_stands_for_the_whole(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = draw(project, capsys, "--rows", "1500", "--by", "importance", "--chance", "amount")
    table, whole = found["table"], rows()
    weights, amounts = table["sample_weight"].to_numpy(), table["amount"].to_numpy()
    assert amounts.mean() > 1.2 * whole["amount"].to_numpy().mean()
    assert (weights * amounts).sum() == pytest.approx(whole["amount"].to_numpy().sum(), rel=0.02)
    assert weights.sum() == pytest.approx(ROWS, rel=0.1)
    assert 500 < found["effective_rows"] < 1500
    weighted = draw(project, capsys, "--rows", "1500", "--by", "weighted", "--chance", "amount", out="w.parquet")
    assert weighted["table"].equals(table.drop_columns(["sample_weight"]))


def test_rejected_rows_are_never_drawn_and_change_no_other_row_s_luck(
    project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = set(draw(project, capsys, "--rows", "3000")["table"]["number"].to_pylist())
    schema = (project / "schema.yaml").read_text()
    assert "town:" in schema
    path = project / "raw" / "1.parquet"
    table = pq.read_table(path)
    towns = [None if i % 4 == 0 else town for i, town in enumerate(table["town"].to_pylist())]
    pq.write_table(table.set_column(2, "town", pa.array(towns)), path)
    lines = schema.splitlines()
    at = next(i for i, line in enumerate(lines) if line.strip().startswith("town:"))
    print("\n".join(lines[at : at + 3]))
    found = draw(project, capsys, "--rows", "3000", out="after.parquet")
    assert found["rejected"] == 500
    after = set(found["table"]["number"].to_pylist())
    rejected = {2000 + i for i in range(0, 2000, 4)}
    assert not after & rejected
    assert len(after) == 3000
    assert before - rejected <= after


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("--rows", "5"), "--rows"),
        (("--rows", "50", "--by", "weighted"), "chance names the column"),
        (("--rows", "50", "--strata", "town"), "--strata is for --by stratified"),
        (("--rows", "50", "--by", "stratified", "--strata", "twon"), "there is no column twon"),
        (("--rows", "50", "--by", "weighted", "--chance", "town"), "cannot be a weight"),
    ],
)
def test_what_is_no_sample_is_refused_and_leaves_nothing(
    words: tuple[str, ...], told: str, project: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["data", "sample", "-f", str(project / "fairlead.yaml"), "--out", str(project / "s.parquet"), *words])
    assert told in capsys.readouterr().err
    assert not list(project.rglob("*s.parquet"))


def test_a_source_is_never_written_over(project: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = project / "raw" / "1.parquet"
    before = out.read_bytes()
    assert main(["data", "sample", "-f", str(project / "fairlead.yaml"), "--rows", "50", "--out", str(out)])
    assert "is one of the files that are sampled" in capsys.readouterr().err
    assert out.read_bytes() == before
