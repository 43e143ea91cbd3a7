"""The project file: what is accepted, and what is said about everything else."""
# ruff: noqa: E501 - messages stand here as a person sees them, on one line

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import yaml

from fairlead.errors import SpecError, SpecNotFound
from fairlead.spec.fields import ITEM, NAME, FieldDoc, all_fields
from fairlead.spec.load import load_project, load_text
from fairlead.spec.project import Project

GOOD = """\
project: flights
data:
  source: data/*.parquet
  label: {column: late, positive: true}
  time: scheduled_at
  split: {by: time, validation: 2013-06-01, test: 2013-07-01}
features:
  numeric: [distance]
"""


def problems(text: str, *overrides: str) -> list[str]:
    """Each problem as it is printed, without the head and the fix."""
    with pytest.raises(SpecError) as caught:
        load_text(text, "fairlead.yaml", overrides)
    return [line.strip() for line in str(caught.value).splitlines()[1:] if not line.startswith("  fix:")]


def problem(text: str, *overrides: str) -> str:
    found = problems(text, *overrides)
    assert len(found) == 1, found
    return found[0]


# --- what is accepted ------------------------------------------------------------------------------------------------
def test_a_minimal_file_gives_a_project_with_defaults() -> None:
    project = load_text(GOOD)
    assert project.data.split.by == "time"
    assert project.train.epochs == 5
    assert project.features.names() == ("distance",)


def test_words_that_older_yaml_takes_for_booleans_stay_words() -> None:
    project = load_text(
        GOOD + "train: {use_gpu: no}\ndeploy: {rollout: {shadow: off}}\n", overrides=["data.label.positive=yes"]
    )
    assert project.train.use_gpu == "no"
    assert project.deploy.rollout.shadow == "off"
    assert project.data.label.positive == "yes"


def test_numbers_follow_yaml_1_2() -> None:
    project = load_text(GOOD + "train: {learning_rate: 1e-3, global_batch: 010, seed: 0x10}\n")
    assert (project.train.learning_rate, project.train.global_batch, project.train.seed) == (0.001, 10, 16)


def test_amounts_may_have_units() -> None:
    text = GOOD + "train: {cache: 2MiB}\ndeploy: {rollout: {error_budget: 2%, no_data: 1.5m, watch: 250ms}}\n"
    project = load_text(text)
    assert project.train.cache == 2 * 2**20
    assert project.deploy.rollout.error_budget == 0.02
    assert (project.deploy.rollout.no_data, project.deploy.rollout.watch) == (90.0, 0.25)


def test_a_byte_order_mark_and_windows_line_ends_are_fine(tmp_path: Path) -> None:
    path = tmp_path / "fairlead.yaml"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.replace("\n", "\r\n").encode())
    assert load_project(path).project.project == "flights"


def test_a_folder_means_the_file_in_it_and_paths_start_there(tmp_path: Path) -> None:
    (tmp_path / "fairlead.yaml").write_text(GOOD)
    loaded = load_project(tmp_path)
    assert loaded.path == tmp_path / "fairlead.yaml"
    assert loaded.base == tmp_path.resolve()


def test_the_digest_follows_values_and_not_comments(tmp_path: Path) -> None:
    path = tmp_path / "fairlead.yaml"
    path.write_text(GOOD)
    first = load_project(path)
    path.write_text("# a comment\n" + GOOD + "train: {epochs: 5}\n")
    assert load_project(path).sha256 == first.sha256
    assert load_project(path, ["train.epochs=6"]).sha256 != first.sha256
    path.write_text(GOOD + "train: {epochs: 6}\n")
    assert load_project(path).sha256 == load_project(path, ["train.epochs=6"]).sha256


# --- every field -----------------------------------------------------------------------------------------------------
FIELDS = list(all_fields())
LEAVES = [doc for doc in FIELDS if not doc.sections]


