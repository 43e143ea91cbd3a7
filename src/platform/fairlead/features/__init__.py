"""The one transform from raw columns to tensors, and statistics of columns.

Here live: how a raw value becomes a category, an instant or a number (`categories`, `instants`), what is fitted on the
training split (`encoders`, `fitting`, `transform`), and one-pass statistics (`statistics`). Training and serving import
the same code, so that a batch of training rows and a single request give the same numbers, bit for bit.
Never here: knowledge of a label's meaning, of files, of a network.
"""
