"""The ``train.rayjob`` section: where and how big the pods are that train on a cluster."""

import re
from typing import Annotated, Literal, Self

from pydantic import AfterValidator, Field, model_validator

from fairlead.spec.quantities import ByteCount, Seconds, Section

_NAME = r"^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$"
_LABEL = re.compile(r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?")
_PREFIX = re.compile(r"[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?")
_IMAGE = re.compile(r"(?P<name>[^\s@]+?)(:(?P<tag>[\w][\w.-]{0,127}))?(@sha256:(?P<digest>[0-9a-f]{64}))?")
_MIB = 2**20


def check_image(reference: str) -> str:
    """An image that always means the same: with a digest, or with a tag other than latest."""
    found = _IMAGE.fullmatch(reference)
    if found is None:
        raise ValueError(f"{reference} is no image reference")
    if found["digest"] is None and found["tag"] in (None, "latest"):
        raise ValueError(f"{reference} may mean another image tomorrow; name a tag other than latest, or a digest")
    return reference


def _label_key(key: str) -> str:
    prefix, slash, name = key.rpartition("/")
    if not _LABEL.fullmatch(name) or (slash and not _PREFIX.fullmatch(prefix)):
        raise ValueError(f"{key!r} is no label key")
    return key


def _label_value(value: str) -> str:
    if value and not _LABEL.fullmatch(value):
        raise ValueError(f"{value!r} is no label value: at most 63 letters, digits, '-', '_' and '.'")
    return value


class Toleration(Section):
    """One taint of nodes that pods accept, as Kubernetes writes it."""

    key: str = Field("", description="Key of the taint; empty with operator Exists: every taint.")
    operator: Literal["Equal", "Exists"] = Field("Equal", description="Whether the value must be equal.")
    value: str = Field("", description="Value of the taint.")
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = Field(
        "", description="Effect of the taint; empty: all of them."
    )

    @model_validator(mode="after")
    def _agrees(self) -> Self:
        if self.operator == "Exists" and self.value:
            raise ValueError("operator Exists takes no value")
        if self.operator == "Equal" and not self.key:
            raise ValueError("operator Equal needs a key")
        return self


class PodSize(Section):
    """What one pod asks for."""

    cpu: float = Field(1.0, gt=0, description="Cores requested.")
    cpu_limit: float | None = Field(None, gt=0, description="Most cores; none: what the node has to spare.")
    memory: ByteCount = Field(4 * 2**30, ge=256 * _MIB, description="Memory requested, and the limit of it.")
    shared_memory: ByteCount = Field(
        512 * _MIB, ge=96 * _MIB, description="Size of /dev/shm; it counts towards the memory."
    )

    @model_validator(mode="after")
    def _fits(self) -> Self:
        if self.cpu_limit is not None and self.cpu_limit < self.cpu:
            raise ValueError(f"cpu_limit {self.cpu_limit:g} is below cpu {self.cpu:g}")
        if self.shared_memory >= self.memory:
            raise ValueError("shared_memory counts towards memory and has to be smaller")
        return self


class WorkerPod(PodSize):
    """What each training worker's pod asks for: one worker per pod."""

    gpus: int = Field(0, ge=0, description="GPUs per worker. With 1 or more, training runs on them.")
    gpu_resource: Annotated[str, AfterValidator(_label_key)] = Field(
        "nvidia.com/gpu", description="Name of the GPU resource that nodes offer."
    )
    gpu_type: Annotated[str, AfterValidator(_label_value)] = Field(
        "", description="Type of GPU: the value of the node label gpu_type_label; empty: any."
    )
    gpu_type_label: Annotated[str, AfterValidator(_label_key)] = Field(
        "nvidia.com/gpu.product", description="Node label that names the type of GPU."
    )

    @model_validator(mode="after")
    def _type_of_something(self) -> Self:
        if self.gpu_type and not self.gpus:
            raise ValueError("gpu_type needs gpus of 1 or more")
        return self


class RayJob(Section):
    """Pods of a RayJob (KubeRay), for ``train.launcher: rayjob``."""

    image: Annotated[str, AfterValidator(check_image)] = Field(
        description="Image of the pods, with a tag other than latest or a digest."
    )
    pull_policy: Literal["IfNotPresent", "Always", "Never"] = Field(
        "IfNotPresent", description="When nodes pull the image."
    )
    pull_secrets: tuple[str, ...] = Field((), description="Secrets that the image is pulled with.")
    context: str | None = Field(None, description="Context of the kubeconfig; none: its current one, or the pod's own.")
    namespace: str | None = Field(None, pattern=_NAME, description="Namespace; none: the context's.")
    service_account: str | None = Field(None, pattern=_NAME, description="Service account of the pods.")
    env_secrets: tuple[Annotated[str, Field(pattern=_NAME)], ...] = Field(
        (),
        description="Secrets whose entries become environment variables of the pods: AWS_ACCESS_KEY_ID and "
        "AWS_SECRET_ACCESS_KEY for the store; none: the service account's own rights.",
    )
    store_endpoint: str | None = Field(
        None, description="S3 endpoint as pods reach it; none: AWS_ENDPOINT_URL of the launching environment."
    )
    head: PodSize = Field(
        default_factory=lambda: PodSize(memory=3 * 2**30),
        description="The pod that coordinates; below 2 GiB Ray ends its own parts for want of memory.",
    )
    worker: WorkerPod = Field(default_factory=WorkerPod, description="The pod of each worker.")
    node_selector: dict[str, str] = Field(default_factory=dict, description="Labels that nodes must have.")
    tolerations: tuple[Toleration, ...] = Field((), description="Taints of nodes that pods accept.")
    priority_class: str | None = Field(None, pattern=_NAME, description="PriorityClass of the pods.")
    queue: Annotated[str, AfterValidator(_label_value)] = Field(
        "", description="Kueue's local queue; the job starts when Kueue admits it."
    )
    start_deadline: Seconds = Field(
        900, ge=30, description="How long pods may wait for nodes, images and quota before the job is given up."
    )
    deadline: Seconds = Field(86_400, ge=60, description="How long the job may take in all.")
    retries: int = Field(1, ge=0, le=10, description="New clusters after one is lost; each goes on from checkpoints.")
    ttl: Seconds = Field(60, ge=0, description="How long the pods stay after the job has ended.")

    @model_validator(mode="after")
    def _labels(self) -> Self:
        for key, value in self.node_selector.items():
            _label_key(key)
            _label_value(value)
        return self
