"""Records the config.yaml that a training with each model of projects/ViTDet and MViTv2 writes.

    python -m tests.recorders.lazy_configs DETECTRON2 tests/arrays/lazy_configs/transformers.json.gz

needs a Python with Detectron2, and its source in the folder DETECTRON2. Each model's Python
configuration is saved as `default_setup` saves it, by `LazyConfig.save`; the file has the texts by
the model's name.
"""

from __future__ import annotations

import gzip
import json
import os
import sys
import tempfile
from pathlib import Path

from detectron2.config import LazyConfig

FOLDERS = {"ViTDet": "ViTDet/configs", "MViTv2": "MViTv2/configs"}


def main() -> None:
    source, output = Path(sys.argv[1]), Path(sys.argv[2])
    texts = {}
    for name, folder in FOLDERS.items():
        for path in sorted((source / "projects" / folder).rglob("*.py")):
            if path.parent.name == "common":
                continue
            model = path.relative_to(source / "projects" / folder).with_suffix("")
            with tempfile.TemporaryDirectory() as place:
                saved = os.path.join(place, "config.yaml")
                LazyConfig.save(LazyConfig.load(str(path)), saved)
                texts[f"{name}/{model}"] = Path(saved).read_text()
    content = json.dumps(texts, indent=0, sort_keys=True).encode()
    output.write_bytes(gzip.compress(content, mtime=0))
    print(f"{len(texts)} configurations, {output.stat().st_size} bytes")


if __name__ == "__main__":
    main()
