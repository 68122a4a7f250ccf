"""Compare this package with numbers recorded from the released PEX implementation.

Usage: `python tests/parity.py FILE.npz [FILE.npz ...]`

Each file holds the settings, initial parameters and batches of a small random problem, and what
the released code made of them. Prints the largest difference of every group beside its tolerance
and exits with 1 if one is exceeded.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from pex_lightning.algorithms import IQL, PEX
from pex_lightning.data.description import DataDescription
from pex_lightning.datasets.rewards import RewardTransform
from pex_lightning.envs.make import EnvSpec
from pex_lightning.losses.iql import policy_loss
from pex_lightning.nn.critic import Critic
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.nn.mlp import MLP, EnsembleMLP
from pex_lightning.policies.choice import Boltzmann
from pex_lightning.updates.batch import Batch

RELATIVE = 1e-5
PARAMETERS = 2e-6

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class Difference:
    """The largest difference of one group of numbers, and what is allowed."""

    group: str
    largest: float
    allowed: float

    @property
    def fits(self) -> bool:
        return self.largest <= self.allowed


def compare(path: Path) -> Iterator[Difference]:
    """Every group of one file."""
    with np.load(path) as file:
        arrays: Arrays = {key: file[key] for key in file.files}
    meta = json.loads(str(arrays["meta"]))
    iql = _iql(meta, arrays)
    batches = list(_batches(arrays))
    yield from _first(iql, batches[0], arrays)
    yield from _final(iql, batches, arrays, meta)
    yield from _pex(iql, batches[0], arrays, meta)


def _data(meta: Mapping[str, Any]) -> DataDescription:
    env = EnvSpec(
        id="parity",
        kwargs={},
        obs_dim=meta["obs_dim"],
        action_low=tuple(map(float, meta["action_low"])),
        action_high=tuple(map(float, meta["action_high"])),
        max_episode_steps=1,
    )
    return DataDescription(env, "parity", "", RewardTransform(scale=1.0, shift=0.0))


def _common(meta: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "expectile": meta["expectile"],
        "beta": meta["beta"],
        "gamma": meta["discount"],
        "tau": meta["target_update_rate"],
        "learning_rate": meta["lr"],
        "hidden_dims": [meta["hidden"]] * meta["layers"],
    }


class _Horizon:
    """Stands in for the trainer: the schedule asks it for nothing but `max_steps`."""

    def __init__(self, max_steps: int) -> None:
        self.max_steps = max_steps


def _iql(meta: Mapping[str, Any], arrays: Arrays) -> IQL:
    iql = IQL(**_common(meta))
    iql.attach(_data(meta))
    _load_ensemble(iql.critic.q_net, "init/critic", arrays)
    _load_ensemble(iql.critic.target_q_net, "init/target_critic", arrays)
    _load_mlp(iql.critic.v_net, "init/value/v", arrays)
    _load_policy(iql.policy, "init/policy", arrays)
    return iql


def _batches(arrays: Arrays) -> Iterator[Batch]:
    for step in range(len(arrays["batch/rewards"])):
        yield Batch(
            observation=_tensor(arrays["batch/observations"][step]),
            action=_tensor(arrays["batch/actions"][step]),
            reward=_tensor(arrays["batch/rewards"][step]),
            terminated=_tensor(arrays["batch/terminals"][step]).bool(),
            next_observation=_tensor(arrays["batch/next_observations"][step]),
        )


def _first(iql: IQL, batch: Batch, arrays: Arrays) -> Iterator[Difference]:
    """Values on the first batch, before any update."""
    terms = iql.losses(batch).terms
    log_prob = iql.policy.log_prob(batch.observation, batch.action)
    target_q = iql.critic.target_q(batch.observation, batch.action).amin(0)
    advantage = target_q - iql.critic.v(batch.observation)
    ours = {
        "v_loss": terms["v"],
        "q_loss": terms["q"],
        "policy_loss": terms["actor"],
        "advantage": advantage,
        "weight": policy_loss(log_prob, advantage, iql.beta).weight,
        "log_prob": log_prob,
        "mean": iql.policy.mode(batch.observation),
    }
    for name, value in ours.items():
        yield _relative(f"first/{name}", value, arrays[f"first/{name}"])


def _final(
    iql: IQL, batches: list[Batch], arrays: Arrays, meta: Mapping[str, Any]
) -> Iterator[Difference]:
    """Parameters and the actor's learning rate after every update."""
    iql._trainer = cast(Any, _Horizon(meta["max_steps"]))
    optimizer = iql.configure_optimizers()
    for step, batch in enumerate(batches, start=1):
        optimizer.zero_grad()
        iql.losses(batch).total.backward()
        optimizer.step()
        iql.after_step()
        for group in optimizer.param_groups:
            factor = iql.learning_rate_factors(step).get(group["name"], 1.0)
            group["lr"] = iql.learning_rate * factor
    env = _data(meta).env
    theirs = Critic(env.obs_dim, env.action_dim, iql.networks.hidden_dims)
    policy = GaussianPolicy(env.obs_dim, env.action_low, env.action_high, iql.networks.hidden_dims)
    _load_ensemble(theirs.q_net, "final/critic", arrays)
    _load_ensemble(theirs.target_q_net, "final/target_critic", arrays)
    _load_mlp(theirs.v_net, "final/value/v", arrays)
    _load_policy(policy, "final/policy", arrays)
    for name, ours, reference in (
        ("critic", iql.critic.q_net, theirs.q_net),
        ("target_critic", iql.critic.target_q_net, theirs.target_q_net),
        ("value", iql.critic.v_net, theirs.v_net),
        ("policy", iql.policy, policy),
    ):
        largest = max(
            _largest(a - b) for a, b in zip(ours.parameters(), reference.parameters(), strict=True)
        )
        yield Difference(f"final/{name}", largest, PARAMETERS)
    rate = torch.tensor(optimizer.param_groups[2]["lr"])
    yield _relative("final/policy_lr", rate, arrays["final/policy_lr"])


