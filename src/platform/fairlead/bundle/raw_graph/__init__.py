"""One ONNX graph from raw columns to scores and labels, for servers that know nothing of Fairlead.

Here live: transform, calibration and label as ONNX operators around the network (`columns`, `calendar`, `answer`,
`graph`), how raw columns become the graph's inputs (`inputs`), and the proof that the graph answers as a `Predictor`
does (`parity`). Needs the `onnx` package to write a graph, onnxruntime alone to run it. Never here: a second
opinion on what a step does; the encoders in `fairlead.features` are the definition.
"""
