"""Step 5: a version number for a bundle that passed its gates."""

from typing import NamedTuple

from fairlead.components.image import IMAGE
from kfp import dsl


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def register(
    context: str,
    bundle_uri: str,
    digest: str,
    fingerprint: str,
    code: str,
    config: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> NamedTuple("Registered", [("version", int), ("first", bool)]):
    """Register the bundle. Fails when a gate did not pass.

    Args:
        context: Project, overrides, run and store as JSON.
        bundle_uri: Where the bundle is.
        digest: The bundle's digest.
        fingerprint: Fingerprint of the prepared data that it was made from.
        code: Version of the code; takes part in caching only.
        config: Digest of the configuration; takes part in caching only.
    """
    from fairlead.wiring import artifacts, steps

    result = steps.register(context, bundle_uri, digest, fingerprint)
    artifacts.fill(result, metrics, report, summary)
    return result["version"], result["first"]
