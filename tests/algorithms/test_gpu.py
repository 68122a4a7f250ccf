"""What must hold where there is a GPU; skipped where there is none."""

from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer
from torch import Tensor

from pex_lightning.algorithms import ALGORITHMS, load_algorithm
from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.batch import Batch, batches

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    pytest.mark.parametrize("name", list(ALGORITHMS)),
]


class OnDevice(Callback):
    """Notes where parameters are while they are learnt; afterwards they are on the CPU again."""

    def __init__(self) -> None:
        self.found: set[str] = set()

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.found |= {parameter.device.type for parameter in pl_module.parameters()}


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_trains_on_the_gpu_and_is_read_back_on_the_cpu(
    name: str, precision: str, toy: Any, tmp_path: Any
) -> None:
    module, device = toy.algorithm(name), OnDevice()
    settings = {"accelerator": "gpu", "devices": 1, "precision": precision}
    trainer = toy.trainer(20, callbacks=[device], **settings)
    trainer.fit(module, datamodule=toy.data_for(module))
    assert trainer.global_step == 20
    assert device.found == {"cuda"}
    assert all(torch.isfinite(p).all() for p in module.parameters())
    trainer.save_checkpoint(tmp_path / "gpu.ckpt")
    again = load_algorithm(read_checkpoint(tmp_path / "gpu.ckpt"))
    state = again.state_dict()
    assert all(torch.equal(state[k], v.cpu()) for k, v in module.state_dict().items())


@pytest.fixture
def one_stream(monkeypatch: pytest.MonkeyPatch) -> None:
    """Random numbers come from the CPU on every device."""

    def drawn(draw: Any) -> Any:
        def on_cpu(*size: Any, device: Any = None, **kwargs: Any) -> Tensor:
            return draw(*size, **kwargs).to(device or "cpu")

        return on_cpu

    rand, randn = torch.rand, torch.randn
    monkeypatch.setattr(torch, "rand", drawn(rand))
    monkeypatch.setattr(torch, "rand_like", lambda x: rand(x.shape).to(x.device))
    monkeypatch.setattr(torch, "randn_like", lambda x: randn(x.shape).to(x.device))


@pytest.mark.usefixtures("one_stream")
def test_a_step_on_the_gpu_is_the_step_on_the_cpu(name: str, toy: Any) -> None:
    losses = []
    for device in ("cpu", "cuda"):
        torch.manual_seed(0)
        module = toy.algorithm(name)
        module.attach(toy.description())
        (batch,) = batches(toy.chunk())
        module.to(device)
        torch.manual_seed(1)
        terms = module.losses(type(batch)(*(column.to(device) for column in batch))).terms
        losses.append({key: term.item() for key, term in terms.items()})
    assert losses[1] == pytest.approx(losses[0], rel=1e-3, abs=1e-5)


def draws(module: Any, batch: Batch) -> bool:
    """Whether the losses use random numbers."""
    before = torch.get_rng_state()
    module.losses(batch)
    return not torch.equal(before, torch.get_rng_state())


def test_recorded_updates_on_the_gpu_are_the_plain_ones(name: str, toy: Any) -> None:
    ended = []
    for compile_update in (False, True):
        torch.manual_seed(9)
        module = toy.algorithm(name, compile_update=compile_update)
        trainer = toy.trainer(20, accelerator="gpu", devices=1)
        trainer.fit(module, datamodule=toy.data_for(module))
        assert trainer.global_step == 20
        assert module.compiles == compile_update
        ended.append({key: value.cpu() for key, value in module.state_dict().items()})
    module = toy.algorithm(name)
    module.attach(toy.description())
    if not draws(module, next(batches(toy.chunk()))):
        # Random numbers come from the graph's own stream.
        for key, plain in ended[0].items():
            torch.testing.assert_close(ended[1][key], plain, rtol=1e-3, atol=1e-4, msg=key)
