"""The compiled update is the plain one, faster; every promise of the plain one holds for it."""

import logging
from typing import Any

import pytest
import torch
from pytorch_lightning import Callback, Trainer

from pex_lightning.algorithms import ALGORITHMS
from pex_lightning.errors import UserError
from pex_lightning.updates.batch import Batch, batches
from pex_lightning.updates.clipping import Clipping
from pex_lightning.updates.compilation.compiler import CompilationError, Compiler, has_compiler
from pex_lightning.updates.compilation.source import Layout
from pex_lightning.updates.compiled import CompiledUpdate
from pex_lightning.updates.compiled_policy import CompiledPolicy

# Compiling takes long: the usual run has one method.
NAMES = [
    name if name == "PEX" else pytest.param(name, marks=pytest.mark.long) for name in ALGORITHMS
]
needs_compiler = pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler (g++)")


@pytest.fixture(scope="module", autouse=True)
def _cache(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Graphs are compiled once for all of these tests, and are not left behind."""
    patch = pytest.MonkeyPatch()
    patch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path_factory.mktemp("inductor")))
    yield
    patch.undo()


def state(module: torch.nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.detach().clone() for name, value in module.state_dict().items()}


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        *(
            (name, {}) if name == "PEX" else pytest.param(name, {}, marks=pytest.mark.long)
            for name in ALGORITHMS
        ),
        pytest.param("PEX", {"actor_every": 3}, marks=pytest.mark.long),
        pytest.param("PEX", {"admission": "evidence", "imitates": "both"}, marks=pytest.mark.long),
        pytest.param("RLPD", {"actor_every": 3}, marks=pytest.mark.long),
    ],
)
def test_a_run_is_the_plain_run_up_to_rounding(name: str, settings: Any, toy: Any) -> None:
    ended, optimizers = [], []
    for compile_update in (False, True):
        torch.manual_seed(9)
        module = toy.algorithm(name, compile_update=compile_update, **settings)
        trainer = toy.fit(module, 13)
        assert trainer.global_step == 13
        assert module.compiles == compile_update
        ended.append(state(module) | dict(module.diagnostics))
        optimizers.append(trainer.optimizers[0].state_dict())
    assert ended[0].keys() == ended[1].keys()
    for key, plain in ended[0].items():
        torch.testing.assert_close(ended[1][key], plain, rtol=1e-4, atol=1e-5, msg=key)
    assert optimizers[0]["param_groups"] == optimizers[1]["param_groups"]
    for index, plain in optimizers[0]["state"].items():
        for key, value in plain.items():
            found = optimizers[1]["state"][index][key]
            torch.testing.assert_close(found, value, rtol=1e-3, atol=1e-6, msg=key)


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_the_same_seed_gives_the_same_parameters(name: str, toy: Any) -> None:
    results = []
    for seed in (3, 3, 4):
        torch.manual_seed(99)
        module = toy.algorithm(name, compile_update=True)
        toy.fit(module, 10, seed=seed)
        results.append(state(module))
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())
    assert any(not torch.equal(value, results[2][key]) for key, value in results[0].items())


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("compile_update", [True, False])
def test_offline_training_resumes_bit_for_bit(compile_update: bool, toy: Any) -> None:
    torch.manual_seed(1)
    whole = toy.algorithm("IQL", compile_update=compile_update)
    toy.fit(whole, 20)
    torch.manual_seed(1)
    first = toy.algorithm("IQL", compile_update=compile_update)
    trainer = toy.fit(first, 20, callbacks=[toy.StopAt(10)])
    assert trainer.global_step == 10
    path = toy.folder / "half.ckpt"
    trainer.save_checkpoint(path)
    second = toy.algorithm("IQL", compile_update=compile_update)
    toy.fit(second, 20, resume=path)
    assert all(torch.equal(value, state(second)[key]) for key, value in state(whole).items())


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("first", [True, False])
def test_a_run_goes_on_compiled_or_plain_as_it_likes(first: bool, toy: Any) -> None:
    module = toy.algorithm("IQL", compile_update=first)
    trainer = toy.fit(module, 20, callbacks=[toy.StopAt(10)])
    path = toy.folder / "half.ckpt"
    trainer.save_checkpoint(path)
    other = toy.algorithm("IQL", compile_update=not first)
    assert toy.fit(other, 20, resume=path).global_step == 20
    same = toy.algorithm("IQL", compile_update=first)
    toy.fit(same, 20, resume=path)
    for key, value in state(same).items():
        torch.testing.assert_close(state(other)[key], value, rtol=1e-4, atol=1e-5, msg=key)


def compiled(module: Any, batch: Batch, **settings: Any) -> CompiledUpdate:
    """Ready to be called."""
    compiler = Compiler()
    try:
        update = CompiledUpdate(module, module.configure_optimizers(), batch, compiler, **settings)
        update.finish()
    finally:
        compiler.close()
    return update


@pytest.fixture
def worth_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs of 20 updates are compiled, from the tenth on."""
    monkeypatch.setattr("pex_lightning.updates.executor.WORTH_COMPILING", 20)
    monkeypatch.setattr("pex_lightning.updates.executor.PLAIN_UPDATES", 10)


class WhoUpdates(Callback):
    """Notes after how many updates an update was compiled."""

    def __init__(self) -> None:
        self.compiled: dict[int, bool] = {}

    def on_train_batch_end(self, trainer: Trainer, pl_module: Any, *args: Any) -> None:
        self.compiled[trainer.global_step] = pl_module._executor._update.ready


@needs_compiler
@pytest.mark.slow
@pytest.mark.parametrize("stop", [5, 10, 15])
def test_the_first_updates_are_plain_and_a_run_resumes_bit_for_bit(
    stop: int, toy: Any, worth_it: None
) -> None:
    del worth_it
    torch.manual_seed(1)
    whole, notes = toy.algorithm("IQL"), WhoUpdates()
    toy.fit(whole, 20, callbacks=[notes])
    assert notes.compiled == {5: False, 10: False, 15: True, 20: True}
    torch.manual_seed(1)
    first = toy.algorithm("IQL")
    trainer = toy.fit(first, 20, callbacks=[toy.StopAt(stop)])
    assert trainer.global_step == stop
    path = toy.folder / "part.ckpt"
    trainer.save_checkpoint(path)
    second = toy.algorithm("IQL")
    toy.fit(second, 20, resume=path)
    assert all(torch.equal(value, state(second)[key]) for key, value in state(whole).items())


@pytest.mark.long
@needs_compiler
@pytest.mark.slow
def test_a_run_is_the_same_whether_the_update_was_compiled_before_or_not(
    toy: Any, worth_it: None, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    del worth_it
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path))
    results = []
    for compiled_before in (False, True):
        assert bool(list(tmp_path.glob("*.pt2"))) == compiled_before
        torch.manual_seed(1)
        module, notes = toy.algorithm("IQL"), WhoUpdates()
        toy.fit(module, 20, callbacks=[notes])
        assert notes.compiled == {5: False, 10: False, 15: True, 20: True}
        results.append(state(module))
    assert all(torch.equal(value, results[1][key]) for key, value in results[0].items())


