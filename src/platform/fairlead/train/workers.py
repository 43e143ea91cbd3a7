"""The workers that train together, as one of them sees them: who am I, and what do all of us know."""

from dataclasses import dataclass

import numpy as np
import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel


@dataclass(frozen=True, slots=True)
class Workers:
    """`rank` of `world`, on `device`. With more than one, torch's default process group must be up."""

    rank: int
    world: int
    device: torch.device

    @property
    def first(self) -> bool:
        """Whether this is the one that writes files."""
        return self.rank == 0

    def parallel(self, network: nn.Module) -> nn.Module:
        """The network with gradients averaged over the workers."""
        if self.world == 1:
            return network
        on = [self.device.index] if self.device.type == "cuda" else None
        return DistributedDataParallel(network, device_ids=on)

    def sum(self, values: list[float]) -> list[float]:
        """Each value summed over the workers."""
        if self.world == 1:
            return values
        tensor = torch.tensor(values, dtype=torch.float64, device=self.device)
        dist.all_reduce(tensor)
        return [float(value) for value in tensor.tolist()]

    def gather(self, values: np.ndarray) -> list[np.ndarray]:
        """The float32 arrays [n] of all workers, in the order of their ranks; lengths may differ."""
        if self.world == 1:
            return [values]
        lengths = [torch.zeros(1, dtype=torch.int64, device=self.device) for _ in range(self.world)]
        dist.all_gather(lengths, torch.tensor([len(values)], device=self.device))
        longest = max(int(length) for length in lengths)
        padded = torch.zeros(longest, dtype=torch.float32, device=self.device)
        padded[: len(values)] = torch.from_numpy(np.ascontiguousarray(values, dtype=np.float32)).to(self.device)
        parts = [torch.empty_like(padded) for _ in range(self.world)]
        dist.all_gather(parts, padded)
        return [part[: int(length)].cpu().numpy() for part, length in zip(parts, lengths, strict=True)]

    def told_by_first(self, value: int) -> int:
        """The first worker's value."""
        if self.world == 1:
            return value
        tensor = torch.tensor([value], dtype=torch.int64, device=self.device)
        dist.broadcast(tensor, src=0)
        return int(tensor)
