"""Every mistake is one screen that says what, where and what to do; nothing is half written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

OBS_DIM, ACTION_DIM, ROWS = 4, 2, 40


def _columns() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    timeouts = np.zeros(ROWS, dtype=bool)
    timeouts[9::10] = True
    return {
        "observations": rng.normal(size=(ROWS, OBS_DIM)).astype(np.float32),
        "actions": rng.uniform(-0.9, 0.9, size=(ROWS, ACTION_DIM)).astype(np.float32),
        "rewards": np.zeros(ROWS, dtype=np.float32),
        "terminals": np.zeros(ROWS, dtype=bool),
        "timeouts": timeouts,
    }


def _write(path: Path, columns: dict[str, np.ndarray]) -> Path:
    with h5py.File(path, "w") as file:
        for key, values in columns.items():
            file.create_dataset(key, data=values)
    return path


def _without_rewards(columns):
    del columns["rewards"]


def _shorter_actions(columns):
    columns["actions"] = columns["actions"][:-3]


def _nan(columns):
    columns["observations"][7, 1] = np.nan


def _infinite_reward(columns):
    columns["rewards"][3] = np.inf


def _actions_outside(columns):
    columns["actions"][5, 0] = 3.0


def _other_observation_size(columns):
    columns["observations"] = columns["observations"][:, :3]


def _empty(columns):
    for key in columns:
        columns[key] = columns[key][:0]


BAD_COLUMNS: list[tuple[Callable[[dict[str, np.ndarray]], None], list[str]]] = [
    (_without_rewards, ["rewards", "missing"]),
    (_shorter_actions, ["actions 37", "observations 40"]),
    (_nan, ["observation", "NaN"]),
    (_infinite_reward, ["reward", "infinit"]),
    (_actions_outside, ["action", "3", "-1 to 1"]),
    (_other_observation_size, ["3", "4", "PointMaze"]),
    (_empty, ["no rows"]),
]


@pytest.fixture
def fit_on(command, tiny, tmp_path: Path):
    def run(path: Path | str, *more: str):
        args = tiny(tmp_path / "runs", "--data.source=file", f"--data.path={path}", *more)
        return command(*(arg for arg in args if not arg.startswith("--data.rows")))

    return run


@pytest.fixture(autouse=True)
def _nothing_is_written(tmp_path: Path):
    yield
    assert not (tmp_path / "runs").exists()


@pytest.mark.parametrize(("spoil", "words"), BAD_COLUMNS)
def test_a_bad_dataset_is_refused(fit_on, refused, tmp_path: Path, spoil, words):
    columns = _columns()
    spoil(columns)
    path = _write(tmp_path / "data.hdf5", columns)
    refused(fit_on(path), str(path), *words)


def test_a_file_that_is_missing_or_no_hdf5_is_refused(fit_on, refused, tmp_path: Path):
    refused(fit_on(tmp_path / "no.hdf5"), "no.hdf5")
    (tmp_path / "text.hdf5").write_text("hello")
    refused(fit_on(tmp_path / "text.hdf5"), "text.hdf5", "HDF5")


def test_a_truncated_file_is_refused(fit_on, refused, tmp_path: Path):
    whole = _write(tmp_path / "whole.hdf5", _columns()).read_bytes()
    (tmp_path / "cut.hdf5").write_bytes(whole[: len(whole) // 2])
    refused(fit_on(tmp_path / "cut.hdf5"), "cut.hdf5")


def test_without_a_dataset_the_error_says_what_to_do(command, refused, tmp_path: Path):
    args = ["fit", "--config=conf/antmaze.yaml", f"--run.root={tmp_path / 'runs'}"]
    refused(command(*args, "--data.source=file"), "--data.path", "--data.source make", "minari:ID")


def test_a_fetch_that_fails_names_the_mirrors_and_the_other_ways(command, refused, tmp_path: Path):
    settings = ["--config=conf/d4rl/antmaze-umaze-v2.yaml", f"--run.root={tmp_path / 'runs'}"]
    settings += [f"--data.mirrors=[{tmp_path}/nowhere]", f"--data.cache_dir={tmp_path / 'cache'}"]
    ways = ["data make antmaze-umaze", "--data.path", "D4RL_DATASET_DIR", "minari:"]
    refused(command("fit", *settings), f"{tmp_path}/nowhere", *ways)


def test_an_unknown_environment_is_refused(fit_on, refused, tmp_path: Path):
    path = _write(tmp_path / "data.hdf5", _columns())
    refused(fit_on(path, "--data.env=pex_lightning/PointMaze-Medum-v0"), "PointMaze-Medium-v0")


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        ("--model.expectle=0.8", ["model.expectle", "--model.expectile"]),
        ("--model.gama=0.9", ["model.gama", "--model.gamma"]),
        ("--trainer.max_stps=3", ["trainer.max_stps", "--trainer.max_steps"]),
        ("--evaluation.episods=3", ["evaluation.episods", "--evaluation.episodes"]),
        ("--model.expectile=high", ["--model.expectile", "'high'", "float"]),
        ("--model.expectile=1.5", ["--model.expectile", "1.5", "between 0 and 1"]),
        ("--data.batch_size=0", ["--data.batch_size", "above 0"]),
        ("--data.offline_fraction=2", ["--data.offline_fraction", "between 0 and 1"]),
        ("--evaluation.episodes=0", ["--evaluation.episodes", "at least 1"]),
        ("--trainer.max_steps=-1", ["--trainer.max_steps"]),
        ("--offline.max_steps=0", ["--offline.max_steps"]),
        ("--data.source=nowhere", ["--data.source", "nowhere", "make"]),
        ("--data.dataset=pointmaze-medum", ["pointmaze-medum", "pointmaze-medium"]),
        ("--model=NoSuch", ["NoSuch", "PEX"]),
        ("--model=null", ["takes its value from --model.", "model is null", "Give --model"]),
        ("--data=null", ["--data: not given, or null", "--data OnlineData"]),
        ("--offline=null", ["--offline is a group of settings", "--offline.max_steps"]),
    ],
)
def test_a_bad_setting_is_refused(command, tiny, refused, tmp_path: Path, flag, words):
    refused(command(*tiny(tmp_path / "runs", flag)), *words)


def test_an_unknown_key_in_a_file_is_found_in_the_file(command, tiny, refused, tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    mine.write_text("trainer:\n  max_stps: 3\n")
    args = tiny(tmp_path / "runs", f"--config={mine}")
    refused(command(*args), "trainer.max_stps", f"{mine}, line 2", "--trainer.max_steps")


@pytest.mark.parametrize("flag", ["--evaluation={}", "--config={}"])
def test_a_wrong_value_in_a_file_is_found_in_it(command, tiny, refused, tmp_path: Path, flag: str):
    mine = tmp_path / "mine.yaml"
    mine.write_text("every: x\n" if "evaluation" in flag else "evaluation:\n  every: x\n")
    line = f"{mine}, line {1 if 'evaluation' in flag else 2}"
    refused(
        command("fit", "--config=conf/pointmaze.yaml", flag.format(mine)),
        f"--evaluation.every is 'x' ({line}), expected int",
    )


def test_the_line_is_that_of_the_whole_key(command, refused, tmp_path: Path):
    mine = tmp_path / "mine.yaml"
    for text, line in (
        ("trainer:\n  max_steps: 100\noffline:\n  max_steps: x\n", 4),
        ("trainer.max_steps: 100\noffline.max_steps: x\n", 2),
        ("offline: {model: {init_args: {beta: 3.0}},\n  max_steps: x}\n", 2),
    ):
        mine.write_text(text)
        outcome = command("fit", "--config=conf/pointmaze.yaml", f"--config={mine}")
        refused(outcome, f"--offline.max_steps is 'x' ({mine}, line {line})")
    mine.write_text("model:\n  init_args:\n    gama: 0.9\n")
    outcome = command("fit", "--config=conf/pointmaze.yaml", f"--config={mine}")
    refused(outcome, "model.gama", f"{mine}, line 3")


@pytest.mark.parametrize("group", ["evaluation", "run"])
def test_a_group_that_is_null_in_a_file_is_named(command, refused, tmp_path: Path, group: str):
    mine = tmp_path / "mine.yaml"
    mine.write_text(f"seed_everything: 1\n{group}: null\n")
    outcome = command("fit", "--config=conf/pointmaze.yaml", f"--config={mine}")
    refused(outcome, f"{group} is null ({mine}, line 2), expected a group of settings")


def test_a_run_without_model_and_data_says_where_they_are(command, refused):
    refused(command("fit"), "--data and --model: not given", "--config conf/pointmaze.yaml")


def test_a_class_of_ones_own_that_needs_a_value_says_which(
    command, refused, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    code = "from pex_lightning.algorithms.pex import PEX\n\nclass Needy(PEX):\n"
    code += "    def __init__(self, margin: float, **kwargs):\n        super().__init__(**kwargs)\n"
    (tmp_path / "needy_methods.py").write_text(code)
    monkeypatch.syspath_prepend(str(tmp_path))
    needy = "=needy_methods.Needy"
    on_a_task = ["--config=conf/pointmaze.yaml", f"--offline.model{needy}"]
    refused(
        command("fit", *on_a_task), "needy_methods.Needy needs a value of --offline.model.margin"
    )
    of_its_own = [f"--model{needy}", "--data=OnlineData"]
    refused(command("fit", *of_its_own), "needy_methods.Needy needs a value of --model.margin")


def test_files_that_are_no_settings_are_refused(command, tiny, refused, tmp_path: Path):
    for name, text in (("list.yaml", "- 1\n"), ("broken.yaml", "model: [\n")):
        (tmp_path / name).write_text(text)
        args = tiny(tmp_path / "runs", f"--config={tmp_path / name}")
        refused(command(*args), name)
    refused(command("fit", "--config", str(tmp_path / "absent.yaml")), "absent.yaml")
    (tmp_path / "self.yaml").write_text("base: [self.yaml]\n")
    refused(command("fit", "--config", str(tmp_path / "self.yaml")), "self.yaml", "itself")


def test_a_folder_that_cannot_be_written_is_refused(command, tiny, refused, tmp_path: Path):
    (tmp_path / "file").write_text("")
    refused(command(*tiny(tmp_path / "file" / "runs")), str(tmp_path / "file"), "--run.root")


@pytest.mark.parametrize(
    ("config", "given", "words"),
    [
        ("conf/iql/pointmaze.yaml", "--data=OnlineData", ("--model IQL", "OfflineData")),
        ("conf/iql/pointmaze.yaml", "--model=PEX", ("--model PEX", "OnlineData")),
        ("conf/pointmaze.yaml", "--offline.model=OnlineIQL", ("--offline.model OnlineIQL", "IQL")),
    ],
)
def test_methods_and_data_that_do_not_fit_are_refused(
    command, tiny, refused, tmp_path: Path, config: str, given: str, words: tuple[str, ...]
):
    refused(command(*tiny(tmp_path / "runs", given, config=config)), *words)
    assert not (tmp_path / "runs").exists()


def test_a_checkpoint_of_the_wrong_stage_is_refused(
    command, tiny, refused, finished: Path, tmp_path: Path
):
    online = finished / "online" / "checkpoints" / "last.ckpt"
    args = tiny(tmp_path / "runs", f"--offline.ckpt_path={online}")
    refused(command(*args), "PEX", "offline stage", str(online))


def test_a_checkpoint_that_does_not_fit_is_refused(
    command, tiny, refused, finished: Path, tmp_path: Path
):
    offline = finished / "offline" / "checkpoints" / "last.ckpt"
    args = tiny(tmp_path / "runs", f"--offline.ckpt_path={offline}", "--model.hidden_dims=[32,32]")
    refused(command(*args), "model.hidden_dims", "[16, 16]", "[32, 32]")


class _Payload:
    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def test_a_checkpoint_that_would_run_code_is_refused(
    command, tiny, refused, finished: Path, tmp_path: Path
):
    raw = torch.load(finished / "offline" / "checkpoints" / "last.ckpt", weights_only=True)
    raw["hyper_parameters"]["beta"] = _Payload(tmp_path / "it-ran")
    torch.save(raw, tmp_path / "evil.ckpt")
    for flag in ("--offline.ckpt_path", "--ckpt_path"):
        args = tiny(tmp_path / "runs", f"{flag}={tmp_path / 'evil.ckpt'}")
        refused(command(*args), "evil.ckpt", "run code")
    refused(command("test", "--ckpt_path", str(tmp_path / "evil.ckpt")), "evil.ckpt", "run code")
    assert not (tmp_path / "it-ran").exists()


def test_a_checkpoint_that_is_not_ours_or_cut_short_is_refused(
    command, refused, finished: Path, tmp_path: Path
):
    torch.save({"state_dict": {}}, tmp_path / "other.ckpt")
    refused(command("test", "--ckpt_path", str(tmp_path / "other.ckpt")), "not one of pex")
    whole = (finished / "offline" / "checkpoints" / "last.ckpt").read_bytes()
    (tmp_path / "cut.ckpt").write_bytes(whole[: len(whole) // 2])
    refused(command("test", "--ckpt_path", str(tmp_path / "cut.ckpt")), "cut.ckpt")


def test_an_unknown_command_is_refused(command, refused):
    refused(command("fitt"), "fitt", "fit")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--trainer.accelerator=gpu"], ["--trainer"]),
        (["--trainer.strategy=nonsense"], ["--trainer", "nonsense"]),
        (["--trainer.strategy=ddp_spawn"], ["ddp_spawn", "Use ddp"]),
        (["--trainer.precision=64-true"], ["64-true", "bf16-mixed"]),
        (["--trainer.enable_checkpointing=false"], ["enable_checkpointing"]),
        (["--trainer.accumulate_grad_batches=2"], ["accumulate_grad_batches"]),
        (["--offline.model.gamma=0.9"], ["--offline.model.gamma", "0.9", "0.99"]),
        (["--model=IQL"], ["--model IQL", "--offline"]),
        (["--offline.model=IQLEnsemble"], ["PEX takes over 1 agent", "IQLEnsemble trains 5"]),
        (["--offline.ckpt_path=no.ckpt"], ["no.ckpt", "exist"]),
        (["--offline.model=null"], ["--offline.ckpt_path"]),
        (["--seed_everything=-1"], ["--seed_everything"]),
    ],
)
def test_what_would_end_a_later_stage_is_refused_before_the_first(
    command, tiny, refused, tmp_path: Path, flags, words
):
    refused(command(*tiny(tmp_path / "runs", *flags)), *words)


def test_an_offline_checkpoint_needs_a_stage_that_takes_it(
    command, tiny, refused, finished: Path, tmp_path: Path
):
    offline = finished / "offline" / "checkpoints" / "last.ckpt"
    args = tiny(
        tmp_path / "runs", f"--offline.ckpt_path={offline}", config="conf/iql/pointmaze.yaml"
    )
    refused(command(*args), "IQL", "--offline.ckpt_path")


def test_other_data_are_refused_on_resume(command, tiny, refused, finished: Path, tmp_path: Path):
    last = finished / "online" / "checkpoints" / "last.ckpt"
    for flag, word in (
        ("--data.reward_transform=identity", "reward transform"),
        ("--data.dataset_seed=3", "fingerprint"),
    ):
        args = tiny(tmp_path / "runs", f"--ckpt_path={last}", "--trainer.max_steps=60", flag)
        refused(command(*args), word)


def test_a_checkpoint_without_its_training_state_is_not_resumed(
    command, tiny, refused, finished: Path, tmp_path: Path
):
    raw = torch.load(finished / "offline" / "checkpoints" / "last.ckpt", weights_only=True)
    del raw["optimizer_states"]
    torch.save(raw, tmp_path / "policy.ckpt")
    args = tiny(
        tmp_path / "runs",
        f"--ckpt_path={tmp_path / 'policy.ckpt'}",
        "--trainer.max_steps=60",
        config="conf/iql/pointmaze.yaml",
    )
    refused(command(*args), "policy.ckpt", "state of its training")


def test_a_device_that_is_not_there_is_refused(command, refused, finished: Path):
    last = finished / "offline" / "checkpoints" / "last.ckpt"
    refused(command("test", "--ckpt_path", str(last), "--device=nonsense"), "--device nonsense")