def _document(path: str, value: Any) -> tuple[dict[str, Any], str]:
    """A valid document with `value` at the field's path, and that path as messages write it."""
    document: Any = yaml.safe_load(GOOD)
    document["data"]["split"] = {}
    parts = path.replace(ITEM, f".{ITEM}").replace(NAME, "distance").split(".")
    shown, target = "", document
    for part, following in zip(parts, [*parts[1:], None], strict=True):
        if part == ITEM:
            shown += "[0]"
            key: Any = 0
        else:
            shown += f".{part}" if shown else part
            key = part
        if following is None:
            target[key] = value
            break
        if isinstance(target, list):
            target = target[0]
            continue
        if following == ITEM:
            target[key] = [{"metric": "auc", "min": 0.5}]
        elif not isinstance(target.get(key), dict):
            target[key] = {"shape": [1, 2]} if shown.startswith("features.image.") else {}
        target = target[key]
    return document, shown


@pytest.mark.parametrize("doc", LEAVES, ids=lambda doc: doc.path)
def test_a_wrong_type_in_any_field_is_reported_at_that_field(doc: FieldDoc) -> None:
    wrong = 3.25 if doc.words.startswith(("mapping", "list", "text")) else {"a": 1}
    document, shown = _document(doc.path, wrong)
    found = problems(yaml.safe_dump(document))
    assert any(f" {shown}: expected " in line or f" {shown}.a: unknown key" in line for line in found), found


@pytest.mark.parametrize("doc", FIELDS, ids=lambda doc: doc.path)
def test_a_typo_in_any_key_names_the_key_that_was_meant(doc: FieldDoc) -> None:
    section, _, key = doc.path.rpartition(".")
    typo = f"{section}.{key}x" if section else f"{key}x"
    document, shown = _document(typo, 1)
    line = next(line for line in problems(yaml.safe_dump(document)) if f" {shown}:" in line)
    assert line.endswith(f"{shown}: unknown key; did you mean {key}?")


@pytest.mark.parametrize(
    "doc", [d for d in LEAVES if "at least" in d.limits or "above" in d.limits], ids=lambda d: d.path
)
def test_a_value_out_of_range_in_any_field_names_the_range(doc: FieldDoc) -> None:
    value: Any = [] if "of them" in doc.limits else -1
    document, shown = _document(doc.path, value)
    line = next(line for line in problems(yaml.safe_dump(document)) if f" {shown}: " in line)
    assert doc.limits in line
    assert "; got " in line


@pytest.mark.parametrize("doc", [d for d in LEAVES if d.choices], ids=lambda d: d.path)
def test_a_misspelt_choice_in_any_field_names_the_choices_and_the_nearest(doc: FieldDoc) -> None:
    choice = max(doc.choices, key=len)
    wrong: Any = f"{choice}q"
    document, shown = _document(doc.path, [wrong] if doc.words.startswith("list") else wrong)
    line = next(line for line in problems(yaml.safe_dump(document)) if f" {shown}" in line)
    assert choice in line.split("; got")[0]
    if not doc.words.startswith("list"):
        assert line.endswith(f'got "{wrong}"; did you mean {choice}?')


@pytest.mark.parametrize("doc", [d for d in FIELDS if d.required], ids=lambda d: d.path)
def test_a_missing_required_field_is_named_with_its_meaning(doc: FieldDoc) -> None:
    document, shown = _document(doc.path, None)
    target: Any = document
    parts = shown.replace("[0]", ".0").split(".")
    for part in parts[:-1]:
        target = target[int(part)] if isinstance(target, list) else target[part]
    del target[parts[-1]]
    found = problems(yaml.safe_dump(document))
    assert any(f" {shown}: is required: {doc.description.rstrip('.').lower()}" in line for line in found), found


def test_every_field_has_a_description() -> None:
    assert [doc.path for doc in FIELDS if not doc.description] == []


def test_defaults_are_valid_when_written_out() -> None:
    values = load_text(GOOD).model_dump(mode="json", by_alias=True, exclude_none=True)
    assert load_text(yaml.safe_dump(values)).model_dump() == load_text(GOOD).model_dump()


