"""Scores pictures with a published Effort file or a trained detector, one line for each.

Flags, keys of the YAML file and the lines are described in docs/compatibility.md.
"""

import sys
from pathlib import Path

from unmask.cli.perf import main

if __name__ == "__main__":
    sys.exit(main(tool="demo", root=Path(__file__).resolve().parents[1]))
