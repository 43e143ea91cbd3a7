"""In which numbers a network is computed: fp32, bf16 autocast, or fp16 autocast with a gradient scaler.

Weights stay float32 throughout; checkpoints and exports never hold anything else.
"""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

_AUTOCAST = {"bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """One of fp32, bf16, fp16 on a device."""

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = name
        self._device = device
        self._scaler = torch.amp.GradScaler(device.type, enabled=name == "fp16", init_scale=2.0**14)

    def autocast(self) -> AbstractContextManager[Any]:
        """Around the forward pass."""
        if self.name not in _AUTOCAST:
            return nullcontext()
        context: AbstractContextManager[Any] = torch.autocast(self._device.type, dtype=_AUTOCAST[self.name])
        return context

    def backward(self, loss: torch.Tensor) -> None:
        """Gradients of the loss; scaled for fp16, so that small ones do not vanish."""
        self._scaler.scale(loss).backward()

    def unscale(self, optimizer: torch.optim.Optimizer) -> None:
        """Before gradients are measured or clipped."""
        self._scaler.unscale_(optimizer)

    def step(self, optimizer: torch.optim.Optimizer) -> None:
        """Step, unless a scaled gradient overflowed; then the scale shrinks and the step is left out."""
        self._scaler.step(optimizer)
        self._scaler.update()

    def state(self) -> dict[str, float]:
        """For the checkpoint; empty without a scaler."""
        return dict(self._scaler.state_dict())

    def restore(self, state: dict[str, float]) -> None:
        """Go on with a scaler's state."""
        if state and self._scaler.is_enabled():
            self._scaler.load_state_dict(state)
