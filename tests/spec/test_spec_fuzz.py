"""Whatever stands in the file or on the command line: a project, or a SpecError that names a place."""

from typing import Any

import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fairlead.errors import SpecError
from fairlead.spec.fields import all_fields
from fairlead.spec.load import load_text

KEYS = sorted({part for doc in all_fields() for part in doc.path.replace("[]", "").split(".")})
WORDS = [
    "auc",
    "time",
    "off",
    "0.1%",
    "30s",
    "5MiB",
    "2013-07-01",
    "9" * 400 + "%",
    "9" * 400 + "GB",
    "1e999s",
    "1.2.3%",
]
SCALARS = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False), st.text(max_size=8), st.sampled_from(WORDS)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS) | st.text(max_size=5), inner, max_size=4)
    ),
    max_leaves=12,
)
SECTIONS = ["project", "store", "data", "features", "train", "evaluate", "serve", "deploy", "watch"]


def check(text: str, *overrides: str) -> None:
    found = None
    try:
        load_text(text, "f.yaml", overrides)
    except SpecError as error:
        found = error
    if found is not None:
        assert found.problems
        assert all(p["place"].startswith(("f.yaml:", "--set ")) for p in found.problems)
        assert found.where == found.problems[0]["place"]
        str(found).encode("utf-8", "surrogatepass")


@settings(max_examples=400, deadline=None)
@given(st.text(max_size=80))
def test_any_text(text: str) -> None:
    check(text)


@settings(max_examples=400, deadline=None)
@given(st.text(alphabet="ab:{}[],-&*!|>'\"#%@`? \n\t0.~<=", max_size=60))
def test_text_of_yaml_characters(text: str) -> None:
    check(text)


@settings(max_examples=400, deadline=None)
@given(st.dictionaries(st.sampled_from(SECTIONS), VALUES))
def test_any_values_in_the_right_sections(document: dict[str, Any]) -> None:
    check(yaml.safe_dump(document))


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([doc.path for doc in all_fields()]), VALUES)
def test_any_value_in_any_field(path: str, value: Any) -> None:
    key = path.replace("[]", "[0]").replace("<name>", "x")
    base = "project: a\ndata: {source: a, label: {column: y}}\nfeatures: {image: {x: {shape: [1, 2]}}}\n"
    base += "evaluate: {gates: [{metric: auc, min: 0.5}]}\n"
    check(base, f"{key}={yaml.safe_dump(value, default_flow_style=True)}")


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=30))
def test_any_override(text: str) -> None:
    check("project: a\ndata: {source: a, label: {column: y}}\nfeatures: {numeric: [x]}\n", text)
