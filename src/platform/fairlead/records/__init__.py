"""The frozen facts that stages hand to each other. No behaviour beyond arithmetic on themselves, no I/O.

A stage never imports another stage: it takes and returns these. `codec` turns any of them into JSON and back; reading
is lenient to unknown keys (a newer version may have written them), writing is exact.
"""
