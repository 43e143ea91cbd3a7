"""Does each arm get the share of the keys that it was given? A sequential test of the split.

Assumption: keys are hashed to points that are independent and even on [0, 1), so each new key falls to the candidate
with probability `weight`, whatever came before. The Dirichlet-multinomial mixture against that multinomial is a
martingale, so the probability of an alarm at any look is at most alpha while the split is right. Source: Lindon, Malek
(2022), "Anytime-valid inference for multinomial count data", section 3 (with two arms: a Beta-binomial). Evidence of
unequal arms is no evidence about the models: whoever never arrives (crashes, timeouts on the way, bots that choose an
arm) may be just who matters.
"""

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import betaln, xlog1py, xlogy

PRIOR_KEYS = 200.0
"""How many keys the mixture is worth: it expects shares within about 1 / sqrt(200) of the declared one."""


def log_evidence(candidate: ArrayLike, total: ArrayLike, share: float) -> NDArray[np.float64]:
    """log of the evidence that the candidate's share of `total` keys is not `share` (0 to 1), for numbers or arrays."""
    ours, both = np.asarray(candidate, dtype=np.float64), np.asarray(total, dtype=np.float64)
    a, b = PRIOR_KEYS * share, PRIOR_KEYS * (1 - share)
    mixture = betaln(a + ours, b + both - ours) - betaln(a, b)
    return np.asarray(mixture - xlogy(ours, share) - xlog1py(both - ours, -share))


def is_off(candidate: ArrayLike, total: ArrayLike, share: float, alpha: float) -> NDArray[np.bool_]:
    """True where the split is not the declared one; wrong ever with probability at most `alpha`."""
    return np.asarray(log_evidence(candidate, total, share) >= -math.log(alpha))
