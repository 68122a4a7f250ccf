"""`pex-lightning export` and `test --video`, from a run's folder."""

from __future__ import annotations

import json
import re
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from pex_lightning import load_policy
from pex_lightning.export.policy_file import SUFFIXES

ENV = "pex_lightning/PointMaze-Medium-v0"
SHORT = (f"--data.env={ENV}", '--data.env_kwargs={"max_episode_steps": 4}')


def test_writes_a_file_and_says_what_it_holds(command, refused, finished: Path, tmp_path: Path):
    out = tmp_path / "policy.pt"
    arguments = ("export", "--ckpt_path", str(finished), "--format=torchscript", f"--out={out}")
    outcome = command(*arguments)
    assert outcome.code == 0, outcome.err
    told = json.loads(outcome.out.splitlines()[-1])
    assert (told["out"], told["algorithm"], told["stage"]) == (str(out), "PEX", "online")
    states = torch.randn(5, 4)
    expected = load_policy(finished).predict(states)
    action, _ = torch.jit.load(str(out))(states)
    torch.testing.assert_close(action, expected, atol=1e-5, rtol=0)
    refused(command(*arguments), "is there already", "--overwrite")
    assert command(*arguments, "--overwrite=true").code == 0


def test_the_code_of_the_page_runs(
    command, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    page = (Path(__file__).parents[2] / "docs" / "use-a-policy.md").read_text()
    blocks = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    assert len(blocks) == 6
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "pointmaze").symlink_to(finished)
    monkeypatch.chdir(tmp_path)
    formats = ["torchscript"]
    formats += ["onnx"] if all(map(find_spec, ("onnx", "onnxscript", "onnxruntime"))) else []
    for kind in formats:
        out = f"policy{SUFFIXES[kind]}"
        arguments = ("--ckpt_path=runs/pointmaze", f"--format={kind}", f"--out={out}")
        assert command("export", *arguments).code == 0
    # The format of torch.export is loaded in tests/export.
    run = [b for b in blocks if ".pt2" not in b and ("onnx" in formats or "onnx" not in b)]
    names: dict[str, object] = {}
    for block in run:
        exec(block, names)
    assert names["action"].shape == (10, 2)


def test_mistakes_are_explained(command, refused, finished: Path, tmp_path: Path):
    run = ("export", "--ckpt_path", str(finished))
    refused(command(*run, "--format=h5", "--out=a.h5"), "--format is h5", "torchscript")
    refused(command(*run, "--format=onnx", "--out=a.pt"), "'.pt', expected .onnx")
    refused(
        command("export", f"--ckpt_path={tmp_path}", "--format=onnx", "--out=a.onnx"),
        "a folder without checkpoints",
    )


def test_films_an_episode(command, finished: Path, tmp_path: Path):
    imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")
    out = tmp_path / "film.mp4"
    arguments = ("test", "--ckpt_path", str(finished), "--evaluation.episodes=1", *SHORT)
    outcome = command(*arguments, f"--video={out}", "--video_episodes=2")
    assert outcome.code == 0, outcome.err
    assert json.loads(outcome.out.splitlines()[-1])["episodes"] == 1
    frames = imageio_ffmpeg.read_frames(str(out))
    about = next(frames)
    assert (about["fps"], about["codec"]) == (20.0, "h264")
    pictures = [np.frombuffer(frame, np.uint8) for frame in frames]
    # Twice five states, and a second of the last one.
    assert len(pictures) == 2 * (5 + 20)
    assert any((picture != pictures[0]).any() for picture in pictures[1:5])
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]


def test_a_gif_needs_no_other_package(
    command, refused, finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    arguments = ("test", "--ckpt_path", str(finished), "--evaluation.episodes=1", *SHORT)
    refused(command(*arguments, f"--video={tmp_path}/a.mp4"), "pex-lightning[video]", ".gif")
    refused(command(*arguments, f"--video={tmp_path}/a.avi"), "'.avi', expected .mp4 or .gif")
    refused(command(*arguments, f"--video={tmp_path}/none/a.gif"), "cannot be written to")
    outcome = command(*arguments, f"--video={tmp_path}/a.gif")
    assert outcome.code == 0, outcome.err
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames > 1
        assert film.info["duration"] == 50
