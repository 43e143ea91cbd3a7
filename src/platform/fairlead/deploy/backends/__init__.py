"""Appliers: how the four effects of a rollout reach servers and the registry."""
