"""Makes the oracles importable; `tests` itself must stay off the path, where it would shadow the packages it mirrors."""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "oracles"))
