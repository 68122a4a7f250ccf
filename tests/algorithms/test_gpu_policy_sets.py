"""Large policy sets where there is a GPU; skipped where there is none."""

from __future__ import annotations

from typing import Any

import pytest
import torch

import old_policies
from pex_lightning.algorithms import PEX

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("compile_update", [False, True])
def test_a_set_of_several_sizes_grows_on_the_gpu(compile_update: bool, toy: Any) -> None:
    old_policies.write_torchscript(toy.folder / "script.pt")
    other = toy.algorithm("OnlineIQL", hidden_dims=[6])
    toy.fit(other, 5)
    other.trainer.save_checkpoint(toy.folder / "old.ckpt")
    members = [str(toy.folder / "old.ckpt"), {"path": str(toy.offline_path), "name": "again"}]
    if not compile_update:
        members.append(str(toy.folder / "script.pt"))
    module = toy.algorithm(
        "PEX",
        members=members,
        grow_at=[5, 10],
        admission_steps=3,
        target_entropy=0.5,
        compile_update=compile_update,
    )
    trainer = toy.trainer(20, accelerator="gpu", devices=1)
    trainer.fit(module, datamodule=toy.data_for(module))
    assert module.compiles == compile_update
    assert module.growth.steps.tolist() == [5, 10]
    assert module.policies.filled.all()
    assert all(torch.isfinite(p).all() for p in module.parameters())
    states = torch.randn(4, 3)
    expected = [
        member.mode(states) for member in [*module.policies.frozen, module.policies.learner]
    ]
    torch.testing.assert_close(module.policies.modes(states), torch.stack(expected))


def test_a_choice_on_the_gpu_is_the_choice_on_the_cpu(toy: Any) -> None:
    module = PEX(
        members=["old_policies:controller", {"path": "old_policies:controller", "name": "b"}],
        offline_member=False,
        critic_start="fresh",
        grow_at=[5],
        hidden_dims=[8, 8],
    )
    module.attach(toy.description())
    states = torch.randn(50, 3)
    probs = []
    for device in ("cpu", "cuda"):
        module.to(device)
        candidates = module.policies.modes(states.to(device))
        values = module.composite.values(states.to(device), candidates)
        probs.append(module.admission.probs(values, module.policies.filled).detach().cpu())
    torch.testing.assert_close(*probs, rtol=1e-3, atol=1e-4)
    assert (probs[0][:, 2] == 0).all()
