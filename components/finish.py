"""The last word: runs at the end of a run on a cluster, however it ended."""

from fairlead.components.image import IMAGE
from kfp import dsl


@dsl.component(base_image=IMAGE, install_kfp_package=False)
def finish(context: str, status: dsl.PipelineTaskFinalStatus, summary: dsl.Output[dsl.Markdown]):
    """Keep in the store how the run ended, and show every step of it on one page.

    Args:
        context: Project, overrides and store as JSON.
        status: How the steps ended, from Kubeflow.
    """
    from fairlead.wiring import finish as wiring

    text = wiring.finish(context, status.state, status.error_message or "")
    with open(summary.path, "w", encoding="utf-8") as page:
        page.write(text)
