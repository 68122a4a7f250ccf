"""Studies of runs that take seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import yaml

TINY = {
    "data.rows": 2000,
    "data.batch_size": 8,
    "model.hidden_dims": [16, 16],
    "trainer.max_steps": 40,
    "offline.max_steps": 40,
    "data.start_steps": 50,
    "data.chunk_size": 5,
    "evaluation.episodes": 2,
    "evaluation.every": 20,
}
"""Settings of both stages."""


def write_study(root: Path, steps: int | None = None, **changes: Any) -> Path:
    """Write the file of a study called `demo`, whose folder is in `root` too.

    Args:
        root: A folder.
        steps: Online updates of runs that are to be interrupted: saved often, evaluated rarely.
        changes: Other settings of the study.
    """
    settings: dict[str, Any] = dict(TINY)
    if steps is not None:
        settings |= {
            "offline.max_steps": 20,
            "trainer.max_steps": steps,
            "evaluation.every": steps,
            "evaluation.episodes": 1,
            "run.save_every": 100,
        }
    study = {
        "name": "demo",
        "root": str(root),
        "seeds": [0],
        "jobs": 2,
        "set": settings,
        "tasks": {"maze": {"config": ["conf/pointmaze.yaml"]}},
        "variants": {"direct": {"config": ["conf/methods/direct.yaml"]}},
        **changes,
    }
    path = root / "demo.yaml"
    path.write_text(yaml.safe_dump({"study": study}, sort_keys=False))
    return path
