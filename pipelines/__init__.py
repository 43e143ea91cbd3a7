"""Which step follows which, and nothing else. ``compiled/`` holds what `kfp` makes of it, as goldens."""
