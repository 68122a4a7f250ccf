"""`python -m pex_lightning`."""

import sys

from pex_lightning.cli import main

if __name__ == "__main__":
    sys.exit(main())
