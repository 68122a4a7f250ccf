"""Adam on flat tensors is torch's Adam."""

from typing import Any

import pytest
import torch

from pex_lightning.updates.flat_adam import FlatGroup


def network() -> torch.nn.Module:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.Linear(4, 2))


@pytest.mark.parametrize("started", [0, 3])
def test_it_takes_the_steps_of_torchs_adam(started: int) -> None:
    modules = network(), network()
    plain, flat = (torch.optim.Adam(module.parameters(), lr=0.1) for module in modules)
    gradients = [[torch.randn_like(p) for p in modules[0].parameters()] for _ in range(started + 5)]
    for optimizer, module in ((plain, modules[0]), (flat, modules[1])):
        for given in gradients[:started]:
            apply(optimizer, module, given)
    names = {id(parameter): name for name, parameter in modules[1].named_parameters()}
    group = FlatGroup.of(flat.param_groups[0], flat, names)
    assert list(group.views()) == ["0.weight", "0.bias", "1.weight", "1.bias"]
    for number, given in enumerate(gradients[started:]):
        for optimizer in (plain, flat):
            optimizer.param_groups[0]["lr"] = 0.1 / (1 + number)
        apply(plain, modules[0], given)
        group.follow_learning_rate()
        group.step(torch.cat([gradient.flatten() for gradient in given]))
    assert_same(modules[0].state_dict(), modules[1].state_dict())
    for mine, theirs in zip(flat.state.values(), plain.state.values(), strict=True):
        assert_same(mine, theirs)
    # What the optimizer holds are views: it goes on from there.
    apply(plain, modules[0], gradients[0])
    apply(flat, modules[1], gradients[0])
    assert_same(modules[0].state_dict(), modules[1].state_dict())


def apply(optimizer: torch.optim.Adam, module: Any, gradients: list[torch.Tensor]) -> None:
    for parameter, gradient in zip(module.parameters(), gradients, strict=True):
        parameter.grad = gradient.clone()
    optimizer.step()


def assert_same(mine: Any, theirs: Any) -> None:
    assert mine.keys() == theirs.keys()
    for key, value in theirs.items():
        torch.testing.assert_close(mine[key], value, rtol=1e-5, atol=1e-7, msg=str(key))
