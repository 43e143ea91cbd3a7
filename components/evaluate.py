"""Step 4: what the network shows on rows that it has never seen, and the sealed bundle."""

from typing import NamedTuple

from fairlead.components.image import IMAGE
from kfp import dsl


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def evaluate(
    context: str,
    fingerprint: str,
    draft: str,
    champion: str,
    code: str,
    config: str,
    metrics: dsl.Output[dsl.Metrics],
    curves: dsl.Output[dsl.ClassificationMetrics],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> NamedTuple("Evaluated", [("bundle_uri", str), ("digest", str), ("passed", bool)]):
    """Calibrate on validation, judge on test against baselines and the champion, apply the gates, seal the bundle.

    Args:
        context: Project, overrides, run and store as JSON.
        fingerprint: Fingerprint of the prepared data.
        draft: Where the draft of the bundle is.
        champion: Digest of the champion that it is compared with; takes part in caching only.
        code: Version of the code; takes part in caching only.
        config: Digest of the configuration; takes part in caching only.
    """
    from fairlead.wiring import artifacts, steps

    result = steps.evaluate(context, fingerprint, draft)
    artifacts.fill(result, metrics, report, summary)
    artifacts.fill_curves(result, curves)
    return result["bundle_uri"], result["digest"], result["passed"]
