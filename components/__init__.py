"""One step of the pipeline per file: typed ports, and a body of a few lines that calls `fairlead.wiring.steps`.

Kubeflow ships nothing but a function's source, so everything that a body needs is imported inside it, from the
installed package. Here is no logic: what a step does is decided in `fairlead.wiring` and below.
"""
