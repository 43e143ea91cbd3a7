"""From prepared data to a fitted network: plain PyTorch, under Ray Train or in this process.

`loop` is the training loop, and knows no Ray; `data_plan` says which row is in which step, `feed` brings it there;
`models` builds networks, `objective` says what their outputs mean, `precision` in which numbers they are computed;
`checkpoint` keeps what a killed run continues from; `preflight` refuses what cannot work before it costs anything;
`worker` is the life of one worker, `ray_launcher` starts several; `export` writes the ONNX graph; `fit` is the way in.
Never here: judging a model, serving it, or onnxruntime. The package's root imports nothing, so that asking for a
result's type loads no torch.
"""
