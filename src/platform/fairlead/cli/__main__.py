"""``python -m fairlead.cli``: the same as the ``fairlead`` script."""

import sys

from fairlead.cli import main

sys.exit(main())
