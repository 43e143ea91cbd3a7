"""The bodies of Open Inference Protocol V2 that do not depend on a request."""

from typing import Any

from fairlead import __version__
from fairlead.records.model import Field, Signature


def server_metadata() -> dict[str, Any]:
    """``GET /v2``."""
    return {"name": "fairlead", "version": __version__, "extensions": ["fairlead_feedback", "fairlead_rows"]}


def model_metadata(model: str, versions: list[str], signature: Signature) -> dict[str, Any]:
    """``GET /v2/models/{model}``. -1 stands for the number of rows."""
    return {
        "name": model,
        "versions": versions,
        "platform": "onnx_onnxruntime",
        "inputs": [_tensor(field) for field in signature.inputs],
        "outputs": [_tensor(field) for field in signature.outputs],
    }


def _tensor(field: Field) -> dict[str, Any]:
    return {"name": field.name, "datatype": field.datatype, "shape": [-1, *field.shape]}
