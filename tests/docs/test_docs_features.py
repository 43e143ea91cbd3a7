"""Every example of docs/features.md is fitted on the page's own rows and gives what the page shows."""

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import yaml

from fairlead.features.transform import Transform
from fairlead.spec.features import Features
from fairlead.spec.load import load_text

PAGE = (Path(__file__).parents[2] / "docs" / "features.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"```yaml\n(.*?)```(?:\n```text\n(.*?)```)?", PAGE, re.DOTALL)
_NUMBERS = ("weight", "stops")


def value_of(name: str, text: str) -> Any:
    if text in ("", "null"):
        return None
    return float(text) if name in _NUMBERS else text


def training_rows() -> pa.Table:
    lines = [line.strip("|").split("|") for line in PAGE.splitlines() if line.startswith("|")][:7]
    names = [cell.strip() for cell in lines[0]]
    rows = [{n: value_of(n, cell.strip()) for n, cell in zip(names, line, strict=True)} for line in lines[2:]]
    columns: dict[str, Any] = {name: pa.array([row[name] for row in rows]) for name in names}
    columns["at"] = pa.array([datetime.fromisoformat(row["at"]) for row in rows])
    columns["pixels"] = pa.array([[1.0, 2.0, 3.0, 4.0]] * len(rows))
    return pa.table(columns)


@pytest.mark.parametrize(("section", "shown"), EXAMPLES, ids=[example[0].splitlines()[0] for example in EXAMPLES])
def test_an_example_gives_what_is_shown(section: str, shown: str) -> None:
    assert section
    fitted = Transform.fit(training_rows().to_batches(), Features.model_validate(yaml.safe_load(section)))
    load_text(f"project: page\ndata: {{source: a.csv, label: {{column: late}}}}\nfeatures: {yaml.safe_load(section)}\n")
    for line in shown.splitlines():
        raw, _, result = line.partition(" -> ")
        pairs = re.findall(r"(\w+)=(.*?)(?= \w+=|$)", raw)
        row = {name: value_of(name, text) for name, text in pairs}
        tensor, *numbers = result.split()
        found = fitted.apply_rows([row])[tensor][0]
        np.testing.assert_allclose(found, [float(number) for number in numbers], atol=1e-6, err_msg=line)


def test_the_page_has_an_example_of_every_option() -> None:
    assert len(EXAMPLES) >= 15
    text = "\n".join(section for section, _ in EXAMPLES)
    for word in ("impute", "clip", "log", "robust", "minmax", "buckets", "hash", "crosses", "cyclic", "text", "image"):
        assert word in text, word
