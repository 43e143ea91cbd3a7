"""Step 2: splits, a scan for leaks, the fitted transform, prepared data."""

from typing import NamedTuple

from fairlead.components.image import IMAGE
from kfp import dsl


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def prepare(
    context: str,
    source_fingerprint: str,
    code: str,
    config: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> NamedTuple("Prepared", [("fingerprint", str)]):
    """Split the rows, refuse leaks, fit the transform on the training split only, write shards and manifest.

    Args:
        context: Project, overrides, run and store as JSON.
        source_fingerprint: What the validated source is.
        code: Version of the code; takes part in caching only.
        config: Digest of the configuration; takes part in caching only.
    """
    from fairlead.wiring import artifacts, steps

    result = steps.prepare(context, source_fingerprint)
    artifacts.fill(result, metrics, report, summary)
    return (result["fingerprint"],)
