"""``python -m attnconf``: the command line, by the interpreter that has it."""

import sys

from attnconf.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