# --- golden messages -------------------------------------------------------------------------------------------------
def test_all_problems_come_at_once_in_the_order_of_the_file() -> None:
    text = """\
project: Flights
data:
  source: a.parquet
  label: {column: late}
  tme: scheduled_at
  source: b.parquet
features:
  numeric: {distance: {clipp: [0.1, 0.9]}}
  categorical: [carrier, 2013]
train:
  workers: true
  precision: bf61
  epochs: 0
epochs: 3
evaluate:
  gates:
    - {metric: auc}
    - 3
"""
    with pytest.raises(SpecError) as caught:
        load_text(text, "my.yaml", ["serve.port=x"])
    assert (
        str(caught.value)
        == """\
FL-100: my.yaml has 12 problems
  my.yaml:1:10  project: expected text (Name: lower case, digits, dashes); got "Flights"
  my.yaml:5:3  data.tme: unknown key; did you mean time?
  my.yaml:6:3  data.source: the key is written twice (first: line 3); remove one
  my.yaml:8:24  features.numeric.distance.clipp: unknown key; did you mean clip?
  my.yaml:9:26  features.categorical[1]: expected text; got 2013; put it in quotes: "2013"
  my.yaml:11:12  train.workers: expected a whole number, at least 1; got true
  my.yaml:12:14  train.precision: expected one of fp32, bf16, fp16; got "bf61"; did you mean bf16?
  my.yaml:13:11  train.epochs: expected a whole number, at least 1; got 0
  my.yaml:14:1  epochs: unknown key; did you mean train.epochs?
  my.yaml:17:7  evaluate.gates[0]: give exactly one of min, max, not_worse_than
  my.yaml:18:7  evaluate.gates[1]: expected a mapping; got 3
  --set 1  serve.port: expected a whole number, at least 1, at most 65535; got "x"
  fix: fairlead explain FIELD describes a field; fairlead schema prints the whole format"""
    )


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("by: time,", "by: tim,"), "expected one of time, group, stratified, random, time+group, group+stratified; got \"tim\"; did you mean time?"),
        (("2013-06-01", "yesterday"), "expected a date (2013-07-01 or 2013-07-01T12:00:00Z) or share (0.01 or 1%); got \"yesterday\""),
        (("2013-06-01", "2013-08-01"), "data.split: validation must begin before test"),
        (("2013-06-01", "0.2"), "data.split: validation and test must both be dates, or both be shares of the rows in time order"),
        (("  time: scheduled_at\n", ""), "data: a split by time needs data.time, the column that says when a row was known"),
        (("[distance]", "[distance, distance]"), "features: listed twice: distance"),
        (("[distance]", "[]"), "features: name at least one feature"),
        (("[distance]", "{distance: {scale: robusto}}"), "expected one of standard, robust, minmax, none; got \"robusto\"; did you mean robust?"),
        (("[distance]", "{distance: {scales: robust}}"), "features.numeric.distance.scales: unknown key; did you mean scale?"),
        (("[distance]", "{distance: {buckets: 10}}"), "features.numeric.distance: buckets needs encode: buckets or encode: both"),
        (("[distance]", "{distance: {clip: [0.9, 0.1]}}"), "clip takes two rising shares between 0 and 1, such as [0.01, 0.99]"),
        (("[distance]", "[distance]\n  crosses: {x: {of: [distanc, b]}}"), "features: crosses.x names distanc, which is no category; one of none"),
        (("[distance]", "{distance: {encode: both}}\n  crosses: {x: {of: [distance, distanc]}}"), "crosses.x names distanc, which is no category; did you mean distance?"),
        (("[distance]", "{distance: {encode: both}}\n  crosses: {x: {of: [distance, distance]}}"), "features: crosses.x names a category twice"),
        (("[distance]", "[distance]\n  text: {title: {max_token: 3}}"), "features.text.title.max_token: unknown key; did you mean max_tokens?"),
        (("[distance]", "[late]"), "the file: the label late cannot be a feature"),
        (("[distance]", "distance"), "features.numeric: expected a list of texts or mapping of names to options; got \"distance\""),
        (("project: flights", "project:"), "project: expected text (Name: lower case, digits, dashes); got nothing"),
        (("column: late", "column: [late]"), "data.label.column: expected text; got a list of 1"),
    ],
)  # fmt: skip
def test_messages_say_what_was_expected_and_what_is_there(change: tuple[str, str], expected: str) -> None:
    assert problem(GOOD.replace(*change)).endswith(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "fairlead.yaml:1:1  the file is empty; fairlead init --from FILE --label COLUMN writes one"),
        ("# only a comment\n", "fairlead.yaml:1:1  the file is empty; fairlead init --from FILE --label COLUMN writes one"),
        ("[1, 2]", "fairlead.yaml:1:1  expected a mapping of sections such as data, features, train; got a list of 2"),
        ("just text", 'fairlead.yaml:1:1  expected a mapping of sections such as data, features, train; got "just text"'),
        ("a: [1,\n", "fairlead.yaml:2:1  while parsing a flow node expected the node content, but found '<stream end>'"),
        ("a:\n\tb: 1", "fairlead.yaml:2:1  a tab where YAML needs spaces; indent with spaces"),
        ("a: 1\n---\nb: 2", "fairlead.yaml:2:1  a second document begins here (---); keep one document"),
        ("a: *x", "fairlead.yaml:1:4  found undefined alias 'x'; put a text that begins with * in quotes"),
        ("a: b: c", "fairlead.yaml:1:5  mapping values are not allowed here; put a text that contains ': ' in quotes, "
                    "or check the indentation"),
        ("a: \x01", "fairlead.yaml:1:4  the character U+0001 is not allowed in YAML"),
        ("[" * 60, "fairlead.yaml:1:41  nested deeper than 40 levels"),
    ],
)  # fmt: skip
def test_broken_yaml_is_named_with_its_place(text: str, expected: str) -> None:
    assert problem(text) == expected


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (
            "store: !!python/object:os.system x",
            "store: the tag !!python/object:os.system is not allowed; remove the tag",
        ),
        ("store: !!binary aGk=", "store: the tag !!binary is not allowed; remove the tag"),
        ("<<: {a: 1}", "merge keys (<<) are not supported; write the values out"),
        ("? [a]\n: 1", "a key must be plain text; write key: value"),
        ("train: {learning_rate: .inf}", "train.learning_rate: .inf is not a finite number"),
        ("train: {epochs: 1" + "0" * 5000 + "}", "cannot be read as a number; write it in quotes if it is text"),
        ("store: &a [*a]", "aliases expand to more than 20000 values or 40 levels; write the values out"),
    ],
)
def test_what_yaml_offers_beyond_plain_values_is_refused(line: str, expected: str) -> None:
    assert expected in "\n".join(problems(GOOD + line + "\n"))


