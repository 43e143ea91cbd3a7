"""How a model predicts: the names that the stages use."""

from fairlead.bundle.graph import Graph, run_onnx
from fairlead.bundle.predictor import Prediction, Predictor

__all__ = ["Graph", "Prediction", "Predictor", "run_onnx"]
