"""``python -m orthoviz`` is the ``orthoviz`` command."""

import sys

from orthoviz.cli import main

sys.exit(main())