def test_aliases_cannot_grow_without_bound() -> None:
    lines = ["store: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"s{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 12)]
    assert any("aliases expand" in line for line in problems(GOOD + "\n".join(lines)))


def test_an_alias_may_repeat_a_value() -> None:
    project = load_text(GOOD.replace("[distance]", "&n [distance]") + "evaluate: {slices: {columns: *n}}\n")
    assert project.evaluate.slices.columns == ("distance",)


# --- files -----------------------------------------------------------------------------------------------------------
def test_a_file_that_is_not_there_is_named_with_what_is(tmp_path: Path) -> None:
    (tmp_path / "other.yaml").write_text(GOOD)
    with pytest.raises(SpecNotFound) as caught:
        load_project(tmp_path / "fairlead.yaml")
    assert caught.value.where == str(tmp_path)
    assert "-f other.yaml" in str(caught.value.fix)


def test_a_file_that_is_not_text_is_named_with_the_line(tmp_path: Path) -> None:
    path = tmp_path / "fairlead.yaml"
    path.write_bytes(b"project: a\nstore: \xff\xfe\n")
    with pytest.raises(SpecError) as caught:
        load_project(path)
    assert caught.value.where == "fairlead.yaml:2"


def test_a_data_file_in_place_of_the_project_file_is_refused_unread(tmp_path: Path) -> None:
    path = tmp_path / "fairlead.yaml"
    path.write_text("a: 1\n" * 100_000)
    with pytest.raises(SpecError, match="larger than 256 KiB"):
        load_project(path)


@pytest.mark.parametrize("name", ["\0", "x" * 5000])
def test_names_that_no_file_can_have_are_not_found(name: str) -> None:
    with pytest.raises(SpecNotFound):
        load_project(name)


# --- secrets ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "line",
    [
        "store: s3://user:hunter2hunter2@bucket/prefix",
        "store: AKIAIOSFODNN7EXAMPLE",
        "train: {model_options: {password: hunter2hunter2}}",
        "train: {model_options: {api_key: hunter2hunter2}}",
        "password: hunter2hunter2",
        "train: {epochs: AKIAIOSFODNN7EXAMPLE}",
    ],
)
def test_secrets_are_refused_and_never_repeated(line: str) -> None:
    found = "\n".join(problems(GOOD + line + "\n"))
    assert "looks like a secret" in found
    assert "hunter2" not in found
    assert "AKIA" not in found


