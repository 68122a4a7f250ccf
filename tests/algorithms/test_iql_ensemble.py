"""An ensemble of IQL agents is as many IQL runs."""

from typing import Any

import pytest
import torch

from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.algorithms.iql_ensemble import IQLEnsemble
from pex_lightning.algorithms.stacking import stacked_policy, stacked_q
from pex_lightning.errors import UserError
from pex_lightning.updates.batch import batches


def start_as(ensemble: Any, agents: list[Any]) -> None:
    """Give the ensemble the parameters of single agents."""
    for name in ("q_net", "target_q_net"):
        states = [getattr(agent.critic, name).state_dict() for agent in agents]
        stacked = {key: stacked_q([state[key] for state in states]) for key in states[0]}
        getattr(ensemble.critic, name).load_state_dict(stacked)
    ensemble.policy.load_state_dict(stacked_policy([a.policy.state_dict() for a in agents]))
    values = [agent.critic.v_net.state_dict() for agent in agents]
    for layer in range(len(ensemble.critic.v_net.weights)):
        weight, bias = f"layers.{2 * layer}.weight", f"layers.{2 * layer}.bias"
        with torch.no_grad():
            ensemble.critic.v_net.weights[layer].copy_(torch.stack([v[weight].mT for v in values]))
            ensemble.critic.v_net.biases[layer].copy_(torch.stack([v[bias][None] for v in values]))


def step(module: Any, optimizer: torch.optim.Optimizer, batch: Any) -> Any:
    losses = module.losses(batch)
    optimizer.zero_grad()
    losses.total.backward()
    optimizer.step()
    module.after_step()
    return losses


def test_n_agents_learn_what_n_runs_of_iql_learn(toy: Any) -> None:
    settings = {"hidden_dims": [8, 8], "tau": 0.1, "num_q": 3}
    agents = [ALGORITHMS["IQL"](**settings) for _ in range(3)]
    ensemble = IQLEnsemble(ensemble_size=3, **settings)
    modules = [*agents, ensemble]
    for module in modules:
        module.attach(toy.description())
        module.double()
    start_as(ensemble, agents)
    adams = [
        torch.optim.Adam([p for g in m.groups().values() for p in g], lr=1e-2) for m in modules
    ]
    chunk = toy.chunk(updates=30).apply(lambda x: x.double() if x.is_floating_point() else x)
    for batch in batches(chunk):
        results = [step(m, a, batch) for m, a in zip(modules, adams, strict=True)]
    for term in ("q", "v", "actor"):
        own = sum(result.terms[term] for result in results[:3])
        torch.testing.assert_close(results[3].terms[term], own)
    expected = IQLEnsemble(ensemble_size=3, **settings)
    expected.attach(toy.description())
    expected.double()
    start_as(expected, agents)
    for (name, ours), theirs in zip(
        ensemble.named_parameters(), expected.parameters(), strict=True
    ):
        torch.testing.assert_close(ours, theirs, msg=name)


def test_the_agents_differ_from_the_start_and_stay_apart(toy: Any) -> None:
    module = toy.algorithm("IQLEnsemble", ensemble_size=3)
    toy.fit(module, 10)
    modes = module.policy.member_modes(torch.randn(4, 3))
    assert all(not torch.allclose(modes[i], modes[j]) for i, j in ((0, 1), (0, 2), (1, 2)))


def test_diagnostics_are_means_over_the_agents(toy: Any) -> None:
    module = toy.algorithm("IQLEnsemble", ensemble_size=4)
    module.attach(toy.description())
    (batch,) = batches(toy.chunk())
    losses = module.losses(batch)
    for term, name in (("q", "q_loss"), ("v", "v_loss"), ("actor", "policy_loss")):
        torch.testing.assert_close(losses.diagnostics[name] * 4, losses.terms[term].detach())


@pytest.mark.parametrize("name", ["IQLEnsemble", "Off2On"])
def test_a_size_or_policy_that_no_ensemble_has_is_refused(name: str) -> None:
    with pytest.raises(UserError, match=r"--model\.ensemble_size is 0"):
        ALGORITHMS[name](ensemble_size=0)
    with pytest.raises(UserError, match=r"policy_distribution is squashed.*gaussian"):
        ALGORITHMS[name](policy_distribution="squashed_gaussian")
