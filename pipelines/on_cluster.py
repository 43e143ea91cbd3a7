"""The same steps as pods: image, resources, credentials, retries, and a last step that runs however the others ended.

`train_and_release` is what ``kfp run create`` and an upload by hand take, with the defaults of the project file's
section ``pipeline``; `build` is what ``fairlead run --on cluster`` submits, with the project's own.
"""

from collections.abc import Callable
from typing import Any

from fairlead.components.finish import finish
from fairlead.pipelines.train_and_release import STEPS, chain
from kfp import dsl, kubernetes

from fairlead import __version__
from fairlead.packaged import pushed_image
from fairlead.spec.pipeline import Pipeline, StepPod
from fairlead.wiring.context import RUN_VARIABLE, SCRATCH

IMAGE = pushed_image("platform") or f"fairlead-platform:{__version__}"
_SECRET_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_RUN_LABEL = "metadata.labels['pipeline/runid']"
_MOST_BACKOFF = "600s"
_MIB = 2**20


def build(place: Pipeline, last: str = "deploy") -> Callable[..., Any]:
    """The pipeline up to the step `last`, for these pods."""
    names = list(STEPS)
    chosen = names[: names.index(last) + 1]
    whole = chosen == names
    name = "train-and-release" if whole else f"train-and-release-to-{last}"
    title = "Train and release" if whole else f"Train and release: to {last}"

    @dsl.pipeline(name=name, display_name=title)
    def on_cluster(context: str, source: str = "", code: str = "", config: str = "", champion: str = "") -> None:
        """From raw data to a version on live traffic, each decision backed by evidence.

        Args:
            context: Project, overrides and store as JSON.
            source: Fingerprint of the source data.
            code: Version of the code.
            config: Digest of the configuration.
            champion: Digest of the champion that the new version is compared with.
        """
        finished = finish(context=context)
        finished.set_display_name("Keep how it ended")
        finished.set_caching_options(False)
        put(finished, "finish", place)
        with dsl.ExitHandler(finished, name="steps"):
            known = {"context": context, "source": source, "code": code, "config": config, "champion": champion}
            for step, task in chain(chosen, known).items():
                put(task, step, place)

    return on_cluster


def put(task: Any, step: str, place: Pipeline) -> None:
    """Say of one task in which pod it runs, and how often it is tried."""
    pod = place.train if step == "train" and place.train is not None else place.step
    task.set_container_image(place.image or IMAGE)
    _size(task, pod)
    if place.retries:
        task.set_retry(place.retries, f"{place.backoff:.0f}s", 2.0, _MOST_BACKOFF)
    # Not a parameter: those take part in Kubeflow's cache, and the run is another one each time.
    kubernetes.use_field_path_as_env(task, RUN_VARIABLE, _RUN_LABEL)
    kubernetes.empty_dir_mount(task, "fairlead-scratch", str(SCRATCH))
    for secret in place.env_secrets:
        kubernetes.use_secret_as_env(task, secret, {key: key for key in _SECRET_KEYS}, optional=True)
    if place.pull_secrets:
        kubernetes.set_image_pull_secrets(task, list(place.pull_secrets))
    if place.deadline is not None:
        kubernetes.set_timeout(task, int(place.deadline))


def _size(task: Any, pod: StepPod) -> None:
    memory = f"{pod.memory // _MIB}Mi"
    task.set_cpu_request(f"{pod.cpu:g}").set_memory_request(memory).set_memory_limit(memory)
    if pod.cpu_limit is not None:
        task.set_cpu_limit(f"{pod.cpu_limit:g}")
    if pod.gpus:
        task.set_accelerator_type(pod.gpu_resource).set_accelerator_limit(pod.gpus)


train_and_release = build(Pipeline())
