"""Files of stable-baselines3, made as its version 2 makes them; compared with it where it is."""

from __future__ import annotations

import io
import json
import pickle
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from pex_lightning.envs.make import EnvSpec
from pex_lightning.errors import UserError
from pex_lightning.policies.member_entry import MemberEntry
from pex_lightning.policies.stable_baselines import read_stable_baselines

LOW, HIGH = (-1.0, -0.5), (1.0, 2.0)
ENV = EnvSpec("none", {}, 3, LOW, HIGH, 5)
STATES = 2 * torch.randn(40, 3, generator=torch.Generator().manual_seed(0))
SPACE = {"low": "[-1.  -0.5]", "high": "[1. 2.]"}


def write(path: Path, state: Mapping[str, Tensor], **settings: Any) -> Path:
    weights = io.BytesIO()
    torch.save(state, weights)
    with zipfile.ZipFile(path, "w") as archive:
        data = {"policy_kwargs": {}, "use_sde": False, "action_space": SPACE, **settings}
        archive.writestr("data", json.dumps(data))
        archive.writestr("policy.pth", weights.getvalue())
    return path


def read(path: Path) -> torch.Tensor:
    policy = read_stable_baselines(MemberEntry.of(str(path)), ENV)
    return policy.mode(STATES).detach()


def layers(net: nn.Module, prefix: str) -> dict[str, Tensor]:
    return {f"{prefix}{key}": value for key, value in net.state_dict().items()}


def ppo(activation: type[nn.Module] = nn.Tanh) -> tuple[nn.Sequential, dict[str, Tensor]]:
    hidden = nn.Sequential(nn.Linear(3, 8), activation(), nn.Linear(8, 4), activation())
    last, value = nn.Linear(4, 2), nn.Linear(4, 1)
    state = {
        "log_std": torch.zeros(2),
        **layers(hidden, "mlp_extractor.policy_net."),
        **layers(nn.Linear(3, 8), "mlp_extractor.value_net.0."),
        **layers(last, "action_net."),
        **layers(value, "value_net."),
    }
    return nn.Sequential(hidden, last), state


def test_ppos_actions_are_clipped(tmp_path: Path) -> None:
    net, state = ppo()
    expected = net(STATES).clamp(torch.tensor(LOW), torch.tensor(HIGH)).detach()
    torch.testing.assert_close(read(write(tmp_path / "old.zip", state)), expected)


def test_another_activation_is_read_from_words(tmp_path: Path) -> None:
    net, state = ppo(nn.ReLU)
    kwargs = {
        ":type:": "<class 'dict'>",
        ":serialized:": "gASV",
        "activation_fn": "<class 'torch.nn.modules.activation.ReLU'>",
    }
    path = write(tmp_path / "old.zip", state, policy_kwargs=kwargs)
    expected = net(STATES).clamp(torch.tensor(LOW), torch.tensor(HIGH)).detach()
    torch.testing.assert_close(read(path), expected)


def test_sacs_and_td3s_actions_are_squashed(tmp_path: Path) -> None:
    hidden = nn.Sequential(nn.Linear(3, 8), nn.ReLU(), nn.Linear(8, 8), nn.ReLU())
    last = nn.Linear(8, 2)
    low, high = torch.tensor(LOW), torch.tensor(HIGH)
    raw = torch.tanh(last(hidden(STATES)))
    expected = (low + 0.5 * (raw + 1.0) * (high - low)).detach()
    sac = {
        **layers(hidden, "actor.latent_pi."),
        **layers(last, "actor.mu."),
        **layers(nn.Linear(8, 2), "actor.log_std."),
        **layers(nn.Linear(5, 1), "critic.qf0.0."),
    }
    torch.testing.assert_close(read(write(tmp_path / "sac.zip", sac)), expected)
    mu = nn.Sequential(*hidden, last)
    td3 = {**layers(mu, "actor.mu."), **layers(mu, "actor_target.mu.")}
    torch.testing.assert_close(read(write(tmp_path / "td3.zip", td3)), expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"use_sde": True}, "use_sde"),
        ({"action_space": {**SPACE, "high": "[1. 1.]"}}, "its action_space has high"),
        ({"action_space": {"low": "-1.0", "high": "1.0"}}, "its action_space has low"),
        ({"policy_kwargs": {"activation_fn": "my own"}}, "its activation is 'my own'"),
        ({"policy_kwargs": {"activation_fn": "<class 'a.Odd'>"}}, "'Odd' is not in list"),
    ],
)
def test_what_is_not_the_same_policy_here_is_refused(
    settings: dict[str, Any], message: str, tmp_path: Path
) -> None:
    path = write(tmp_path / "old.zip", ppo()[1], **settings)
    with pytest.raises(UserError, match=rf"old\.zip cannot be read .*{message}.*module:function"):
        read(path)


def test_other_sizes_and_networks_are_refused(tmp_path: Path) -> None:
    for state, message in (
        ({"q_net.q_net.0.weight": torch.zeros(2, 3)}, "no plain perceptron"),
        ({**ppo()[1], "features_extractor.cnn.0.weight": torch.zeros(1)}, "no plain perceptron"),
        (
            layers(nn.Linear(4, 2), "actor.mu.0."),
            r"takes observations of size 4, this run's have 3",
        ),
        (layers(nn.Linear(3, 1), "actor.mu.0."), r"gives actions of size 1, this run's have 2"),
        ({**ppo()[1], "action_net.bias": torch.full((2,), torch.nan)}, "not finite"),
    ):
        with pytest.raises(UserError, match=message):
            read(write(tmp_path / "old.zip", state))


class Opened:
    def __reduce__(self) -> Any:
        return print, ("executed",)


def test_nothing_of_it_is_unpickled(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "old.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("data", json.dumps({"policy_kwargs": {}}))
        archive.writestr("policy.pth", pickle.dumps(Opened()))
    with pytest.raises(UserError, match="cannot be read as a file of stable-baselines3"):
        read(path)
    for content in (b"", b"PK\x03\x04" + bytes(100), b"{}"):
        path.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read as a file of stable-baselines3"):
            read(path)
    assert "executed" not in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("name", ["PPO", "A2C", "SAC", "TD3", "DDPG"])
def test_it_is_what_stable_baselines_predicts(name: str, tmp_path: Path) -> None:
    baselines = pytest.importorskip("stable_baselines3", reason="it is not installed")

    class Env(gymnasium.Env[Any, Any]):
        observation_space = gymnasium.spaces.Box(-100, 100, (3,), np.float32)
        action_space = gymnasium.spaces.Box(np.float32(LOW), np.float32(HIGH))

    model = getattr(baselines, name)("MlpPolicy", Env(), seed=1)
    model.save(tmp_path / "old.zip")
    expected, _ = model.predict(STATES.numpy(), deterministic=True)
    torch.testing.assert_close(read(tmp_path / "old.zip"), torch.from_numpy(expected))
