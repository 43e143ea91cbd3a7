"""Files with random damage end in rows or in a coded error, never in anything else, and never half-written."""

from pathlib import Path

import numpy as np
import orjson
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pq
import pytest

from fairlead.data.prepare import validate_data
from fairlead.data.profile import ProfileOptions, profile_data
from fairlead.data.profile_record import Profile
from fairlead.data.profile_report import profile_report
from fairlead.errors import DataError
from fairlead.reports.html import render_html
from fairlead.spec.project import Project


def write(path: Path) -> None:
    rng = np.random.default_rng(7)
    table = pa.table(
        {
            "x": pa.array(rng.normal(size=400), mask=rng.random(400) < 0.1),
            "n": rng.integers(0, 50, 400),
            "word": rng.choice(["a", "bü", "ccc"], 400),
            "at": [f"2013-01-{i % 28 + 1:02d}T05:00" for i in range(400)],
            "y": rng.random(400) < 0.5,
        }
    )
    if path.suffix == ".parquet":
        pq.write_table(table, path, row_group_size=100)
    elif path.suffix == ".csv":
        pa_csv.write_csv(table, path)
    else:
        path.write_bytes(b"\n".join(orjson.dumps(row) for row in table.to_pylist()))


def mutated(content: bytes, rng: np.random.Generator) -> bytes:
    kind = rng.integers(0, 5)
    at = int(rng.integers(0, len(content)))
    if kind == 0:
        return content[:at]
    changed = bytearray(content)
    if kind == 1:
        changed[at] ^= 1 << int(rng.integers(0, 8))
    elif kind == 2:
        changed[at : at + 20] = rng.bytes(20)
    elif kind == 3:
        changed[at:at] = bytes(rng.choice([b"\0", b'"', b"\n", b",", b"\xff", b"{", b"1e999"], 3).tolist()[0])
    else:
        end = min(len(changed), at + int(rng.integers(1, 200)))
        del changed[at:end]
    return bytes(changed)


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
@pytest.mark.parametrize("profile", [False, True])
def test_random_damage_gives_rows_or_a_coded_error(suffix: str, profile: bool, tmp_path: Path) -> None:
    path = tmp_path / f"a{suffix}"
    write(path)
    content = path.read_bytes()
    project = Project.model_validate(
        {
            "project": "damaged",
            "data": {"source": path.name, "label": {"column": "y"}},
            "features": {"numeric": ["x", "n"], "categorical": ["word"], "datetime": ["at"]},
        }
    )
    assert validate_data(project, tmp_path, tmp_path / "work").rows_read == 400
    rng = np.random.default_rng(7)
    errors = []
    for _ in range(60):
        path.write_bytes(mutated(content, rng))
        try:
            validate_data(project, tmp_path, tmp_path / "work", profile=profile)
        except DataError as error:
            errors.append(error)
    assert len(errors) > 5
    assert all(error.what and error.where for error in errors)
    assert not list(tmp_path.glob("work/.partial*"))


@pytest.mark.parametrize("suffix", [".parquet", ".csv", ".jsonl"])
def test_random_damage_gives_a_profile_or_a_coded_error(suffix: str, tmp_path: Path) -> None:
    """Text stays a dictionary here, as the file has it: indices beyond it and bytes that are no UTF-8 must not pass."""
    path = tmp_path / f"a{suffix}"
    write(path)
    content = path.read_bytes()
    facts = {"source": path.name, "label": {"column": "y"}, "time": "at"}
    project = Project.model_validate({"project": "damaged", "data": facts, "features": {"numeric": ["x"]}})
    whole = profile_data(project, tmp_path, ProfileOptions(cache=False))
    assert whole.rows == 400
    rng = np.random.default_rng(8)
    errors, profiles = [], 0
    for _ in range(80):
        path.write_bytes(mutated(content, rng))
        try:
            found = profile_data(project, tmp_path, ProfileOptions(cache=False))
        except DataError as error:
            errors.append(error)
        else:
            render_html(profile_report(found)).encode()
            Profile.model_validate_json(found.model_dump_json())
            profiles += 1
    assert all(error.what and error.where for error in errors)
    assert (len(errors) if suffix == ".parquet" else profiles) > 5, "text is read around its damage"
