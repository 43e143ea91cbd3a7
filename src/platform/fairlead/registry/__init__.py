"""Which versions of a model there are, which one is champion, and how everything came to be.

Here live: versions, aliases and tags with compare-and-swap (`registry`), the append-only history that proves them
(`history`), the records of steps and the questions asked of them (`lineage`), and the facts of this machine that go
into both (`environment`). Never here: a decision about which version deserves an alias.
"""
