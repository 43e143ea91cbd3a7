"""Data that cannot be used: a code, a place and a fix, the exit code of data, and nothing half-written."""

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from fairlead.cli import main
from fairlead.testing.full_disk import files_no_larger_than, unfinished

ROWS = 400
Columns = dict[str, Any]
Cap = pytest.CaptureFixture[str]
PROJECT = """
project: orders
data:
  source: SOURCE
  label: {column: late}
  split: {by: random}
  validate: {schema: schema.yaml, max_rejected: 1%}
features: {numeric: [weight, distance], categorical: {town: {}}}
"""


def columns(count: int = ROWS) -> Columns:
    """Good rows."""
    rng = np.random.default_rng(9)
    weight = rng.normal(size=count)
    return {
        "weight": weight.tolist(),
        "distance": rng.gamma(2, 10, count).tolist(),
        "town": [f"town {number}" for number in rng.integers(0, 30, count)],
        "late": np.where(weight + rng.normal(size=count) > 0, "yes", "no").tolist(),
    }


class Orders:
    """A project whose only problem is its data."""

    def __init__(self, base: Path, capsys: Cap) -> None:
        self.base, self._capsys = base, capsys

    def write(self, data: Columns, name: str = "rows.parquet") -> Path:
        """Put rows where the project file says that they are."""
        path = self.base / name
        if name.endswith(".csv"):
            pa_csv.write_csv(pa.table(data), path)
        else:
            pq.write_table(pa.table(data), path)
        (self.base / "fairlead.yaml").write_text(PROJECT.replace("SOURCE", name))
        return path

    def cli(self, *words: str) -> tuple[int, Any]:
        """Exit code and JSON result of a command."""
        self._capsys.readouterr()
        code = main([*words, "-f", str(self.base / "fairlead.yaml"), "-o", "json"])
        return code, json.loads(self._capsys.readouterr().out)

    def prepared(self) -> list[Path]:
        """The data sets that there are."""
        return [path for path in self.base.rglob("prepared/*/*") if path.is_file()]


@pytest.fixture
def orders(tmp_path: Path, capsys: Cap) -> Orders:
    return Orders(tmp_path, capsys)


# --- one way to spoil the data each ----------------------------------------------------------------------------------
def _missing(orders: Orders) -> None:
    orders.write(columns()).unlink()


def _unreadable(orders: Orders) -> None:
    path = orders.write(columns())
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")


def _a_link_to_itself(orders: Orders) -> None:
    path = orders.write(columns())
    path.unlink()
    path.symlink_to(path.name)


def _truncated(orders: Orders) -> None:
    path = orders.write(columns())
    path.write_bytes(path.read_bytes()[:-200])


def _not_what_its_name_says(orders: Orders) -> None:
    orders.write(columns()).write_text("weight,distance\n1,2\n")


def _semicolons(orders: Orders) -> None:
    path = orders.write(columns(), "rows.csv")
    path.write_text(path.read_text().replace(",", ";"))


def _no_rows(orders: Orders) -> None:
    orders.write({name: values[:0] for name, values in columns().items()} | {"weight": pa.array([], pa.float64())})


def _only_a_header(orders: Orders) -> None:
    orders.write(columns(), "rows.csv").write_text("weight,distance,town,late\n")


def _mixed_types(orders: Orders) -> None:
    good = columns()
    orders.write(good, "rows.csv")
    assert orders.cli("data", "validate")[0] == 0  # weight is a number from now on
    orders.write(good | {"weight": [f"{n} kg" if n % 5 else str(n) for n in range(ROWS)]}, "rows.csv")


def _another_type(orders: Orders) -> None:
    orders.write(columns())
    assert orders.cli("data", "validate")[0] == 0
    orders.write(columns() | {"weight": ["heavy"] * ROWS})


def _infinite(orders: Orders) -> None:
    orders.write(columns() | {"distance": [np.inf if n % 10 == 0 else float(n) for n in range(ROWS)]})


def _unknown_label(orders: Orders) -> None:
    data = columns()
    orders.write({("lateness" if name == "late" else name): values for name, values in data.items()})


def _one_class(orders: Orders) -> None:
    orders.write(columns() | {"late": ["yes"] * ROWS})


def _no_labels(orders: Orders) -> None:
    orders.write(columns() | {"late": pa.array([None] * ROWS, pa.string())})


def _too_many_classes(orders: Orders) -> None:
    orders.write(columns(2500) | {"late": [f"order {number}" for number in range(2500)]})


def _too_few_rows(orders: Orders) -> None:
    orders.write(columns(12))


def _a_leak(orders: Orders) -> None:
    data = columns()
    orders.write(data | {"distance": [float(value == "yes") for value in data["late"]]})


BAD: list[tuple[Callable[[Orders], None], str, str]] = [
    (_missing, "FL-201", "rows.parquet"),
    (_unreadable, "FL-20", "rows.parquet"),
    (_a_link_to_itself, "FL-20", "rows.parquet"),
    (_truncated, "FL-202", "rows.parquet"),
    (_not_what_its_name_says, "FL-202", "rows.parquet"),
    (_semicolons, "FL-202", "rows.csv"),
    (_no_rows, "FL-203", "rows.parquet"),
    (_only_a_header, "FL-203", "rows.csv"),
    (_mixed_types, "FL-205", "weight"),
    (_another_type, "FL-204", "weight"),
    (_infinite, "FL-205", "distance"),
    (_unknown_label, "FL-20", "late"),
    (_one_class, "FL-206", "late"),
    (_no_labels, "FL-206", "late"),
    (_too_many_classes, "FL-206", "late"),
    (_too_few_rows, "FL-208", "rows"),
    (_a_leak, "FL-207", "distance"),
]


@pytest.mark.parametrize(("spoil", "code", "named"), BAD, ids=[case[0].__name__.strip("_") for case in BAD])
def test_bad_data_is_refused_by_name_with_a_fix(
    spoil: Callable[[Orders], None], code: str, named: str, orders: Orders
) -> None:
    spoil(orders)
    exit_code, said = orders.cli("data", "split")
    error = said["error"]
    assert exit_code == error["exit_code"] == 3
    assert error["code"].startswith(code)
    assert named in json.dumps(error)
    assert error["what"]
    assert error["where"]
    assert error["fix"]
    assert unfinished(orders.base) == []
    assert orders.prepared() == []


def test_good_data_with_a_category_in_every_row_is_used_within_bounds(orders: Orders) -> None:
    orders.write(columns(5000) | {"town": [f"house {number}" for number in range(5000)]})
    exit_code, said = orders.cli("data", "split")
    assert exit_code == 0, said
    (transform,) = (path for path in orders.base.glob(".fairlead/cache/prepared/*/transform.json"))
    assert transform.stat().st_size < 200_000


# --- a full disk -----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("room", [0, 300, 1_500, 6_000, 12_000, 20_000, 26_000, 32_000, 36_000])
def test_a_disk_that_is_full_at_any_write_is_told_and_leaves_nothing_half_written(room: int, orders: Orders) -> None:
    orders.write(columns(3000))
    with files_no_larger_than(room):
        exit_code, said = orders.cli("data", "split")
    assert (exit_code, said["error"]["code"]) == (8, "FL-802"), said
    assert str(orders.base) in said["error"]["where"]
    assert said["error"]["fix"]
    assert unfinished(orders.base) == []
    assert orders.prepared() == []
    exit_code, said = orders.cli("data", "split")  # with room again, the same command does it
    assert exit_code == 0, said
