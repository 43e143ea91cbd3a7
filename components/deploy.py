"""Step 6: the version meets live traffic, and stays when the evidence says so."""

from typing import NamedTuple

from fairlead.components.image import IMAGE
from kfp import dsl


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def deploy(
    context: str,
    version: int,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> NamedTuple("Deployed", [("outcome", str)]):
    """Make the first version the champion; any later one goes through shadow and canary.

    Args:
        context: Project, overrides, run and store as JSON.
        version: The registered version.
    """
    from fairlead.wiring import artifacts, steps

    result = steps.deploy(context, version)
    artifacts.fill(result, metrics, report, summary)
    return (result["outcome"],)
