"""What a model takes and gives, derived from its transform and its task."""

from collections.abc import Sequence

from fairlead.records.codec import from_json
from fairlead.records.model import Field, Signature


def signature_for(
    fields: Sequence[Field], task: str, classes: Sequence[str] = (), *, threshold: float | None = None
) -> Signature:
    """The signature of a model that takes `fields`.

    Outputs have -1 for the number of rows left out of `shape`: binary gives `score` and `label`, multiclass `scores`
    [C] and `label`, regression `value`. Raises ValueError when the classes do not fit the task.
    """
    label = Field("label", "string", "BYTES")
    if task == "binary":
        outputs: tuple[Field, ...] = (Field("score", "float", "FP64"), label)
    elif task == "multiclass":
        outputs = (Field("scores", "float", "FP64", (len(classes),)), label)
    elif task == "regression":
        outputs = (Field("value", "float", "FP64"),)
    else:
        raise ValueError(f"unknown task {task!r}")
    signature = Signature(task, tuple(fields), outputs, tuple(classes), threshold)
    check_signature(signature)
    return signature


def check_signature(signature: Signature) -> None:
    """Raise ValueError unless task, classes, threshold and inputs fit each other."""
    task, classes = signature.task, signature.classes
    fits = {"binary": len(classes) == 2, "multiclass": len(classes) > 2, "regression": not classes}
    if task not in fits:
        raise ValueError(f"unknown task {task!r}")
    if not fits[task]:
        raise ValueError(f"{len(classes)} classes do not fit a {task} task")
    if len(set(classes)) != len(classes):
        raise ValueError("two classes have the same name")
    names = [field.name for field in signature.inputs]
    if not names or len(set(names)) != len(names):
        raise ValueError("inputs must have names, each once")
    if signature.threshold is not None and not (task == "binary" and 0.0 <= signature.threshold <= 1.0):
        raise ValueError(f"the threshold {signature.threshold} does not fit a {task} task")


def parse_signature(data: bytes) -> Signature:
    """Read ``signature.json``. Raises ValueError, KeyError, TypeError or AttributeError for anything else."""
    signature = from_json(Signature, data)
    check_signature(signature)
    return signature
