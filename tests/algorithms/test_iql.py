import math
from typing import Any

import pytest
import torch

from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.batch import Batch, batches


def mlp(weights: list[tuple[torch.Tensor, torch.Tensor]], x: torch.Tensor) -> torch.Tensor:
    for i, (weight, bias) in enumerate(weights):
        x = x @ weight + bias
        x = x.clamp(min=0) if i < len(weights) - 1 else x
    return x


def test_the_first_update_is_the_papers(toy: Any) -> None:
    """L_V, L_Q, L_π written out from the paper, on the networks before the step."""
    module = toy.algorithm("IQL", expectile=0.8, beta=2.0, gamma=0.9)
    module.attach(toy.description())
    critic, policy = module.critic, module.policy
    with torch.no_grad():
        for parameter in critic.target_q_net.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    (b,) = batches(toy.chunk(size=64))
    pair = torch.cat([b.observation, b.action], -1)

    def q(net: Any, i: int) -> torch.Tensor:
        layers = [(w[i], c[i]) for w, c in zip(net.weights, net.biases, strict=True)]
        return mlp(layers, pair)[:, 0]

    def v(states: torch.Tensor) -> torch.Tensor:
        linears = [m for m in critic.v_net.layers if isinstance(m, torch.nn.Linear)]
        return mlp([(m.weight.T, m.bias) for m in linears], states)[:, 0]

    u = torch.minimum(q(critic.target_q_net, 0), q(critic.target_q_net, 1)) - v(b.observation)
    loss_v = ((0.8 - (u < 0).float()).abs() * u**2).mean()
    y = b.reward + 0.9 * (1 - b.terminated.float()) * v(b.next_observation)
    loss_q = 0.5 * sum(((q(critic.q_net, i) - y) ** 2).mean() for i in range(2))
    normal = torch.distributions.Normal(policy.mode(b.observation), policy.log_std.exp())
    log_prob = normal.log_prob(b.action).sum(-1)
    loss_pi = ((2.0 * u).exp().clamp(max=100) * -log_prob).mean()
    losses = module.losses(b)
    torch.testing.assert_close(losses.terms["v"], loss_v)
    torch.testing.assert_close(losses.terms["q"], loss_q)
    torch.testing.assert_close(losses.terms["actor"], loss_pi)
    torch.testing.assert_close(losses.total, loss_v + loss_q + loss_pi)


def test_termination_masks_the_next_state_and_a_time_out_does_not(toy: Any) -> None:
    module = toy.algorithm("IQL")
    module.attach(toy.description())
    chunk = toy.chunk()
    chunk["next", "terminated"] = torch.arange(16)[None, :, None] < 8
    # A time-out in the data must not reach the losses.
    chunk["next", "truncated"] = torch.ones(1, 16, 1, dtype=torch.bool)
    chunk["next", "done"] = torch.ones(1, 16, 1, dtype=torch.bool)
    (batch,) = batches(chunk)
    assert isinstance(batch, Batch)
    value = module.critic.v(batch.next_observation)
    target = torch.cat([batch.reward[:8], batch.reward[8:] + 0.99 * value[8:]])
    q = module.critic.q(batch.observation, batch.action)
    losses = module.losses(batch)
    torch.testing.assert_close(losses.terms["q"], 0.5 * (q - target).square().mean(-1).sum())
    torch.testing.assert_close(losses.diagnostics["td_target"], target.mean())


def test_a_chunk_is_cut_into_batches_in_order(toy: Any) -> None:
    chunk = toy.chunk(updates=3)
    found = list(batches(chunk))
    assert len(found) == 3
    for k, batch in enumerate(found):
        assert torch.equal(batch.observation, chunk[k]["observation"])
        assert torch.equal(batch.reward, chunk[k]["next", "reward"][:, 0])
        assert torch.equal(batch.terminated, chunk[k]["next", "terminated"][:, 0])
        assert batch.terminated.dtype == torch.bool


def test_only_the_actors_learning_rate_decays_along_a_cosine(toy: Any) -> None:
    rates: list[list[float]] = []

    def note(trainer: Any, module: Any) -> None:
        rates.append([group["lr"] for group in trainer.optimizers[0].param_groups])

    toy.fit(toy.algorithm("IQL"), 10, callbacks=[toy.Boundary(1, note)])
    for step, (q, v, actor) in enumerate(rates, start=1):
        assert q == v == 3e-4
        assert actor == pytest.approx(3e-4 * 0.5 * (1 + math.cos(math.pi * step / 10)))
    assert rates[-1][2] == pytest.approx(0.0, abs=1e-12)


@pytest.mark.parametrize("name", ["IQL", "PEX"])
def test_without_decay_and_online_the_rate_is_constant(name: str, toy: Any) -> None:
    settings = {"cosine_decay": False} if name == "IQL" else {}
    trainer = toy.fit(toy.algorithm(name, **settings), 10)
    assert [group["lr"] for group in trainer.optimizers[0].param_groups] == [3e-4] * 3


def test_decay_needs_a_number_of_steps(toy: Any) -> None:
    with pytest.raises(UserError, match=r"max_steps is -1"):
        toy.fit(toy.algorithm("IQL"), -1, max_epochs=1)


def states(trainer: Any) -> list[torch.Tensor]:
    """Everything that training changes."""
    module, (optimizer,) = trainer.lightning_module, trainer.optimizers
    found = [value.clone() for value in module.state_dict().values()]
    for state in optimizer.state_dict()["state"].values():
        found += [state["step"], state["exp_avg"], state["exp_avg_sq"]]
    found += [torch.tensor(group["lr"]) for group in optimizer.param_groups]
    return [*found, *module.diagnostics.values()]


@pytest.mark.parametrize(("stop", "boundary"), [(30, None), (32, None), (28, 7), (3, 7)], ids=str)
def test_resumed_training_is_bit_for_bit_the_uninterrupted_one(
    stop: int, boundary: int | None, toy: Any
) -> None:
    common = [toy.Boundary(boundary)] if boundary else []
    whole = toy.fit(toy.algorithm("IQL"), 60, callbacks=common)
    first = toy.fit(toy.algorithm("IQL"), 60, callbacks=[*common, toy.StopAt(stop)])
    assert stop <= first.global_step < stop + 5
    path = toy.folder / "half.ckpt"
    first.save_checkpoint(path)
    assert read_checkpoint(path).header.gradient_steps == first.global_step
    torch.manual_seed(12345)
    # Other initial weights and another generator state: all must come from the checkpoint.
    second = toy.fit(toy.algorithm("IQL"), 60, callbacks=common, resume=path)
    assert second.global_step == whole.global_step == 60
    pairs = zip(states(whole), states(second), strict=True)
    assert all(torch.equal(ours, theirs) for ours, theirs in pairs)


def test_the_random_state_goes_on_where_it_was(toy: Any) -> None:
    drawn: dict[str, list[float]] = {"whole": [], "parts": []}

    def draw(run: str) -> Any:
        return toy.Boundary(5, lambda *_: drawn[run].append(torch.rand(()).item()))

    toy.fit(toy.algorithm("IQL"), 20, callbacks=[draw("whole")])
    first = toy.fit(toy.algorithm("IQL"), 20, callbacks=[draw("parts"), toy.StopAt(10)])
    first.save_checkpoint(toy.folder / "half.ckpt")
    toy.fit(toy.algorithm("IQL"), 20, callbacks=[draw("parts")], resume=toy.folder / "half.ckpt")
    assert drawn["whole"] == drawn["parts"]
    assert len(set(drawn["whole"])) == 4
