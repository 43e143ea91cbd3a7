"""The ``pipeline`` section: where and how big the steps' pods are, for ``fairlead run --on cluster``."""

from typing import Annotated

from pydantic import AfterValidator, Field

from fairlead.spec.quantities import ByteCount, Seconds, Section
from fairlead.spec.rayjob import check_image

_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_MIB = 2**20


class StepPod(Section):
    """What the pod of a step asks for."""

    cpu: float = Field(0.5, gt=0, description="Cores requested.")
    cpu_limit: float | None = Field(None, gt=0, description="Most cores; none: what the node has to spare.")
    memory: ByteCount = Field(2 * 2**30, ge=256 * _MIB, description="Memory requested, and the limit of it.")
    gpus: int = Field(0, ge=0, description="GPUs; a train step without launcher rayjob computes in its own pod.")
    gpu_resource: str = Field("nvidia.com/gpu", description="Name of the GPU resource that nodes offer.")


class Pipeline(Section):
    """Steps as pods of Kubeflow Pipelines, with ``run --on cluster``."""

    host: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Address of the Kubeflow Pipelines API. Default: KF_PIPELINES_ENDPOINT, or the current cluster's.",
    )
    namespace: str | None = Field(
        None, pattern=_NAME, description="Namespace of the runs, where Kubeflow serves many; none: its only one."
    )
    experiment: str | None = Field(None, description="Experiment of the runs. Default: the project's name.")
    root: str | None = Field(
        None,
        pattern=r"^(s3|gs|minio)://\S+$",
        description="Where Kubeflow keeps what steps show. Default: the installation's.",
    )
    image: Annotated[str, AfterValidator(check_image)] | None = Field(
        None, description="The platform image, with a tag other than latest or a digest."
    )
    pull_secrets: tuple[Annotated[str, Field(pattern=_NAME)], ...] = Field(
        (), description="Secrets that the image is pulled with."
    )
    service_account: str | None = Field(
        None, pattern=_NAME, description="Service account of the pods: it creates RayJobs and Helm releases."
    )
    env_secrets: tuple[Annotated[str, Field(pattern=_NAME)], ...] = Field(
        ("fairlead-store",),
        description="Secrets with AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY; one that does not exist is left out.",
    )
    store_endpoint: str | None = Field(None, description="S3 endpoint as pods reach it; none: AWS_ENDPOINT_URL here.")
    step: StepPod = Field(default_factory=StepPod, description="The pod of a step.")
    train: StepPod | None = Field(None, description="The pod of the train step; none: as the others.")
    retries: int = Field(2, ge=0, le=10, description="New pods for a step that failed; finished work is taken up.")
    backoff: Seconds = Field(30, ge=0, description="Wait before the first retry; then twice as long each time.")
    deadline: Seconds | None = Field(None, ge=60, description="How long the pod of a step may take; none: no limit.")
