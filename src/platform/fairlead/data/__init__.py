"""From raw files to prepared data: sources, schema, quarantine, splits, leak scan, prepare.

Here live: where files are and how they are read (`locations`, `readers`, `sources`), what rows must look like
(`schema`, `inference`, `checks`, `quarantine`), what is predicted (`labels`), who is on which side (`splits`,
`row_hashes`), what knows the answer (`leaks`), and the two steps `validation` and `prepare` with their `report`.
Never here: torch, Ray, or how a model uses the rows.
"""
