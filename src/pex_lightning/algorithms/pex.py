"""Policy Expansion (PEX, arXiv 2302.00935)."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence

import torch
from tensordict import TensorDictBase
from torch import Tensor

from pex_lightning.algorithms.checks import check_range
from pex_lightning.algorithms.iql import IQL
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError
from pex_lightning.handover import Checkpoint, check_hand_over
from pex_lightning.nn.gaussian import GaussianPolicy
from pex_lightning.policies.policy_set import CompositePolicy, PolicySet
from pex_lightning.updates.batch import Batch
from pex_lightning.updates.compiled import ClipAlgorithm, CompileChoice

_log = logging.getLogger(__name__)


class PEX(IQL):
    """Keeps the offline policy π_β frozen and learns a new one, π_θ, beside it.

    At every step both propose an action, clipped to the action space, and
    P(i|s) = softmax_i(inv_temperature · min_k Q_k(s, a_i)) chooses (PEX, eq. 5). Q and V go on
    with IQL's losses from where the offline stage left them. π_θ is fitted to what the composite
    policy would do now: ã ~ composite(s), L_π with a = ã and u = min Q̄(s, ã) − V(s) (eq. 7).

    A fresh π_θ proposes actions that an offline critic has never seen and often overrates, so that
    the composite policy can fall far below π_β before online data correct it. With
    ``admission_steps`` above 0 π_θ is admitted to the choice gradually: with probability
    λ = min(1, step / admission_steps) all members are candidates, otherwise the frozen ones alone.
    At the hand-over the composite policy then is π_β; π_θ first learns what π_β does, and from
    ``admission_steps`` on the choice is the paper's. 0 is the paper from the start.

    Call :meth:`hand_over` with an offline checkpoint before training; resuming needs only the
    online checkpoint.

    Args:
        expectile: IQL's τ, the expectile that V regresses to; 0.9 AntMaze, 0.7 MuJoCo and Adroit.
        beta: Inverse temperature of the advantage weight; 10 AntMaze, 3 MuJoCo, 0.5 Adroit.
        inv_temperature: PEX's α, inverse temperature of the choice; 10 AntMaze, 3 MuJoCo.
        eval_epsilon: In evaluation, the probability with which π_θ's mode, and independently the
            greedy choice, is replaced by a sample.
        admission_steps: Gradient steps over which π_θ is admitted to the choice; 0 at once.
        gamma: Discount a step.
        tau: Polyak step of the target critic.
        learning_rate: Of Adam, for all networks; it does not decay.
        hidden_dims: Sizes of every network's hidden layers.
        num_q: Number of Q-functions; the smallest value counts.
        gradient_clip_val: Largest norm (or value) of the gradient over all networks together;
            off by default.
        gradient_clip_algorithm: Clip by ``norm`` or by ``value``.
        compile_update: As for IQL.

    Raises:
        UserError: A value is outside of its range.
    """

    def __init__(
        self,
        expectile: float = 0.7,
        beta: float = 3.0,
        inv_temperature: float = 3.0,
        eval_epsilon: float = 0.1,
        admission_steps: int = 0,
        gamma: float = 0.99,
        tau: float = 0.005,
        learning_rate: float = 3e-4,
        hidden_dims: Sequence[int] = (256, 256),
        num_q: int = 2,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: ClipAlgorithm = "norm",
        compile_update: CompileChoice = "auto",
    ) -> None:
        super().__init__(
            expectile=expectile,
            beta=beta,
            gamma=gamma,
            tau=tau,
            learning_rate=learning_rate,
            hidden_dims=hidden_dims,
            num_q=num_q,
            cosine_decay=False,
            gradient_clip_val=gradient_clip_val,
            gradient_clip_algorithm=gradient_clip_algorithm,
            compile_update=compile_update,
        )
        in_unit = 0.0 <= eval_epsilon <= 1.0
        check_range("inv_temperature", inv_temperature, inv_temperature >= 0.0, "0 or more")
        check_range("eval_epsilon", eval_epsilon, in_unit, "between 0 and 1")
        check_range("admission_steps", admission_steps, admission_steps >= 0, "0 or more")
        # Collected from IQL's signature; this class fixes it.
        self.hparams.pop("cosine_decay")
        self.inv_temperature = inv_temperature
        self.eval_epsilon = eval_epsilon
        self.admission_steps = admission_steps
        self._offline: Checkpoint | None = None

    def hand_over(self, checkpoint: Checkpoint) -> None:
        """Start from an offline checkpoint: its critic goes on, its policy becomes π_β."""
        self._offline = checkpoint

    def build(self, data: DataDescription) -> None:
        """Create Π = [π_β, π_θ] and the critic, and take over what the offline stage learnt.

        Raises:
            UserError: The offline checkpoint does not fit this run.
        """
        if self._offline is not None:
            check_hand_over(self._offline, data, self.hparams)
        self.critic = self.new_critic(data)
        self.policies = PolicySet([self.new_policy(data)], self.new_policy(data))
        self.policies.admission.fill_(self._admission(0))
        if self._offline is not None:
            self.critic.load_state_dict(self._offline.part("critic."))
            self.policies.frozen[0].load_state_dict(self._offline.part("policy."))

    def configure_optimizers(self) -> torch.optim.Adam:
        """Adam with the critic's moments of the offline stage.

        An Adam that starts from nothing moves every parameter by its full learning rate at first,
        however small its gradients are, and so shakes a critic that has converged.

        Raises:
            UserError: There was neither a hand-over nor a checkpoint to resume from, or the
                offline checkpoint's moments are damaged.
        """
        if self._offline is None and not self.resumed:
            raise UserError(
                "PEX needs an offline stage to start from: --offline.ckpt_path FILE takes a "
                "finished one, an `offline` section in the configuration trains one; from Python, "
                "call hand_over() first."
            )
        optimizer = super().configure_optimizers()
        if self._offline is not None:
            _take_over_moments(optimizer, self._offline, ("q", "v"))
        return optimizer

    def training_step(self, chunk: TensorDictBase, batch_idx: int) -> None:
        """One gradient step for each batch; then admit π_θ a little further."""
        super().training_step(chunk, batch_idx)
        self.policies.admission.fill_(self._admission(self.global_step))

    def _admission(self, step: int) -> float:
        return 1.0 if step >= self.admission_steps else step / self.admission_steps

    def learner(self) -> GaussianPolicy:
        """π_θ."""
        return self.policies.learner

    def acting_policy(self) -> CompositePolicy:
        """The composite policy over Π."""
        return CompositePolicy(self.policies, self.critic, self.inv_temperature, self.eval_epsilon)

    def policy_target(
        self, batch: Batch, value: Tensor, advantage: Tensor
    ) -> tuple[Tensor, Tensor]:
        """ã chosen afresh by the composite policy, and min Q̄(s, ã) − V(s)."""
        del advantage
        with torch.no_grad():
            action = self.acting_policy().act(batch.observation).action
            target_q = self.critic.target_q(batch.observation, action).amin(0)
        return action, target_q - value


def _take_over_moments(
    optimizer: torch.optim.Optimizer, checkpoint: Checkpoint, groups: Sequence[str]
) -> None:
    """Copy Adam's state of the named groups from a checkpoint whose Adam has the same groups."""
    saved = checkpoint.optimizer
    if not saved:
        _log.warning(
            "%s was saved without its optimizer: the critic's Adam starts afresh.", checkpoint.path
        )
        return
    try:
        indices = {group["name"]: group["params"] for group in saved["param_groups"]}
        for group in optimizer.param_groups:
            if group["name"] not in groups:
                continue
            for parameter, index in zip(group["params"], indices[group["name"]], strict=True):
                optimizer.state[parameter] = _moments(saved["state"][index], parameter)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise UserError(
            f"{checkpoint.path}: the optimizer's state is damaged or was altered "
            f"({type(error).__name__}: {error}). Take another checkpoint."
        ) from error


def _moments(state: Mapping[str, Tensor], parameter: Tensor) -> dict[str, Tensor]:
    """A copy of one parameter's moments, where it lives."""
    for key in ("exp_avg", "exp_avg_sq"):
        if state[key].shape != parameter.shape or not torch.isfinite(state[key]).all():
            raise ValueError(f"{key} is {list(state[key].shape)} or not finite")
    return {key: value.to(parameter.device, copy=True) for key, value in state.items()}
