"""What a model is at rest, and how it predicts.

Here live: the folder that holds a model (`layout`, `seal`, `load`), what is checked before anything of it is used
(`graph_check`), its calibration, its runtime (the only home of onnxruntime), and how it gets into a store and back
(`transport`). Never here: torch, decisions about which model is good, HTTP.
"""