def _pex(iql: IQL, batch: Batch, arrays: Arrays, meta: Mapping[str, Any]) -> Iterator[Difference]:
    """The choice between policies, and the new policy's loss and gradient."""
    pex = PEX(**_common(meta), inv_temperature=meta["inv_temperature"])
    pex.attach(_data(meta))
    critic, learner = pex.critic, pex.policies.learner
    _load_ensemble(critic.q_net, "final/critic", arrays)
    _load_ensemble(critic.target_q_net, "final/target_critic", arrays)
    _load_mlp(critic.v_net, "final/value/v", arrays)
    _load_policy(cast(GaussianPolicy, pex.policies.frozen[0]), "pex/offline_policy", arrays)
    _load_policy(learner, "pex/policy", arrays)
    observation = batch.observation
    with torch.no_grad():
        offline = pex.policies.modes(observation)[0]
        yield _relative("pex/offline_action", offline, arrays["pex/offline_action"])
        candidates = torch.stack(
            [_tensor(arrays["pex/offline_action"]), _tensor(arrays["pex/online_action"])]
        )
        q = torch.stack([critic.q(observation, action).amin(0) for action in candidates])
        yield _relative("pex/candidate_q", q.T, arrays["pex/candidate_q"])
        acting = pex.acting_policy()
        probs = acting.rule.probs(acting.values(observation, candidates))
        yield _relative("pex/selection_probs", probs, arrays["pex/selection_probs"])
        rule = Boltzmann(meta["inv_temperature"])
        direct = rule.probs(_tensor(arrays["pex/candidate_q"]).T)
        yield _relative("pex/boltzmann", direct, arrays["pex/selection_probs"])
        action = candidates[_tensor(arrays["pex/selected_index"]), torch.arange(len(observation))]
        yield _relative("pex/composite_action", action, arrays["pex/composite_action"])
        value = critic.v(observation)
        advantage = critic.target_q(observation, action).amin(0) - value
    yield _relative("pex/advantage", advantage, arrays["pex/advantage"])
    loss = policy_loss(learner.log_prob(observation, action), advantage, pex.beta).loss
    yield _relative("pex/policy_loss", loss, arrays["pex/policy_loss"])
    gradients = torch.autograd.grad(loss, list(learner.parameters()))
    env = pex_env = _data(meta).env
    reference = GaussianPolicy(
        env.obs_dim, pex_env.action_low, pex_env.action_high, pex.networks.hidden_dims
    )
    _load_policy(reference, "pex/policy_grad", arrays)
    pairs = list(zip(gradients, reference.parameters(), strict=True))
    scale = max(_largest(theirs) for _, theirs in pairs)
    largest = max(_largest(ours - theirs) for ours, theirs in pairs) / max(scale, 1e-12)
    yield Difference("pex/policy_grad", largest, RELATIVE)


