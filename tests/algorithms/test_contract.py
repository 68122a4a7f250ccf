"""What holds for every algorithm; one joins by its entry in `ALGORITHMS`."""

import copy
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from pex_lightning.algorithms import ALGORITHMS, load_algorithm
from pex_lightning.algorithms.checks import default_hyper_parameters
from pex_lightning.datasets.d4rl_reader import read_d4rl
from pex_lightning.errors import UserError
from pex_lightning.handover import read_checkpoint
from pex_lightning.updates.batch import batches

pytestmark = pytest.mark.parametrize("name", list(ALGORITHMS))

STATES = torch.randn(50, 3, generator=torch.Generator().manual_seed(0))
CONTINUED = {
    "PEX": ("q", "v"),
    "Direct": ("q", "v", "actor"),
    "OnlineAWAC": ("q", "actor"),
    "BT": ("q", "v"),
    "WSRL": ("q", "actor", "temperature"),
    "OnlineCalQL": ("q", "actor", "temperature", "v"),
}
HOST_READS = {"aten::_local_scalar_dense", "aten::nonzero", "aten::is_nonzero", "aten::equal"}


def parameters(module: torch.nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, second[name]) for name, value in first.items())


class NoHostReads(TorchDispatchMode):
    """Fails where a tensor's value is asked for on the host."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        assert func.name().partition(".")[0] not in HOST_READS, f"{func} waits for the device"
        return func(*args, **(kwargs or {}))


class Watch(Callback):
    """Records steps, diagnostics and gradients of every chunk."""

    def __init__(self) -> None:
        self.steps: list[int] = []
        self.sizes: list[int] = []
        self.diagnostics: list[dict[str, float]] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.steps.append(trainer.global_step)
        self.sizes.append(batch.shape[0])
        self.diagnostics.append({k: float(v) for k, v in pl_module.diagnostics.items()})


def test_a_chunk_of_k_batches_is_k_global_steps(name: str, toy: Any) -> None:
    watch = Watch()
    trainer = toy.fit(toy.algorithm(name), 13, callbacks=[watch])
    assert watch.sizes == [5, 5, 3]
    assert watch.steps == [5, 10, 13]
    assert trainer.global_step == 13
    (optimizer,) = trainer.optimizers
    # Some groups go on with the moments of the offline stage, which has done 20 updates.
    for group in optimizer.param_groups:
        counts = {int(optimizer.state[parameter]["step"]) for parameter in group["params"]}
        before = 20 if group["name"] in CONTINUED.get(name, ()) else 0
        assert counts == {before + 13}, group["name"]


def test_every_trainable_parameter_is_in_one_named_group(name: str, toy: Any) -> None:
    module = toy.algorithm(name)
    trainer = toy.fit(module, 5)
    (optimizer,) = trainer.optimizers
    groups = {group["name"]: group["params"] for group in optimizer.param_groups}
    assert list(groups) == list(module.groups())
    grouped = [id(parameter) for group in groups.values() for parameter in group]
    trainable = [id(parameter) for parameter in module.parameters() if parameter.requires_grad]
    assert len(grouped) == len(set(grouped))
    assert sorted(grouped) == sorted(trainable)
    for key, found in module.groups().items():
        assert [id(p) for p in groups[key]] == [id(p) for p in found], key
        rate = module.learning_rate * module.learning_rate_factors(5).get(key, 1.0)
        assert optimizer.param_groups[list(groups).index(key)]["lr"] == rate


def test_the_critic_lies_at_its_prefix(name: str, toy: Any) -> None:
    module = toy.algorithm(name)
    module.attach(toy.description())
    found = {key for key in module.state_dict() if key.startswith("critic.")}
    assert found == {f"critic.{key}" for key in module.critic.state_dict()}
    with_v = {"v_net"} if "v" in module.groups() else set()
    assert {key.split(".")[1] for key in found} == {"q_net", "target_q_net"} | with_v


def test_nothing_is_in_the_state_dict_twice(name: str, toy: Any) -> None:
    module = toy.algorithm(name)
    toy.fit(module, 5)
    held = [value.data_ptr() for value in module.state_dict().values()]
    assert len(held) == len(set(held))


def test_each_term_sends_gradient_to_its_own_group_alone(name: str, toy: Any) -> None:
    module = toy.algorithm(name)
    module.attach(toy.description())
    (batch,) = batches(toy.chunk())
    groups = {key: {id(p) for p in found} for key, found in module.groups().items()}
    assert list(module.losses(batch).terms) == list(groups)
    for term, own in groups.items():
        module.zero_grad()
        module.losses(batch).terms[term].backward()
        for key, parameter in module.named_parameters():
            if id(parameter) in own:
                assert parameter.grad is not None, key
                assert parameter.grad.abs().sum() > 0, key
            else:
                assert parameter.grad is None or parameter.grad.abs().sum() == 0, (term, key)


def test_losses_and_diagnostics_are_finite_scalars(name: str, toy: Any) -> None:
    watch, module = Watch(), toy.algorithm(name)
    toy.fit(module, 30, callbacks=[watch])
    assert len(watch.diagnostics) == 6
    losses = {"q_loss", "policy_loss"} | ({"v_loss"} if "v" in module.groups() else set())
    for diagnostics in watch.diagnostics:
        assert losses <= set(diagnostics)
        assert all(math.isfinite(value) for value in diagnostics.values()), diagnostics


def test_every_network_learns(name: str, toy: Any) -> None:
    module = toy.algorithm(name, tau=0.1)
    before: dict[str, Tensor] = {}

    class Start(Callback):
        def on_train_start(self, trainer: Any, pl_module: Any) -> None:
            before.update(parameters(pl_module))

    toy.fit(module, 5, callbacks=[Start()])
    after = parameters(module)
    frozen = [key for key, value in module.named_parameters() if not value.requires_grad]
    for key in dict(module.named_parameters()):
        learns = key not in frozen or key.startswith("critic.target_q_net.")
        assert torch.equal(before[key], after[key]) != learns, key


def test_the_same_seed_gives_the_same_parameters(name: str, toy: Any) -> None:
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(99)
        module = toy.algorithm(name)
        toy.fit(module, 15, seed=seed)
        results.append(parameters(module))
    assert same(results[0], results[1])
    assert not same(results[0], results[2])


def test_an_update_reads_the_networks_as_they_were_before_it(name: str, toy: Any) -> None:
    """One joint backward is the same update as three of their own."""
    module = toy.algorithm(name)
    module.attach(toy.description())
    twin = copy.deepcopy(module)
    (batch,) = batches(toy.chunk())
    torch.manual_seed(1)
    module.losses(batch).total.backward()
    torch.manual_seed(1)
    for term in twin.losses(batch).terms.values():
        term.backward()
    for ours, theirs in zip(module.parameters(), twin.parameters(), strict=True):
        assert (ours.grad is None) == (theirs.grad is None)
        if ours.grad is not None:
            torch.testing.assert_close(ours.grad, theirs.grad)


def test_a_loaded_checkpoint_acts_the_same(name: str, toy: Any) -> None:
    module = toy.algorithm(name)
    trainer = toy.fit(module, 15)
    path = toy.folder / "a.ckpt"
    trainer.save_checkpoint(path)
    loaded = load_algorithm(read_checkpoint(path))
    assert type(loaded) is type(module)
    assert same(parameters(module), parameters(loaded))
    for method in ("act", "evaluation_action"):
        actions = []
        for policy in (module.acting_policy(), loaded.acting_policy()):
            torch.manual_seed(5)
            found = getattr(policy, method)(STATES, policy.initial_memory(STATES))
            actions.append(found[0])
        assert torch.equal(*actions)


def test_a_checkpoint_holds_primitives_and_tensors_only(name: str, toy: Any) -> None:
    module = toy.algorithm(name, gamma=0.99, tau=0.25)
    trainer = toy.fit(module, 15)
    path = toy.folder / "a.ckpt"
    trainer.save_checkpoint(path)
    raw = torch.load(path, weights_only=True)
    assert raw["hyper_parameters"]["gamma"] == 0.99
    assert raw["hyper_parameters"]["tau"] == 0.25
    assert raw["hyper_parameters"]["hidden_dims"] == [8, 8]
    allowed = (bool, int, float, str, type(None))
    for key, value in raw["hyper_parameters"].items():
        items = value if isinstance(value, list) else [value]
        assert all(type(item) in allowed for item in items), key
    type(module)(**raw["hyper_parameters"])
    header = read_checkpoint(path).header
    assert (header.algorithm, header.gradient_steps) == (name, 15)
    assert header.data == trainer.datamodule.describe()
    assert header.env_steps == trainer.datamodule.env_steps
    assert header.stage == ("online" if module.acts else "offline")
    assert header.members == module.acting_policy().members
    with_v = {"v"} if "v" in module.groups() else set()
    others = with_v | {"temperature"} & module.groups().keys()
    assert set(header.parts) == {"q", "target", "policy", "moments"} | others
    learnt = {id(p) for p in module.groups()["actor"]}
    policy = header.parts["policy"]
    assert {id(p) for k, p in module.named_parameters() if k.startswith(policy)} == learnt


def test_bf16_mixed_trains_with_finite_float32_parameters(name: str, toy: Any) -> None:
    module, watch = toy.algorithm(name), Watch()
    toy.fit(module, 15, callbacks=[watch], precision="bf16-mixed")
    full = toy.algorithm(name)
    toy.fit(full, 15)
    assert not same(parameters(module), parameters(full))
    for key, value in parameters(module).items():
        assert value.dtype == torch.float32 or not value.is_floating_point(), key
        assert torch.isfinite(value).all(), key
    assert all(math.isfinite(v) for row in watch.diagnostics for v in row.values())


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "16-true"])
def test_another_precision_is_refused_before_anything_is_built(
    name: str, precision: str, toy: Any
) -> None:
    module = toy.algorithm(name)
    with pytest.raises(UserError, match=rf"--trainer\.precision is {precision};.*32-true, bf16"):
        toy.fit(module, 5, precision=precision)
    assert not hasattr(module, "critic")


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_clipping_bounds_the_gradient_of_all_networks_together(
    name: str, algorithm: str, toy: Any
) -> None:
    norms, largest = [], []

    class Look(Callback):
        def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
            gradients = [p.grad for g in optimizer.param_groups for p in g["params"]]
            norms.append(torch.stack([g.norm() for g in gradients]).norm().item())
            largest.append(max(g.abs().max().item() for g in gradients))

    for limit in (None, 0.01):
        module = toy.algorithm(name, gradient_clip_val=limit, gradient_clip_algorithm=algorithm)
        toy.fit(module, 5, callbacks=[Look()])
    bounded = norms if algorithm == "norm" else largest
    assert min(bounded[:5]) > 0.02
    assert bounded[5:] == pytest.approx([0.01] * 5, rel=1e-3)
    if algorithm == "value":
        assert min(norms[5:]) > 0.011


def test_an_update_never_waits_for_the_device(
    name: str, toy: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    module = toy.algorithm(name, gradient_clip_val=1.0)
    step, ran = module.training_step, []

    def watched(chunk: Any, batch_idx: int) -> None:
        def refuse(self: Tensor, *args: Any) -> Any:
            raise AssertionError("a tensor was read on the host")

        with monkeypatch.context() as patch, NoHostReads():
            for method in ("item", "tolist", "__float__", "__int__", "__bool__", "numpy", "cpu"):
                patch.setattr(Tensor, method, refuse)
            ran.append(step(chunk, batch_idx))

    monkeypatch.setattr(module, "training_step", watched)
    toy.fit(module, 10)
    assert len(ran) == 2


def test_a_data_module_of_another_kind_is_refused(name: str, toy: Any) -> None:
    from pytorch_lightning.demos.boring_classes import BoringDataModule

    with pytest.raises(UserError, match=r"OfflineData.*BoringDataModule"):
        toy.fit(toy.algorithm(name), 5, data=BoringDataModule())


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("expectile", 1.0),
        ("beta", -1.0),
        ("gamma", 1.1),
        ("tau", 0.0),
        ("learning_rate", 0.0),
        ("num_q", 0),
        ("hidden_dims", [8, 0]),
        ("gradient_clip_val", 0.0),
    ],
)
def test_a_value_outside_of_its_range_names_its_flag(name: str, key: str, value: object) -> None:
    if key not in default_hyper_parameters(ALGORITHMS[name]):
        pytest.skip(f"{name} has no {key}")
    with pytest.raises(UserError, match=rf"--model\.{key} is "):
        ALGORITHMS[name](**{key: value})


def test_the_dataset_does_not_change_while_training(name: str, toy: Any) -> None:
    module = toy.algorithm(name)
    data = toy.data_for(module)
    toy.fit(module, 10, data=data)
    again = read_d4rl(Path(toy.dataset), spec=toy.description().env).transitions
    assert torch.equal(data._offline[:]["observation"], again.rows["observation"])
    assert torch.equal(data._offline[:]["next", "reward"], again.rows["next", "reward"] - 1.0)
