"""One ONNX graph, loaded and run: the only home of onnxruntime."""

from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from fairlead.bundle.graph_check import check_graph
from fairlead.errors import PredictionFailed

_ERRORS_ONLY = 3


def run_onnx(path: Path, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
    """Run the graph in the file `path` once on one batch and give its first output.

    `tensors` by input name, first axis N. Returns [N] or [N, C] as the graph gives it. Raises BundleDamaged when the
    graph reaches outside its file, PredictionFailed when it cannot be loaded or run.
    """
    return Graph(path.read_bytes(), name=path.name).run(tensors)


class Graph:
    """One loaded ONNX graph, ready to run; safe to call from several threads."""

    def __init__(self, model: bytes, *, name: str = "model.onnx", threads: int = 1) -> None:
        """Check and load the content of an ONNX file.

        `threads`: CPU threads that one call may use. Raises BundleDamaged for graphs that reach outside the file,
        PredictionFailed for graphs that the runtime refuses.
        """
        check_graph(model, name)
        runtime = _onnxruntime()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Spinning threads win microseconds on an idle machine and lose whole cores on a shared one.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _ERRORS_ONLY + 1  # what goes wrong is raised; the runtime need not print it too
        self._name = name
        try:
            # From bytes, so that what was verified is what runs.
            self._session: Any = runtime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise PredictionFailed(
                f"the graph {name} cannot be loaded", where=name, why=_first_line(error), fix="Export the model again."
            ) from error
        self.input_names: tuple[str, ...] = tuple(entry.name for entry in self._session.get_inputs())
        self.output_names: tuple[str, ...] = tuple(entry.name for entry in self._session.get_outputs())

    def run(self, tensors: Mapping[str, np.ndarray]) -> np.ndarray:
        """The first output for one batch. Raises PredictionFailed when an input is missing or the graph fails."""
        return self._run(tensors, self.output_names[:1])[0]

    def run_all(self, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """All outputs by name. Raises as `run` does."""
        return dict(zip(self.output_names, self._run(tensors, self.output_names), strict=True))

    def _run(self, tensors: Mapping[str, np.ndarray], names: Sequence[str]) -> list[np.ndarray]:
        missing = [name for name in self.input_names if name not in tensors]
        if missing:
            raise PredictionFailed(
                f"the graph needs the tensors {', '.join(missing)}",
                where=self._name,
                why=f"given: {', '.join(tensors) or 'none'}",
                fix="Use the transform that the model was trained with.",
            )
        try:
            outputs = self._session.run(names, {name: tensors[name] for name in self.input_names})
        except Exception as error:  # onnxruntime's exceptions share no base class but Exception
            raise PredictionFailed(
                f"the graph {self._name} failed on {_sizes(tensors)}", where=self._name, why=_first_line(error)
            ) from error
        return [np.asarray(output) for output in outputs]


@cache
def _onnxruntime() -> ModuleType:
    # Loaded on first use: it takes longer to import than everything else here together.
    import onnxruntime

    onnxruntime.set_default_logger_severity(_ERRORS_ONLY)
    onnxruntime.disable_telemetry_events()
    module: ModuleType = onnxruntime
    return module


def _sizes(tensors: Mapping[str, np.ndarray]) -> str:
    return ", ".join(f"{name} {list(tensor.shape)}" for name, tensor in tensors.items())


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0][:500] if str(error).strip() else type(error).__name__
