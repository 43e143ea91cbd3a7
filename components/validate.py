"""Step 1: is the data what the schema says?"""

from typing import NamedTuple

from fairlead.components.image import IMAGE
from kfp import dsl


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def validate(
    context: str,
    source: str,
    code: str,
    config: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> NamedTuple("Validated", [("source_fingerprint", str), ("rows", int), ("rejected", int)]):
    """Check every row against the schema; rows that break it go to quarantine with file, row, column and reason.

    Args:
        context: Project, overrides, run and store as JSON.
        source: Fingerprint of the source when the run was submitted; takes part in caching only.
        code: Version of the code; takes part in caching only.
        config: Digest of the configuration; takes part in caching only.
    """
    from fairlead.wiring import artifacts, steps

    result = steps.validate(context)
    artifacts.fill(result, metrics, report, summary)
    return result["source_fingerprint"], result["rows"], result["rejected"]
