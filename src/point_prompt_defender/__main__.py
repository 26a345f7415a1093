"""`python -m point_prompt_defender`: the same as the command `ppd`."""

import sys

from .cli.main import main

if __name__ == "__main__":
    sys.exit(main())