def _relative(group: str, ours: Tensor, theirs: NDArray[Any]) -> Difference:
    """The largest difference, relative to the largest number of the group."""
    reference = torch.as_tensor(np.asarray(theirs), dtype=torch.float64)
    difference = ours.detach().double() - reference
    return Difference(group, _largest(difference) / max(_largest(reference), 1e-12), RELATIVE)


def _largest(tensor: Tensor) -> float:
    return float(tensor.detach().abs().max())


def _tensor(array: NDArray[Any]) -> Tensor:
    return torch.from_numpy(np.array(array))


def _layers(prefix: str, arrays: Arrays) -> Iterator[tuple[Tensor, Tensor]]:
    """Weights and biases of a recorded `Linear, ReLU, …` stack, in order."""
    index = 0
    while f"{prefix}.{index}.weight" in arrays:
        yield _tensor(arrays[f"{prefix}.{index}.weight"]), _tensor(arrays[f"{prefix}.{index}.bias"])
        index += 2


@torch.no_grad()
def _load_ensemble(net: EnsembleMLP, prefix: str, arrays: Arrays) -> None:
    for member, name in enumerate(("q1", "q2")):
        for layer, (weight, bias) in enumerate(_layers(f"{prefix}/{name}", arrays)):
            net.weights[layer][member].copy_(weight.T)
            net.biases[layer][member, 0].copy_(bias)


@torch.no_grad()
def _load_mlp(net: MLP, prefix: str, arrays: Arrays) -> None:
    linears = [layer for layer in net.layers if isinstance(layer, torch.nn.Linear)]
    for layer, (weight, bias) in zip(linears, _layers(prefix, arrays), strict=True):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)


@torch.no_grad()
def _load_policy(policy: GaussianPolicy, prefix: str, arrays: Arrays) -> None:
    linears = [layer for layer in policy.net.layers if isinstance(layer, torch.nn.Linear)]
    stack = list(_layers(f"{prefix}/net", arrays))
    head = tuple(_tensor(arrays[f"{prefix}/mean_linear.{kind}"]) for kind in ("weight", "bias"))
    for layer, (weight, bias) in zip(linears, [*stack, head], strict=True):
        layer.weight.copy_(weight)
        layer.bias.copy_(bias)
    policy.log_std.copy_(_tensor(arrays[f"{prefix}/log_std"]))


def report(paths: list[Path], write: Callable[[str], object] = sys.stdout.write) -> bool:
    """Print every group of every file; whether all fit."""
    fits = True
    for path in paths:
        write(f"{path}\n")
        for difference in compare(path):
            verdict = "ok" if difference.fits else "EXCEEDED"
            write(
                f"  {difference.group:24} {difference.largest:9.2e}  "
                f"allowed {difference.allowed:7.0e}  {verdict}\n"
            )
            fits &= difference.fits
    return fits


if __name__ == "__main__":
    if len(sys.argv) < 2:
        sys.exit(__doc__)
    sys.exit(0 if report([Path(argument) for argument in sys.argv[1:]]) else 1)
