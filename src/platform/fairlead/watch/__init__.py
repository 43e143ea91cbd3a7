"""What is looked at while a version is live.

What lives here: live features against the training statistics of the models (`distance`, `skew`, `cause`), and the
quality that labels show once they arrive (`quality`). What never does: decisions. A rollout reads these findings and
decides.
"""
