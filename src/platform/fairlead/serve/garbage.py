"""Python's garbage collector in a process that serves: a quarter of a request's CPU time with its usual settings.

It walks through all that lives, again and again, and what lives here is what was loaded at the start, and the answers
that labels may still come for. Requests leave few cycles behind (an exception and its frame), so that it may wait.
"""

import gc

_NEW_OBJECTS = 50_000
"""More than requests keep alive until they are logged and told to the control: then it hardly ever has to look."""


def spare_what_stays() -> None:
    """Call once, when all that stays is loaded: the collector leaves it alone from now on, and looks at the rest less
    often. Whole process; nothing else changes."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(_NEW_OBJECTS, *gc.get_threshold()[1:])
