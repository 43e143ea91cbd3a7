"""What the chart tells Ray Serve is what Ray Serve, and the applications named in it, understand."""

from typing import Any

import pytest
from chart_world import SETS, render, serve_config

pytestmark = [
    pytest.mark.filterwarnings("ignore::pydantic.warnings.PydanticDeprecatedSince20"),
    pytest.mark.filterwarnings("ignore:.*:DeprecationWarning:ray"),
]
every_set = pytest.mark.parametrize("values", SETS.values(), ids=SETS)


@every_set
def test_the_arguments_are_those_that_the_applications_take(values: dict[str, Any]) -> None:
    from fairlead.serve.ray_cluster import ClusterArguments

    for document in render(values):
        if document["kind"] == "RayService":
            for application in serve_config(document)["applications"]:
                arguments = ClusterArguments(**application["args"])
                assert arguments.model == values["model"]
                assert application["import_path"].startswith("fairlead.serve.ray_cluster:")


@every_set
def test_ray_serve_understands_its_configuration(values: dict[str, Any]) -> None:
    from ray.serve.schema import ServeDeploySchema

    for document in render(values):
        if document["kind"] == "RayService":
            ServeDeploySchema.model_validate(serve_config(document))
