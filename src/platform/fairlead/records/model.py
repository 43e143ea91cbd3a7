"""What a model is, on paper: its signature and its bundle."""

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Field:
    """One raw input of the model, as a client sends it. `datatype` is an Open Inference Protocol datatype (FP64, INT64,
    BYTES, BOOL, FP32 for tensors); timestamps travel as BYTES in ISO 8601 with `kind` "timestamp".
    `shape` is per row: () for a scalar, (1, 8, 8) for an image. `required` is False when missing values are imputed."""

    name: str
    kind: str
    datatype: str
    shape: tuple[int, ...] = ()
    required: bool = False


@dataclass(frozen=True, slots=True)
class Signature:
    """What goes in and what comes out. Outputs: binary -> `score` FP64 [-1] (probability of the positive class) and
    `label` BYTES [-1]; multiclass -> `scores` FP64 [-1, C] and `label`; regression -> `value` FP64 [-1]."""

    task: str
    inputs: tuple[Field, ...]
    outputs: tuple[Field, ...]
    classes: tuple[str, ...] = ()
    threshold: float | None = None


@dataclass(frozen=True, slots=True)
class BundleManifest:
    """`files` maps each file's name to its sha256; `digest` = "sha256:" + sha256 over the sorted "name sha256" lines.
    `lineage` points back: data_fingerprint, code_version, config_sha256, environment (package versions), seed, run."""

    model: str
    digest: str
    files: Mapping[str, str]
    lineage: Mapping[str, object] = field(default_factory=dict)
    created_at: str = ""
    format: int = 1
