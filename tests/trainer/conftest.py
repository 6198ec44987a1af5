"""Makes the oracles importable; `tests` itself stays off the path, where it would shadow what it mirrors."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))
