"""Step 3: a fitted network, as the draft of a bundle."""

from typing import NamedTuple

from fairlead.components.image import IMAGE
from kfp import dsl


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def train(
    context: str,
    fingerprint: str,
    code: str,
    config: str,
    metrics: dsl.Output[dsl.Metrics],
    report: dsl.Output[dsl.HTML],
    summary: dsl.Output[dsl.Markdown],
) -> NamedTuple("Trained", [("draft", str), ("weights_sha256", str)]):
    """Fit the network on Ray Train or in this process, export it to ONNX; an interrupted fit is taken up.

    Args:
        context: Project, overrides, run and store as JSON.
        fingerprint: Fingerprint of the prepared data.
        code: Version of the code; takes part in caching only.
        config: Digest of the configuration; takes part in caching only.
    """
    from fairlead.wiring import artifacts, steps

    result = steps.train(context, fingerprint)
    artifacts.fill(result, metrics, report, summary)
    return result["draft"], result["weights_sha256"]
