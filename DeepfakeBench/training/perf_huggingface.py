"""Scores pictures with a CLIP of the Hugging Face Hub or a trained detector.

Flags, keys of the YAML file and the output file are described in docs/compatibility.md.
"""

import sys
from pathlib import Path

from unmask.cli.perf import main

if __name__ == "__main__":
    sys.exit(main(root=Path(__file__).resolve().parents[1]))
