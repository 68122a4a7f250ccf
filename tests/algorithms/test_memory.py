"""What a policy remembers within an episode, from the collector to the compiled update."""

from pathlib import Path
from typing import Any

import pytest
import torch

from own_methods import Clock, Clocked
from pex_lightning.evaluation.rollouts import Evaluator
from pex_lightning.policies.acting import SinglePolicy
from pex_lightning.updates.compilation.compiler import Compiler, has_compiler
from pex_lightning.updates.compiled_policy import CompiledPolicy

needs_compiler = pytest.mark.skipif(not has_compiler(), reason="needs a C++ compiler (g++)")


def steps(rows: Any) -> list[int]:
    """The steps that the environment says rows were collected at."""
    return (rows["observation"][:, 0] * 10).round().int().tolist()


def remembered(rows: Any) -> list[int]:
    """The steps that the policy remembered when it acted."""
    return (100 * rows["choice_probs"][:, 0]).round().int().tolist()


@pytest.mark.parametrize(
    "collectors", [0, pytest.param(2, marks=pytest.mark.slow)], ids=["here", "processes"]
)
def test_memory_counts_the_steps_of_every_episode(toy: Any, collectors: int) -> None:
    data = toy.online_data(num_collectors=collectors, start_steps=12)
    toy.fit(Clocked(hidden_dims=[8, 8]), 10, data=data)
    rows = data._online[:]
    assert len(set(steps(rows))) == toy.time_limit
    assert remembered(rows) == steps(rows)


def test_memory_begins_anew_after_a_resume(toy: Any) -> None:
    from pex_lightning.callbacks.checkpoint import RunCheckpoint
    from pex_lightning.callbacks.evaluation import Evaluation

    checkpoint = RunCheckpoint(toy.folder, 1, Evaluation(1, 10**6, seed=0, num_envs=1))
    data = toy.online_data(start_steps=12, chunk_size=1)
    toy.fit(Clocked(hidden_dims=[8, 8]), 1, data=data, callbacks=[checkpoint])
    more = toy.online_data(start_steps=12, chunk_size=1)
    toy.fit(Clocked(hidden_dims=[8, 8]), 10, data=more, resume=checkpoint.last)
    rows = more._online[:]
    assert len(rows) == 22
    assert remembered(rows) == steps(rows)


@pytest.mark.long
@needs_compiler
@pytest.mark.slow
def test_a_compiled_run_remembers_too(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(toy.folder))
    data = toy.online_data(start_steps=12)
    module = Clocked(hidden_dims=[8, 8], compile_update=True)
    toy.fit(module, 15, data=data)
    rows = data._online[:]
    assert remembered(rows) == steps(rows)


@pytest.mark.long
@needs_compiler
@pytest.mark.slow
def test_a_compiled_policy_gives_the_same_memory(toy: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(toy.folder))
    module = Clocked(hidden_dims=[8, 8])
    module.attach(toy.description())
    plain = Clock(SinglePolicy(module.policy))
    compiled, observation = CompiledPolicy(plain), torch.randn(1, 3)
    compiler = Compiler()
    compiled.use(compiled.begin(compiler, observation).finish())
    compiler.close()
    for memory in (torch.zeros(1, 2), torch.tensor([[3.0, 6.0]])):
        torch.manual_seed(0)
        expected = plain.act(observation, memory)
        torch.manual_seed(0)
        for found, wanted in zip(compiled.act(observation, memory), expected, strict=True):
            torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize("num_workers", [1, 2])
def test_evaluation_keeps_a_memory_for_each_environment(toy: Any, num_workers: int) -> None:
    seen: list[torch.Tensor] = []

    class Watched(Clock):
        def evaluation_action(self, observation: Any, memory: Any) -> Any:
            seen.append(torch.stack([observation[:, 0] * 10, memory[:, 0]], -1))
            return super().evaluation_action(observation, memory)

    module = Clocked(hidden_dims=[8, 8])
    module.attach(toy.description())
    # Seven episodes in three environments: some begin while others are under way.
    with Evaluator(toy.env, episodes=7, num_envs=3, num_workers=num_workers) as evaluator:
        evaluator.run(Watched(SinglePolicy(module.policy)))
    environment, memory = torch.cat(seen).T
    assert len(memory) == 7 * toy.time_limit
    torch.testing.assert_close(memory, environment)


@pytest.mark.long
@pytest.mark.slow
def test_every_process_of_a_distributed_run_remembers_for_itself(
    toy: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import subprocess
    import sys

    script = tmp_path / "train.py"
    script.write_text(
        "import sys, torch\n"
        f"sys.path[:0] = [{str(Path(__file__).parents[1])!r}]\n"
        "import gymnasium\n"
        "from conftest import ENV, TIME_LIMIT, TinyEnv, Toy\n"
        "from own_methods import Clocked\n"
        "from pathlib import Path\n"
        "gymnasium.register(ENV, entry_point=TinyEnv, max_episode_steps=TIME_LIMIT)\n"
        f"toy = Toy(Path({str(tmp_path)!r}), Path({str(toy.dataset)!r}), None)\n"
        "data = toy.online_data(start_steps=20)\n"
        "trainer = toy.fit(Clocked(hidden_dims=[8, 8]), 10, data=data, devices=2, "
        'strategy="ddp")\n'
        "torch.save(data._online[:].to_dict(), "
        f"Path({str(tmp_path)!r}) / f'rank-{{trainer.global_rank}}.pt')\n"
    )
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    subprocess.run([sys.executable, script], check=True, timeout=300, capture_output=True)
    for rank in (0, 1):
        rows = torch.load(tmp_path / f"rank-{rank}.pt", weights_only=True)
        assert len(rows["observation"]) == 15
        assert remembered(rows) == steps(rows)
