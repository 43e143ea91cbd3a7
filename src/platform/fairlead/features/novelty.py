"""How likely chance alone brings what was never seen before.

Of n + m rows in an order that means nothing (exchangeable rows), k have some mark, such as a negative number. That all
of these are among the m later rows has the probability C(m, k) / C(n + m, k): the hypergeometric distribution, Fisher's
exact test (1934, "Statistical Methods for Research Workers", section 21.02) at its far end. It holds for every
distribution and any number of rows. So with as many rows after as before, one first negative is no news (one in two
would be so), and ten are: one in a thousand. Rows that come in clusters (one storm, one customer) are fewer than they
seem; for them the true probability is larger.
"""

import math


def chance_of_all_later(count: int, before: int, later: int) -> float:
    """The probability that `count` marked rows all lie among the `later` rows and none among the `before` ones."""
    if count <= 0:
        return 1.0
    if count > later or before < 0:
        raise ValueError(f"{count} of {later} rows, {before} before")
    log = math.lgamma(later + 1) - math.lgamma(later - count + 1)
    log -= math.lgamma(before + later + 1) - math.lgamma(before + later - count + 1)
    return min(1.0, math.exp(log))


def most_unseen(before: int, error: float = 0.05) -> float:
    """The largest share that a mark may have though none of `before` rows has it, at this error: 1 - error^(1/n), about
    3/n at 5 % (the rule of three; Hanley, Lippman-Hand 1983, "If nothing goes wrong, is everything all right?")."""
    return 1.0 if before <= 0 else -math.expm1(math.log(error) / before)
