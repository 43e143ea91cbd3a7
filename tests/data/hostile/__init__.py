"""Hostile files: named cases of bad input, what each must end in, and the writer of docs/hostile-files.md.

`cases` says what a case is, the other modules hold the cases by format; `running` holds a case against the package.
"""
