"""Do the failures fall on the candidate more often than its share of the calls? What both models suffer is no blame.

The absolute test (`sprt`: "the failure rate is at most the healthy one") is the fastest there is, and blames the
candidate for whatever hits both models: an overloaded machine, a client that sends garbage. So its FAIL counts only
together with this one.

Assumption: of the calls of the same minutes the candidate gets the share w, and given the past, its calls fail no more
often than the champion's (at whatever rate, which may change all the time). Then each failure is the candidate's with
probability at most w, and with `odds` times the odds under the alternative

    (q / w)^k ((1 - q) / (1 - w))^k0,     q / (1 - q) = odds w / (1 - w),

of k failures of the candidate and k0 of the champion is a supermartingale: by Ville's inequality it ever reaches
1 / alpha with probability at most alpha. Source: the conditional test of two Poisson rates, Przyborowski, Wilenski
(1940), "Homogeneity of results in testing samples from Poisson series", as a sequential likelihood ratio. Rare failures
make it nearly as fast as the absolute test; its price is largest where all calls fail at w = 1/2: eight, not three.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from fairlead.deploy.statistics.alternatives import Floats


def log_blame(failures: ArrayLike, failures0: ArrayLike, share: float, odds: float) -> Floats:
    """log of the evidence that the candidate, with `share` (0 to 1) of the calls, fails more often than the champion:
    `failures` are its own, `failures0` the champion's. Numbers or arrays. It adds over looks at one share; 0 where the
    champion gets no calls to compare with."""
    ours, theirs = np.asarray(failures, dtype=np.float64), np.asarray(failures0, dtype=np.float64)
    if not 0 < share < 1:
        return np.zeros(np.broadcast(ours, theirs).shape)
    alternative = odds * share / (1 - share + odds * share)
    return np.asarray(ours * math.log(alternative / share) + theirs * math.log((1 - alternative) / (1 - share)))
