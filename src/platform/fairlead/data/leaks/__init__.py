"""Leaks: features, rows and entities by which the evaluation knows what a prediction will not.

What lives here: rules that look at samples and counts, each with its evidence and its bound; the ranking and the
refusal. What never does: reading files, deciding the split, writing anything.

A finding that is *severe* stops the prepare step unless the project file allows it by name. Error control: a score
counts only when chance among all that was looked at in a scan explains it with less than one in a thousand (normal
approximation of the Mann-Whitney statistic, Mann and Whitney 1947, Bonferroni over columns, pairs, classes and ways of
ranking), so that a feature without any association is accused in fewer than one of a thousand data sets. The bound
`data.leaks.max_auc` on top is a judgement: an honest feature that ranks the label better than it is accused, and
allowed by name.
"""

from fairlead.data.leaks.collect import FirstLook, SecondLook
from fairlead.data.leaks.features import scan_leaks
from fairlead.data.leaks.findings import NEAR_KINDS, rank, refuse_leaks, told_leaks
from fairlead.data.leaks.presence import MissingCounts

__all__ = [
    "NEAR_KINDS",
    "FirstLook",
    "MissingCounts",
    "SecondLook",
    "rank",
    "refuse_leaks",
    "scan_leaks",
    "told_leaks",
]
