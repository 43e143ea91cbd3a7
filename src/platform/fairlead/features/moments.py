"""Mean and variance of a stream of numbers."""

import math

import numpy as np


class Moments:
    """Running count, mean, variance, minimum and maximum, merged batch by batch.

    The pairwise update of Chan, Golub, LeVeque (1983), "Algorithms for computing the sample variance".
    """

    def __init__(self) -> None:
        self.count = 0
        self.mean = 0.0
        self._squares = 0.0
        self.minimum = math.inf
        self.maximum = -math.inf

    def update(self, values: np.ndarray) -> None:
        """Take float64 [N], all finite."""
        added = len(values)
        if not added:
            return
        with np.errstate(over="ignore", invalid="ignore"):
            mean = float(np.mean(values))
            squares = float(np.sum(np.square(values - mean)))
        total = self.count + added
        delta = mean - self.mean
        self._squares += squares + delta * delta * (self.count * added / total)
        self.mean += delta * (added / total)
        self.count = total
        self.minimum = min(self.minimum, float(values.min()))
        self.maximum = max(self.maximum, float(values.max()))

    @property
    def std(self) -> float:
        """The population standard deviation; 0 before the first number."""
        if self.count and self.minimum < self.maximum:
            return math.sqrt(self._squares / self.count)
        return 0.0
