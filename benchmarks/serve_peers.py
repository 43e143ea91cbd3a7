"""What Fairlead's servers are compared with: handwritten code that does the least, in Starlette and in Ray Serve."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np


def make_handler(folder: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """The least that answers the same rows with the same network."""
    import onnxruntime

    onnxruntime.set_default_logger_severity(3)
    onnxruntime.disable_telemetry_events()
    transform = json.loads((Path(folder) / "transform.json").read_text())
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(Path(folder) / "model.onnx"), options, providers=["CPUExecutionProvider"]
    )
    numbers = [(c["name"], c["mean"], c["std"]) for c in transform["numeric"]]
    missing = sum(c["indicator"] for c in transform["numeric"])
    index = {value: i for i, value in enumerate(transform["categorical"][0]["values"], start=1)}

    def handle(document: dict[str, Any]) -> dict[str, Any]:
        rows = document["instances"]
        numeric = np.array(
            [[*((row[n] - mean) / std for n, mean, std in numbers), *[0.0] * missing] for row in rows], dtype=np.float32
        )
        categorical = np.array([[index.get(row["carrier"], 0)] for row in rows], dtype=np.int64)
        (logits,) = session.run(None, {"numeric": numeric, "categorical": categorical})
        scores = 1.0 / (1.0 + np.exp(-logits.astype(np.float64)))
        return {"predictions": [{"score": score} for score in scores.tolist()]}

    return handle


def starlette_app(folder: str) -> Any:
    """Bare Starlette."""
    from starlette.applications import Starlette
    from starlette.requests import Request
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    handle = make_handler(folder)

    async def predict(request: Request) -> JSONResponse:
        return JSONResponse(handle(await request.json()))

    return Starlette(routes=[Route("/predict", predict, methods=["POST"])])


def ray_peer(folder: str, *, quiet: bool) -> Any:
    """Plain Ray Serve: one deployment, one replica."""
    from ray import cloudpickle, serve

    cloudpickle.register_pickle_by_value(sys.modules[__name__])  # a replica does not find this file

    class Peer:
        def __init__(self, folder: str) -> None:
            self._handle = make_handler(folder)

        async def __call__(self, request: Any) -> dict[str, Any]:
            return self._handle(await request.json())

    options: dict[str, Any] = {"ray_actor_options": {"num_cpus": 0}, "max_ongoing_requests": 100}
    if quiet:
        options["logging_config"] = {"enable_access_log": False}
    return serve.deployment(Peer).options(**options).bind(folder)
