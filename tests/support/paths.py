"""Where the recorded arrays and the demo lie."""

from __future__ import annotations

from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent.parent
DATA = ROOT / "tests" / "arrays"
DEMO = ROOT / "demo"
