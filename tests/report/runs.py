"""Folders of runs as a study leaves them, written by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from pex_lightning.studies.records import RunRecord, write_record

CONSTANTS = "made:toy,0123456789abcdef,Toy-v0,false"


def write_run(
    root: Path,
    variant: str,
    seed: int,
    scores: Sequence[float],
    *,
    task: str = "toy",
    members: bool = True,
    settings: dict[str, Any] | None = None,
    signs: Sequence[dict[str, Any]] = (),
    **record: Any,
) -> Path:
    """Write a run with both stages; `scores` are its evaluations online."""
    written = RunRecord("study", variant, task, seed, **{"state": "finished", **record})
    folder = root / f"{task}-{len(list(root.glob('*')))}-{seed}"
    write_record(folder, written)
    offline = ["step,dataset,fingerprint,env,d4rl_score,eval/score,env_steps"]
    offline += [f"{100 * n},{CONSTANTS},{score},0" for n, score in enumerate((0.0, scores[0]))]
    shares = ",train/offline_policy_share,train/online_policy_share,train/choice_entropy"
    shares += ",train/q_data,train/q_random"
    online = [
        "step,dataset,fingerprint,env,d4rl_score,eval/score,env_steps" + (shares if members else "")
    ]
    for number, score in enumerate(scores):
        share = number / max(1, len(scores) - 1)
        told = (
            f",{1 - share},{share},{0.7 - 0.5 * share},{-9 + share},{-5 - share}" if members else ""
        )
        online.append(f"{100 * number},{CONSTANTS},{score},{200 * number}{told}")
    for stage, lines in (("offline", offline), ("online", online)):
        (folder / stage).mkdir()
        (folder / stage / "metrics.csv").write_text("\n".join(lines) + "\n")
        config = {"seed_everything": seed, "model": {"init_args": {"beta": 1, **(settings or {})}}}
        (folder / stage / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "online" / "diagnostics.json").write_text(json.dumps({"signs": list(signs)}))
    return folder


def write_study(root: Path) -> Path:
    """Two variants with three seeds, and a run that failed."""
    study = root / "study"
    study.mkdir()
    sign = {"sign": "starts_lost", "step": 200, "found": "3 of the 9 starts fail now"}
    for seed in range(3):
        write_run(study, "first", seed, (50, 70, 90 + seed), signs=[sign] if seed == 1 else [])
        write_run(study, "second", seed, (50, 20, 60 + seed), settings={"beta": 3})
    reason = "<script>document.title = 'broken into'</script>"
    write_provenance(sorted(study.iterdir())[0], host=reason)
    write_run(study, "third", 0, (10, 5), state="failed", reason=reason)
    return study


def write_provenance(run: Path, attempts: int = 1, **entries: Any) -> None:
    """Write the `provenance.json` of a run that was stopped and has gone on."""
    attempt = {
        "command": ["pex-lightning", "fit", "--config", "a b.yaml"],
        "started": "2026-01-02T03:04:05+00:00",
        "seconds": 61.0,
        "exit_code": 0,
        "git_revision": "abc-dirty",
        "packages": {"torch": "2.0"},
        "gpus": [],
        **entries,
    }
    content = {"format": 1, "seed": 7, "dataset": "made:toy", "attempts": [attempt] * attempts}
    (run / "provenance.json").write_text(json.dumps(content))
