"""The benchmark that counts values with other bits, step by step, counts them."""

import importlib
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from fairlead.features.transform import Tensors, Transform


@pytest.fixture
def steps(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return importlib.import_module("transform_steps")


def test_every_step_gives_the_same_bits_everywhere(steps: ModuleType) -> None:
    for step in steps.STEPS:
        found = steps.count(step, 300, 7)
        assert found.compared >= 300
        assert found.doors == 0, step
        assert found.in_onnx == 0 or step == "log", step


def test_a_single_other_bit_is_counted(steps: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Transform.apply_columns

    def wrong(self: Transform, columns: dict[str, list[object]], rows: int) -> Tensors:
        tensors = right(self, columns, rows)
        tensors["numeric"] = tensors["numeric"].copy()
        tensors["numeric"][5, 0] = np.nextafter(tensors["numeric"][5, 0], np.float32(np.inf), dtype=np.float32)
        return tensors

    monkeypatch.setattr(Transform, "apply_columns", wrong)
    assert steps.count("clip", 300, 7).doors == 1