@needs_compiler
@pytest.mark.slow
def test_the_policy_that_collects_is_compiled_with_the_update(
    toy: Any, worth_it: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    del worth_it
    acts: list[bool] = []
    act = CompiledPolicy.act

    def noted(self: CompiledPolicy, observation: torch.Tensor, memory: torch.Tensor) -> Any:
        acts.append(self._act is not None and Layout.of(observation) == self._state)
        return act(self, observation, memory)

    monkeypatch.setattr(CompiledPolicy, "act", noted)
    torch.manual_seed(0)
    module = toy.algorithm("PEX", admission_steps=15)
    toy.fit(module, 20)
    # 10 before the first update; the chunks that begin at 0, 5 and 10 are collected before the
    # update is compiled.
    assert acts == [False] * 25 + [True] * 5
    compiled, observation = module.collecting_policy(), torch.randn(1, 3)
    memory = torch.zeros(1, 0)
    compiler = Compiler()
    compiled.use(compiled.begin(compiler, observation).finish())
    compiler.close()
    for admission in (1.0, 0.0, 0.5):
        module.admission.share.fill_(admission)
        for seed in range(5):
            torch.manual_seed(seed)
            found = compiled.act(observation, memory)
            torch.manual_seed(seed)
            expected = module.acting_policy().act(observation, memory)
            torch.testing.assert_close(found.action, expected.action)
            torch.testing.assert_close(found.choice_probs, expected.choice_probs)
            assert torch.equal(found.policy_index, expected.policy_index)
    assert compiled.act(torch.randn(2, 3), torch.zeros(2, 0)).action.shape == (2, 2)


@pytest.mark.long
@needs_compiler
@pytest.mark.slow
def test_processes_that_reduce_gradients_follow_the_plain_update(toy: Any) -> None:
    plain, together = (toy.algorithm("IQL", cosine_decay=False) for _ in range(2))
    for module in (plain, together):
        torch.manual_seed(0)
        module.attach(toy.description())
    optimizer = plain.configure_optimizers()
    chunk = list(batches(toy.chunk(3)))
    # Two processes with the same batch: the sum is twice the gradient.
    update = compiled(
        together,
        chunk[0],
        clipping=Clipping(0.01),
        all_reduce=lambda gradient: gradient.mul_(2.0),
        world_size=2,
    )
    for batch in chunk:
        optimizer.zero_grad()
        plain.losses(batch).total.backward()
        torch.nn.utils.clip_grad_norm_(
            [p for group in optimizer.param_groups for p in group["params"]], 0.01
        )
        optimizer.step()
        plain.after_step()
        update(batch)
    for key, value in state(plain).items():
        torch.testing.assert_close(state(together)[key], value, rtol=1e-4, atol=1e-5, msg=key)


@pytest.mark.parametrize("choice", ["auto", True])
def test_where_compiling_fails_the_user_is_told(
    choice: Any, toy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fails(*args: Any) -> None:
        raise CompilationError("no such thing")

    monkeypatch.setattr(CompiledUpdate, "finish", fails)
    monkeypatch.setattr("pex_lightning.updates.executor.has_compiler", lambda: True)
    monkeypatch.setattr("pex_lightning.updates.executor.PLAIN_UPDATES", 2)
    monkeypatch.setattr("pex_lightning.updates.executor.WORTH_COMPILING", 5)
    monkeypatch.setattr(logging.getLogger("pex_lightning"), "propagate", True)
    module = toy.algorithm("IQL", compile_update=choice)
    if choice is True:
        with pytest.raises(UserError, match="compiling failed: no such thing"):
            toy.fit(module, 5)
        return
    assert toy.fit(module, 10).global_step == 10
    assert not module.compiles
    assert "compiling failed: no such thing" in caplog.text


@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_limited_as_torch_does(algorithm: Any) -> None:
    gradients = [torch.randn(7), 3 * torch.randn(2)]
    holders = [torch.nn.Parameter(torch.zeros_like(gradient)) for gradient in gradients]
    for limit in (0.5, 100.0):
        for holder, gradient in zip(holders, gradients, strict=True):
            holder.grad = gradient.clone()
        if algorithm == "norm":
            torch.nn.utils.clip_grad_norm_(holders, limit)
        else:
            torch.nn.utils.clip_grad_value_(holders, limit)
        found = Clipping(limit, algorithm).clipped(gradients)
        torch.testing.assert_close(found, [holder.grad for holder in holders])
    assert Clipping().clipped(gradients) is gradients


@needs_compiler
@pytest.mark.slow
def test_what_it_was_not_compiled_for_is_refused(toy: Any) -> None:
    module = toy.algorithm("IQL", cosine_decay=False)
    module.attach(toy.description())
    (batch,) = batches(toy.chunk(size=16))
    update = compiled(module, batch)
    update.check(batch)
    for other in (
        Batch(*(column[:8] for column in batch)),
        batch._replace(reward=batch.reward.double()),
        batch._replace(observation=batch.observation.T.contiguous().T),
    ):
        with pytest.raises(UserError, match="compiled for batches of"):
            update.check(other)
    update.check(batch)
    target = next(module.critic.target_q_net.parameters())
    before = target.data
    target.data = before.clone()
    with pytest.raises(UserError, match="replaced during training"):
        update.check(batch)
    target.data = before
    update.check(batch)
    module.load_state_dict(state(module), assign=True)
    with pytest.raises(UserError, match="replaced during training"):
        update.check(batch)


@pytest.mark.long
@needs_compiler
@pytest.mark.slow
def test_bf16_stays_near_float32(toy: Any) -> None:
    ended = []
    for precision in ("32-true", "bf16-mixed"):
        torch.manual_seed(9)
        module = toy.algorithm("IQL", compile_update=True)
        toy.fit(module, 10, precision=precision)
        ended.append(state(module))
    changed = [not torch.equal(value, ended[1][key]) for key, value in ended[0].items()]
    assert any(changed)
    for key, value in ended[0].items():
        assert ended[1][key].dtype == value.dtype
        # Ten updates move a parameter by at most ten learning rates.
        torch.testing.assert_close(ended[1][key], value, rtol=0.0, atol=6e-3, msg=key)


def test_short_runs_are_not_compiled(toy: Any) -> None:
    module = toy.algorithm("IQL")
    toy.fit(module, 5)
    assert module.compile_update == "auto"
    assert not module.compiles


def test_without_a_compiler_the_user_is_told(
    toy: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(toy.folder))
    monkeypatch.delenv("CXX", raising=False)
    with pytest.raises(UserError, match=r"--model\.compile_update true.*no C\+\+ compiler"):
        toy.fit(toy.algorithm("IQL", compile_update=True), 5)
    module = toy.algorithm("IQL", cosine_decay=False)
    monkeypatch.setattr("pex_lightning.updates.executor.WORTH_COMPILING", 5)
    monkeypatch.setattr(logging.getLogger("pex_lightning"), "propagate", True)
    toy.fit(module, 5)
    assert not module.compiles
    assert "not compiled" in caplog.text
    assert "no C++ compiler" in caplog.text
