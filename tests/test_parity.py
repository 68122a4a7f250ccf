"""`parity.py` itself: it passes on recorded files, and fails when a number is wrong."""

import importlib.util
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

HERE = Path(__file__).parent
RECORDED = sorted((HERE.parent.parent / "shared" / "parity").glob("*.npz"))
OBS, ACT, HIDDEN, B, STEPS, MAX_STEPS = 4, 2, 8, 16, 4, 50
SETTINGS = {
    "obs_dim": OBS,
    "act_dim": ACT,
    "hidden": HIDDEN,
    "layers": 2,
    "expectile": 0.8,
    "beta": 3.0,
    "inv_temperature": 5.0,
    "discount": 0.9,
    "target_update_rate": 0.05,
    "action_low": [-1, -1],
    "action_high": [1, 1],
    "max_steps": MAX_STEPS,
    "lr": 3e-4,
}


@pytest.fixture(scope="module")
def parity() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pex_parity", HERE / "parity.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Its dataclasses look their module up.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.mark.skipif(not RECORDED, reason="no recorded files beside the repository")
@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_recorded_numbers_are_reproduced(path: Path, parity: ModuleType) -> None:
    lines: list[str] = []
    assert parity.report([path], lines.append), "".join(lines)
    assert len(lines) > 15


def stack(size: int, out: int | None) -> nn.Sequential:
    layers: list[nn.Module] = [nn.Linear(size, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN)]
    layers += [nn.ReLU()] if out is None else [nn.ReLU(), nn.Linear(HIDDEN, out)]
    return nn.Sequential(*layers)


