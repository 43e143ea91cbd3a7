"""The verdicts of a rollout for other controllers: Argo Rollouts, Flagger, Prometheus.

Here: what a stored rollout answers to "may it go on?" (`answer`), as metrics (`exposition`), and the HTTP application
that says both (`app`, `requests`). Everything is read from the records in the store. Nothing here changes a rollout,
moves traffic, or reads a metric of its own.
"""
