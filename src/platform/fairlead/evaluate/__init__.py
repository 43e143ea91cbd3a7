"""Judging a model on rows that it has not seen.

What lives here: metrics with intervals, calibration and threshold (fitted on the validation split), slices, baselines
on the same rows, gates, the model card and the evaluation report. Home of scikit-learn. What never does: training,
serving, torch, reading or writing files. A number that cannot be computed is None and says why; a gate on it fails.
"""
