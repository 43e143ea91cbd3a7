"""Answering requests: one data plane (parse, validate, transform, batch, ONNX, calibrate, respond) behind two doors.

`http_app` is one ASGI process, `ray_app` is Ray Serve; both answer the same bytes. The router is part of the serving
process and only decides who answers; what should be live arrives as a `records.release.Release`. Nothing here decides
about rollouts, and nothing here knows torch.
"""
