"""The ``train`` section."""

from typing import Literal, Self

from pydantic import Field, model_validator

from fairlead.spec.quantities import ByteCount, Section
from fairlead.spec.rayjob import RayJob


class Checkpoint(Section):
    """When to save, and how many to keep."""

    every_steps: int = Field(
        200, ge=1, description="Optimizer steps between checkpoints; also one at each epoch's end."
    )
    keep: int = Field(2, ge=1, description="Newest checkpoints to keep, besides the best one.")


class Train(Section):
    """How the network is trained. Batch sizes are global: the same rows per step whatever the number of workers."""

    model: str = Field(
        "tabular", description="tabular, image, or a builder of your own: module:function in the project."
    )
    model_options: dict[str, int | float | str | bool | tuple[int, ...]] = Field(
        default_factory=dict, description="Options of the model, e.g. {hidden: [128, 64], dropout: 0.1}."
    )
    launcher: Literal["auto", "inprocess", "ray", "rayjob"] = Field(
        "auto",
        description="auto: Ray for two workers or more, else in this process; rayjob: pods on a cluster. One loop.",
    )
    rayjob: RayJob | None = Field(None, description="The pods of launcher rayjob.")
    workers: int = Field(1, ge=1, description="Data-parallel workers.")
    use_gpu: Literal["auto", "yes", "no"] = Field("auto", description="auto: when the machine has one.")
    precision: Literal["fp32", "bf16", "fp16"] = Field(
        "fp32", description="bf16: autocast; fp16: autocast and gradient scaler."
    )
    global_batch: int = Field(1024, ge=1, description="Rows per optimizer step over all workers.")
    accumulate: int = Field(1, ge=1, description="Micro-batches per optimizer step.")
    epochs: int = Field(5, ge=1, description="Passes over the training split.")
    optimizer: Literal["adamw", "sgd"] = Field("adamw", description="The optimizer.")
    learning_rate: float = Field(0.002, gt=0, description="Peak learning rate.")
    weight_decay: float = Field(0.0001, ge=0, description="Decoupled weight decay.")
    warmup_share: float = Field(0.1, ge=0, lt=1, description="Share of the steps with a rising rate; then cosine to 0.")
    clip_norm: float | None = Field(1.0, gt=0, description="Largest gradient norm.")
    ema: float | None = Field(
        None, gt=0, lt=1, description="Decay of a moving average of the weights; exported when set."
    )
    seed: int = Field(7, ge=0, description="Seed of the order of rows and of the weights.")
    window_rows: int = Field(262_144, ge=1, description="Rows shuffled together; bounds the memory of a worker.")
    cache: ByteCount = Field(
        512 * 2**20, ge=0, description="Memory for transformed rows kept between epochs, per worker."
    )
    checkpoint: Checkpoint = Field(default_factory=Checkpoint, description="When to save, and how many to keep.")
    export: Literal["best", "last"] = Field(
        "best", description="Which epoch's weights are exported: the best one on validation, or the last one."
    )
    retraining_noise: bool = Field(
        True, description="Also train with another seed to measure the noise that the shadow bound is derived from."
    )
    preflight: bool = Field(
        True, description="Overfit one batch, check shapes, loss and disk before the expensive part."
    )

    @model_validator(mode="after")
    def _rayjob_has_pods(self) -> Self:
        if self.launcher == "rayjob" and self.rayjob is None:
            raise ValueError("launcher rayjob needs the section rayjob with at least an image")
        if self.rayjob is not None and self.use_gpu == "yes" and not self.rayjob.worker.gpus:
            raise ValueError("use_gpu: yes needs rayjob.worker.gpus of 1 or more")
        return self
