"""`python -m ptune`."""

import sys

from ptune.cli import main

sys.exit(main())
