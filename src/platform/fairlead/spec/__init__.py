"""The project file: strict models, one file per section in the order of the work, and the loader that names places.

Strict for what a person writes: unknown keys, wrong types and contradictions are refused before any work starts. Every
field has a description, a unit where one exists, and a default. `fairlead.spec.load.load_project` is the way in.
"""