class Actor(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.net, self.mean_linear = stack(OBS, None), nn.Linear(HIDDEN, ACT)
        self.log_std = nn.Parameter(torch.zeros(ACT))

    def forward(self, s: torch.Tensor) -> torch.distributions.Normal:
        mean = torch.tanh(self.mean_linear(self.net(s)))
        return torch.distributions.Normal(mean, self.log_std.clamp(-5, 2).exp())


Arrays = dict[str, Any]


def keep(arrays: Arrays, prefix: str, module: nn.Module) -> None:
    for key, value in module.state_dict().items():
        arrays[f"{prefix}{key}"] = value.clone().numpy()


def qs(net: nn.ModuleDict, s: torch.Tensor, a: torch.Tensor) -> torch.Tensor:
    return torch.stack([net[n](torch.cat([s, a], -1))[:, 0] for n in ("q1", "q2")])


def written(path: Path, change: Any = None) -> Path:
    """A file as the released code would record it: plain networks, an optimiser for each."""
    torch.manual_seed(0)
    arrays: Arrays = {}
    q, bar = (nn.ModuleDict({n: stack(OBS + ACT, 1) for n in ("q1", "q2")}) for _ in range(2))
    v, actor = nn.ModuleDict({"v": stack(OBS, 1)}), Actor()
    nets = {"critic": q, "target_critic": bar, "value": v, "policy": actor}
    for name, net in nets.items():
        keep(arrays, f"init/{name}/", net)
    batch = {
        "observations": torch.randn(STEPS, B, OBS),
        "actions": torch.rand(STEPS, B, ACT) * 2 - 1,
        "next_observations": torch.randn(STEPS, B, OBS),
        "rewards": torch.randn(STEPS, B),
        "terminals": (torch.rand(STEPS, B) < 0.3).float(),
    }
    arrays |= {f"batch/{key}": value.numpy() for key, value in batch.items()}

    optimizers = [torch.optim.Adam(net.parameters(), lr=3e-4) for net in (q, v, actor)]
    decay = torch.optim.lr_scheduler.CosineAnnealingLR(optimizers[2], MAX_STEPS)
    for s, a, s2, r, d in zip(*batch.values(), strict=True):
        value = v["v"](s)[:, 0]
        u = (qs(bar, s, a).amin(0) - value).detach()
        error = qs(bar, s, a).amin(0).detach() - value
        v_loss = ((0.8 - (error < 0).float()).abs() * error**2).mean()
        y = (r + 0.9 * (1 - d) * v["v"](s2)[:, 0]).detach()
        q_loss = 0.5 * ((qs(q, s, a) - y) ** 2).mean(-1).sum()
        weight = torch.exp(3.0 * u).clamp(max=100)
        log_prob = actor(s).log_prob(a).sum(-1)
        policy_loss = (weight * -log_prob).mean()
        if "first/mean" not in arrays:
            first = {"v_loss": v_loss, "q_loss": q_loss, "policy_loss": policy_loss}
            first |= {"advantage": u, "weight": weight, "log_prob": log_prob}
            first["mean"] = actor(s).mean
            arrays |= {f"first/{key}": x.detach().clone().numpy() for key, x in first.items()}
        for optimizer in optimizers:
            optimizer.zero_grad()
        for loss in (q_loss, v_loss, policy_loss):
            loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        decay.step()
        with torch.no_grad():
            for target, source in zip(bar.parameters(), q.parameters(), strict=True):
                target.add_(0.05 * (source - target))
    for name, net in nets.items():
        keep(arrays, f"final/{name}/", net)
    arrays["final/policy_lr"] = np.array(optimizers[2].param_groups[0]["lr"])
    expand(arrays, nets, batch["observations"][0])
    settings = {**SETTINGS}
    if change is not None:
        change(arrays, settings)
    np.savez(path, meta=json.dumps(settings), **arrays)
    return path


def expand(arrays: Arrays, nets: dict[str, Any], s: torch.Tensor) -> None:
    """Record the choice between the offline policy and a fresh one, and the latter's loss."""
    q, bar, v, actor = nets.values()
    fresh = Actor()
    keep(arrays, "pex/offline_policy/", actor)
    keep(arrays, "pex/policy/", fresh)
    with torch.no_grad():
        offline, online = actor(s).mean, fresh(s).sample().clamp(-1, 1)
        candidates = torch.stack([offline, online])
        candidate_q = torch.stack([qs(q, s, a).amin(0) for a in candidates], -1)
        probs = torch.softmax(5.0 * candidate_q, -1)
        index = torch.multinomial(probs, 1)[:, 0]
        action = candidates[index, torch.arange(B)]
        u = qs(bar, s, action).amin(0) - v["v"](s)[:, 0]
    weight = torch.exp(3.0 * u).clamp(max=100)
    policy_loss = (weight * -fresh(s).log_prob(action).sum(-1)).mean()
    policy_loss.backward()
    for key, parameter in fresh.named_parameters():
        assert parameter.grad is not None
        arrays[f"pex/policy_grad/{key}"] = parameter.grad.numpy()
    found = {
        "offline_action": offline,
        "online_action": online,
        "candidate_q": candidate_q,
        "selection_probs": probs,
        "selected_index": index,
        "composite_action": action,
        "advantage": u,
        "policy_loss": policy_loss.detach(),
    }
    arrays |= {f"pex/{key}": value.numpy() for key, value in found.items()}


def test_a_plain_implementation_agrees(tmp_path: Path, parity: ModuleType) -> None:
    differences = list(parity.compare(written(tmp_path / "plain.npz")))
    assert len(differences) == 20
    assert [d.group for d in differences if not d.fits] == []


@pytest.mark.parametrize(
    "key",
    [
        "first/v_loss",
        "first/q_loss",
        "first/policy_loss",
        "first/weight",
        "first/mean",
        "final/critic/q2.2.weight",
        "final/target_critic/q1.0.bias",
        "final/value/v.4.bias",
        "final/policy/log_std",
        "final/policy_lr",
        "pex/selection_probs",
        "pex/advantage",
        "pex/policy_loss",
        "pex/policy_grad/mean_linear.weight",
    ],
)
def test_a_perturbed_number_is_found(key: str, tmp_path: Path, parity: ModuleType) -> None:
    def perturb(arrays: dict[str, Any], settings: dict[str, Any]) -> None:
        array = np.array(arrays[key])
        flat = array.reshape(-1)
        flat[np.abs(flat).argmax()] += max(1e-4 * np.abs(flat).max(), 1e-5)
        arrays[key] = array

    lines: list[str] = []
    assert not parity.report([written(tmp_path / "wrong.npz", perturb)], lines.append)
    group = "/".join(key.split("/")[:2])
    assert any(group in line and "EXCEEDED" in line for line in lines)


@pytest.mark.parametrize(
    ("setting", "value"),
    [
        ("expectile", 0.81),
        ("beta", 3.01),
        ("discount", 0.91),
        ("target_update_rate", 0.06),
        ("inv_temperature", 5.1),
        ("lr", 2.9e-4),
        ("max_steps", 40),
    ],
)
def test_another_setting_is_found(
    setting: str, value: float, tmp_path: Path, parity: ModuleType
) -> None:
    path = written(tmp_path / "wrong.npz", lambda _, settings: settings.update({setting: value}))
    assert not all(difference.fits for difference in parity.compare(path))
