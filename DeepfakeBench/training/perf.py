"""Scores pictures with a published Effort file or a trained detector, into a text file.

Flags, keys of the YAML file and the output file are described in docs/compatibility.md.
"""

import sys
from pathlib import Path

from unmask.cli.perf import main

if __name__ == "__main__":
    sys.exit(main(tool="perf", root=Path(__file__).resolve().parents[1]))