def test_a_reference_to_a_secret_is_no_secret() -> None:
    assert load_text(GOOD + "train: {model_options: {password: $PASSWORD_OF_HUB}}\n").train.model_options["password"]


# --- overrides -------------------------------------------------------------------------------------------------------
def test_overrides_reach_into_lists_and_make_sections() -> None:
    text = GOOD + "evaluate: {gates: [{metric: auc, min: 0.5}]}\n"
    project = load_text(
        text, overrides=["evaluate.gates[0].min=0.7", "serve.log.enabled=false", "train.epochs=3", "train.epochs=4"]
    )
    assert project.evaluate.gates[0].min == 0.7
    assert project.serve.log.enabled is False
    assert project.train.epochs == 4


def test_overrides_replace_whole_sections() -> None:
    project = load_text(GOOD, overrides=["data.split={by: random}", "features.numeric=[a, b]"])
    assert project.data.split.by == "random"
    assert project.features.names() == ("a", "b")


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.epoch=3", "--set 1  train.epoch: unknown key; did you mean epochs?"),
        ("train.epochs=three", '--set 1  train.epochs: expected a whole number, at least 1; got "three"'),
        ("train", '--set 1  expected KEY=VALUE such as train.epochs=3; got "train"'),
        ("=3", '--set 1  expected KEY=VALUE such as train.epochs=3; got "=3"'),
        ("project.x=3", '--set 1  project.x: cannot be set: project is "flights"'),
        ("features.numeric[4]=x", "--set 1  features.numeric[4]: cannot be set: features.numeric is a list of 1"),
        ("train.epochs=[", "--set 1  train.epochs: the value is not YAML: while parsing a flow node expected the node "
                           "content, but found '<stream end>'"),
        ("store=AKIAIOSFODNN7EXAMPLE", "--set 1  store: looks like a secret; a project file holds none; credentials come "
                                       "from the environment, for instance AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
    ],
)  # fmt: skip
def test_a_wrong_override_is_named_by_its_number(override: str, expected: str) -> None:
    assert problem(GOOD, override) == expected


# --- the error itself ------------------------------------------------------------------------------------------------
def test_the_error_survives_a_process_border_and_reads_as_json() -> None:
    with pytest.raises(SpecError) as caught:
        load_text(GOOD + "trian: {}\n")
    again = pickle.loads(pickle.dumps(caught.value))  # noqa: S301 - our own bytes, as multiprocessing sends them
    assert str(again) == str(caught.value)
    assert again.as_dict()["problems"] == [
        {"place": "fairlead.yaml:9:1", "path": "trian", "message": "unknown key", "suggestion": "did you mean train?"}
    ]


def test_the_schema_accepts_what_the_loader_accepts_and_refuses_typos() -> None:
    from jsonschema import Draft202012Validator

    from fairlead.spec.schema import json_schema

    schema = json_schema()
    Draft202012Validator.check_schema(schema)
    validator = Draft202012Validator(schema)
    good: Any = yaml.safe_load(GOOD)
    good["data"]["split"] |= {"validation": "2013-06-01", "test": "2013-07-01"}
    good |= {"deploy": {"rollout": {"error_budget": "1%", "watch": "30s", "shadow": "off"}}, "train": {"cache": "5MiB"}}
    assert list(validator.iter_errors(good)) == []
    bad = copy.deepcopy(good)
    bad["train"]["epoch"] = 3
    assert len(list(validator.iter_errors(bad))) == 1


def test_the_table_of_fields_knows_every_field_of_the_models() -> None:
    assert {doc.path.split(".")[0] for doc in FIELDS} == {
        info.alias or name for name, info in Project.model_fields.items()
    }
    assert len(LEAVES) > 80


def test_fields_that_came_later_leave_the_digest_of_a_project_alone() -> None:
    """The digest covers what is written in `features` below and nothing that a later version added."""
    values = load_text(GOOD, overrides=["features.numeric={a: {}}", "features.datetime={t: {}}"]).model_dump(
        mode="json"
    )
    assert values["features"] == {
        "numeric": {"a": {"impute": "median", "clip": None, "scale": "standard"}},
        "categorical": [],
        "datetime": {"t": {"parts": ["hour", "weekday", "month"]}},
        "image": {},
    }
