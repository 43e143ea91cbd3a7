"""Statistics of columns that can be merged: a file's are kept by its fingerprint, and a new day costs the new day.

Here live: the parts (`moments` exact in any grouping, `quantiles`, `distinct`, `frequent` with stated bounds), the
columns made of them (`column`: `numbers`, `values`), a table of columns with its missing patterns and its groups by
split, month and label (`groups`, `table`), reading a source into one (`stream`, `cache`), and what follows from two of
them (`compare`, `association`). Never here: drawing (`data.profile_report`), Ray (`wiring.ray_summary`).

Every part is a pure function of the batches and the file's name: the same file gives the same bytes again.
"""
