"""The models of the values, and the files that are written from them."""

import json
from typing import Any

import jsonschema
import pytest
import yaml
from chart_world import BASE, CANDIDATE, CHART, ONE, SETS, VALUE_SETS, ChartRefused, merged, only, render, serve_config
from pydantic import ValidationError

from fairlead.deploy.backends.helm_files import schema_file, values_file, values_table
from fairlead.deploy.backends.helm_values import HelmValues, traffic_values
from fairlead.records.codec import from_value
from fairlead.records.release import Arm, Release

CHAMPION_ARM = Arm(1, BASE["champion"]["bundleUri"], ONE)
CANDIDATE_ARM = Arm(2, CANDIDATE["bundleUri"], CANDIDATE["digest"])


@pytest.mark.parametrize("values", SETS.values(), ids=SETS)
def test_what_the_chart_takes_the_models_take(values: dict[str, Any]) -> None:
    given = {key: value for key, value in values.items() if value is not None}
    assert HelmValues.model_validate(given).model == values["model"]


def test_the_defaults_of_the_chart_are_those_of_the_models() -> None:
    in_chart = merged(yaml.safe_load((CHART / "values.yaml").read_text()), BASE)
    assert HelmValues.model_validate(in_chart) == HelmValues.model_validate(BASE)


def test_the_files_of_the_chart_are_those_that_the_models_give() -> None:
    assert (CHART / "values.yaml").read_text() == values_file()
    assert (CHART / "values.schema.json").read_text() == schema_file()
    assert values_table() in (CHART / "README.md").read_text()


def test_the_schema_is_one() -> None:
    schema = json.loads(schema_file())
    jsonschema.Draft7Validator.check_schema(schema)
    validator = jsonschema.Draft7Validator(schema)
    for values in SETS.values():
        assert list(validator.iter_errors(values)) == []
    assert list(validator.iter_errors(merged({"trafic": {}})))


def test_every_value_of_the_models_is_used_by_a_template() -> None:
    templates = "".join(path.read_text() for path in sorted((CHART / "templates").iterdir()))
    for name, info in HelmValues.model_fields.items():
        if name != "global_":
            assert f".Values.{info.alias}" in templates, info.alias


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"traffic": {"candidateWeight": 5}}, "must be 0 without a candidate"),
        ({"candidate": {"version": 2}}, "or none of them"),
        ({"candidate": {**CANDIDATE, "digest": ONE}}, "the candidate is the champion"),
    ],
)
def test_contradictions_are_refused_by_models_and_chart_alike(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValidationError, match=message):
        HelmValues.model_validate(merged(values))
    with pytest.raises(ChartRefused):
        render(merged(values))


RELEASES = (
    Release("flights", 3, CHAMPION_ARM),
    Release("flights", 4, CHAMPION_ARM, CANDIDATE_ARM, 0.0, 100.0, "r1", 'shadow: "copies"\nof all', 200.0),
    Release("flights", 5, CHAMPION_ARM, CANDIDATE_ARM, 0.5, 0.0, "r1", "canary 0.5 %"),
    Release("flights", 6, CANDIDATE_ARM, None, 0.0, 0.0, "r1", "promoted"),
)


@pytest.mark.parametrize("release", RELEASES, ids=lambda release: str(release.generation))
def test_a_release_goes_through_the_chart_unchanged(release: Release) -> None:
    values = merged(VALUE_SETS["canary and shadow"], traffic_values(release))
    config = serve_config(only(render(values, revision=release.generation), "RayService"))
    told = config["applications"][0]["deployments"][0]["user_config"]
    assert from_value(Release, {**told["release"], "generation": told["revision"]}) == release


def test_traffic_values_change_nothing_else() -> None:
    assert traffic_values(RELEASES[1]).keys() == {"champion", "candidate", "traffic"}
    assert "sticky" not in traffic_values(RELEASES[1])["traffic"]
