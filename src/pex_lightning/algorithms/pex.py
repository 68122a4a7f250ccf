"""Policy Expansion (PEX, arXiv 2302.00935)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal, get_args

import torch
from torch import Tensor, nn

from pex_lightning.algorithms.policy_sets import SetExpansion
from pex_lightning.data.description import DataDescription
from pex_lightning.data.ranks import gathered
from pex_lightning.errors import UserError, check_range
from pex_lightning.handover.checkpoint import Checkpoint
from pex_lightning.losses.iql import (
    PolicyLoss,
    diagnostics,
    mean_policy_loss,
    policy_loss,
    q_loss,
    value_loss,
)
from pex_lightning.nn.critic import FrozenQ
from pex_lightning.policies.acting import Episode
from pex_lightning.policies.admission import Admission
from pex_lightning.policies.admitting import AdmissionName, Admitting, new_composite
from pex_lightning.policies.choice import Boltzmann, ChoiceName, entropy
from pex_lightning.policies.choosing import Choosing, ValuesName
from pex_lightning.policies.composite import CompositePolicy
from pex_lightning.policies.evidence import EvidenceRule
from pex_lightning.policies.schedule import progress
from pex_lightning.policies.temperature import (
    AdaptedTemperature,
    InverseTemperature,
    ScheduledTemperature,
)
from pex_lightning.policies.values import BlendWeight, Bound
from pex_lightning.updates.batch import Batch, Losses

Backup = Literal["v", "choice"]
Imitated = Literal["choice", "batch", "both"]


class PEX(SetExpansion):
    """Keeps the offline policy π_β frozen and learns a new one, π_θ, beside it.

    At every step both propose an action, clipped to the action space, and
    P(i|s) = softmax_i(inv_temperature · min_k Q_k(s, a_i)) chooses (PEX, eq. 5). Q and V go on
    with IQL's losses from where the offline stage left them. π_θ is fitted to what the composite
    policy would do now: ã ~ composite(s), L_π with a = ã and u = min Q̄(s, ã) − V(s) (eq. 7).

    A fresh π_θ proposes actions that an offline critic has never seen and often overrates, so that
    the composite policy can fall far below π_β before online data correct it. With
    `admission_steps` above 0 π_θ is admitted to the choice gradually: with probability
    λ = min(1, step / admission_steps) all members are candidates, otherwise the frozen ones alone.
    At the hand-over the composite policy then is π_β; π_θ first learns what π_β does, and from
    `admission_steps` on the choice is the paper's. 0 is the paper from the start.

    A clock does not know whether π_θ is any good. With `admission` `evidence` whole episodes
    belong to the frozen members alone or to the full set, and what they have returned decides how
    many of the next ones are the full set's, and which of the two is evaluated and exported; see
    `pex_lightning.policies.evidence.Evidence`.

    Call `hand_over` with an offline checkpoint before training; resuming needs only the
    online checkpoint.

    `train_offline_policy` is the paper's ablation in which π_β is fine-tuned as well: by IQL's L_π
    on the batch's own actions, so that it remains a policy of its own.

    What the paper leaves open are settings: other rules of choice, other values to choose by, and
    an inverse temperature that changes (see `pex_lightning.policies.choosing.Choosing`).
    With `backup` `choice`, TD targets use the composite policy's own choice at the next state,
    y = r + γ (1 − d) min Q̄(s', ã') (as EXPO, arXiv 2507.07986), instead of V(s').

    Args:
        inv_temperature: PEX's α, inverse temperature of the choice; 10 AntMaze, 3 MuJoCo.
        eval_epsilon: In evaluation, the probability with which π_θ's mode, and independently the
            best choice, is replaced by a sample.
        admission: `clock`, by the number of gradient steps, or `evidence`, by the returns of
            whole episodes.
        admission_steps: Gradient steps over which π_θ is admitted by the clock; 0 at once.
        admission_window: Episodes of the full set that count as evidence, the last ones.
        admission_least: Least share of episodes that the full set gets.
        admission_certain: How sure evidence has to be to evaluate the full set, or to stop that.
        imitates: What π_θ is fitted to, weighted by its advantage: the composite policy's fresh
            `choice` (the paper), the actions of the `batch` (as IQL), or `both`, each by half.
        train_offline_policy: Whether π_β learns too; off in the paper.
        choice: `boltzmann` (the paper), `greedy`, `epsilon_greedy` or `uniform`.
        choice_epsilon: ε of `epsilon_greedy`.
        choice_values: Values to choose by: of the critic that learns (`online`, the paper), its
            weighted sum with the offline stage's (`blend`), or the `larger` of the two.
        blend_steps: Gradient steps over which the online critic's weight goes from 0 to 1.
        blend_actor: Whether π_θ follows the same weighted sum of both critics' policy gradients.
        value_bound: `min` over the critic's ensemble (the paper), its `mean`, or the mean plus
            (`upper`) or minus (`lower`) `bound_width` standard deviations.
        bound_width: See `value_bound`.
        rpex_scale: Weight of RPEX's term in the logits; 0.1 in RPEX, 0 without it.
        inv_temperature_end: Where the inverse temperature goes linearly; by default it stays.
        inv_temperature_steps: Gradient steps on the way there.
        target_entropy: Mean entropy of the choice, as a fraction of log |Π|, at which a dual
            variable holds it by adapting the inverse temperature; by default it does not.
        backup: What a TD target takes for the value of the next state: `v` (the paper) or
            `choice`.
        kwargs: As for SetExpansion.

    Raises:
        UserError: A value is outside of its range, or two do not go together.
    """

    composite: CompositePolicy

    def __init__(
        self,
        inv_temperature: float = 3.0,
        eval_epsilon: float = 0.1,
        admission_steps: int = 0,
        train_offline_policy: bool = False,
        choice: ChoiceName = "boltzmann",
        choice_epsilon: float = 0.1,
        choice_values: ValuesName = "online",
        blend_steps: int = 0,
        blend_actor: bool = False,
        value_bound: Bound = "min",
        bound_width: float = 1.0,
        rpex_scale: float = 0.0,
        inv_temperature_end: float | None = None,
        inv_temperature_steps: int = 0,
        target_entropy: float | None = None,
        backup: Backup = "v",
        admission: AdmissionName = "clock",
        admission_window: int = 10,
        admission_least: float = 0.5,
        admission_certain: float = 0.8,
        imitates: Imitated = "choice",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.choosing = Choosing(
            rule=choice,
            inv_temperature=inv_temperature,
            inv_temperature_end=inv_temperature_end,
            inv_temperature_steps=inv_temperature_steps,
            target_entropy=target_entropy,
            epsilon=choice_epsilon,
            values=choice_values,
            blend_steps=blend_steps,
            bound=value_bound,
            bound_width=bound_width,
            rpex_scale=rpex_scale,
        )
        self.admitting = Admitting(
            admission, admission_steps, admission_window, admission_least, admission_certain
        )
        fits = 0.0 <= eval_epsilon <= 1.0
        check_range("--model.eval_epsilon", eval_epsilon, fits, "between 0 and 1")
        for flag, name, known in (
            ("backup", backup, get_args(Backup)),
            ("imitates", imitates, get_args(Imitated)),
        ):
            check_range(f"--model.{flag}", name, name in known, " or ".join(known))
        if blend_actor and (choice_values != "blend" or imitates != "choice"):
            raise UserError(
                "--model.blend_actor needs --model.choice_values blend and --model.imitates choice."
            )
        if train_offline_policy and not self.offline_member:
            raise UserError("--model.train_offline_policy needs --model.offline_member true.")
        self.inv_temperature = inv_temperature
        self.eval_epsilon = eval_epsilon
        self.train_offline_policy = train_offline_policy
        self.blend_actor = blend_actor
        self.backup: Backup = backup
        self.imitates: Imitated = imitates
        if self.choosing.needs_offline_q:
            self.takes = self.takes | {"q"}

    def check_files(self, data: DataDescription) -> None:
        """As every policy set; RPEX's term asks every member for a density."""
        super().check_files(data)
        self._check_densities()

    def build(self, data: DataDescription) -> None:
        """Create the critic, Π and the composite policy over it."""
        self._check_densities()
        super().build(data)
        if self.train_offline_policy:
            self.policies.train_offline(True)
        self.offline_q: FrozenQ | None = None
        self.blend_weight: BlendWeight | None = None
        if self.choosing.needs_offline_q:
            self.offline_q = self.networks.frozen_q(data.env)
        if self.choosing.values == "blend":
            self.blend_weight = BlendWeight(self.choosing.blend_steps)
        values = self.choosing.new_values(
            self.policies, self.critic, self.offline_q, self.blend_weight
        )
        rule = self.choosing.new_rule(len(self.policies))
        self.admission = self.admitting.new_rule(rule)
        composite = new_composite(self.policies, values, self.admission, self.eval_epsilon)
        self.hold_unregistered("composite", composite)

    def start(self, given: Sequence[Checkpoint]) -> None:
        """As every expansion; the offline stage's Q is kept where the choice asks it."""
        super().start(given)
        if self.offline_q is not None:
            self.offline_q.net.load_state_dict(given[0].part("q"))

    @property
    def temperature(self) -> InverseTemperature | None:
        """The inverse temperature, where it changes."""
        rule = self.admission.rule
        found = rule.inv_temperature if isinstance(rule, Boltzmann) else None
        return found if isinstance(found, InverseTemperature) else None

    def groups(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """Q, V and π_θ; π_β and the inverse temperature where they learn too."""
        groups = dict(super().groups())
        if self.train_offline_policy:
            groups["offline_actor"] = self.offline_policy.parameters()
        if isinstance(self.temperature, AdaptedTemperature):
            groups["temperature"] = self.temperature.parameters()
        return groups

    def losses(self, batch: Batch) -> Losses:
        """IQL's L_V and L_Q on one batch; L_π on what `imitates` says."""
        critic, observation = self.critic, batch.observation
        with torch.no_grad():
            target_q = critic.min_target_q(observation, batch.action)
            if self.backup == "v":
                next_value = critic.v(batch.next_observation)
            else:
                memory = self.composite.initial_memory(observation)
                next_action = self.composite.act(batch.next_observation, memory).action
                next_value = critic.min_target_q(batch.next_observation, next_action)
        value = critic.v(observation)
        v = value_loss(target_q, value, self.expectile)
        q_now = critic.q(observation, batch.action)
        q = q_loss(q_now, batch.reward, batch.terminated, next_value, self.gamma)
        fits: list[PolicyLoss] = []
        if self.imitates != "batch" or isinstance(self.temperature, AdaptedTemperature):
            memory = self.composite.initial_memory(observation)
            choice, candidate_values = self.composite.choose(observation, memory)
        if self.imitates != "batch":
            fits.append(self._fit_to_choice(observation, choice.action, value))
        if self.imitates != "choice":
            fits.append(policy_loss(self.log_prob(batch), v.advantage, self.beta))
        actor = fits[0] if len(fits) == 1 else mean_policy_loss(*fits)
        terms = {"q": q.loss, "v": v.loss, "actor": actor.loss}
        if self.train_offline_policy:
            log_prob = self.offline_policy.log_prob(observation, batch.action)
            terms["offline_actor"] = policy_loss(log_prob, v.advantage, self.beta).loss
        if isinstance(self.temperature, AdaptedTemperature):
            # Of all members: while few are admitted, the choice tells nothing about α.
            filled = self.policies.filled
            probs = self.admission.rule.probs(candidate_values, filled)
            terms["temperature"] = self.temperature.loss(entropy(probs).mean(), filled)
        return Losses(terms, diagnostics(q, v, actor))

    def _fit_to_choice(self, observation: Tensor, action: Tensor, value: Tensor) -> PolicyLoss:
        """L_π on what the composite policy chose, by the advantage of one critic or of both."""
        log_prob = self.policies.learner.log_prob(observation, action)
        with torch.no_grad():
            advantage = self.critic.min_target_q(observation, action) - value
        fit = policy_loss(log_prob, advantage, self.beta)
        if not self.blend_actor:
            return fit
        assert self.offline_q is not None
        assert self.blend_weight is not None
        with torch.no_grad():
            advantage = self.offline_q.q(observation, action).amin(0) - value
        offline = policy_loss(log_prob, advantage, self.beta).loss
        return PolicyLoss(torch.lerp(offline, fit.loss, self.blend_weight.value), fit.weight)

    def follow(self, step: int) -> None:
        """Admit π_θ a little further, λ = min(1, step / admission_steps); go on with schedules."""
        super().follow(step)
        if isinstance(self.admission, Admission):
            self.admission.share.fill_(progress(step - self.started_at, self.admitting.steps))
        else:
            self.admission.evidence.learning(step > self.started_at)
        if isinstance(self.temperature, ScheduledTemperature):
            self.temperature.follow(step)
        if self.blend_weight is not None:
            self.blend_weight.follow(step)

    def on_episodes(self, episodes: Sequence[Episode]) -> None:
        """Judge the full set by what its episodes have returned, in all processes alike."""
        if isinstance(self.admission, EvidenceRule):
            world_size = 1 if self._trainer is None else self.trainer.world_size
            everyone = gathered(list(episodes), world_size)
            self.admission.evidence.add([episode for one in everyone for episode in one])

    def _grow(self, step: int, *, scheduled: bool) -> None:
        """What was known of the frozen members is not true of more of them."""
        super()._grow(step, scheduled=scheduled)
        if isinstance(self.admission, EvidenceRule):
            self.admission.evidence.forget()

    def acting_policy(self) -> CompositePolicy:
        """The composite policy over Π."""
        return self.composite

    def _check_densities(self) -> None:
        without = [entry.name for entry in self.entries if entry.kind != "checkpoint"]
        if self.choosing.rpex_scale and without:
            raise UserError(
                "--model.rpex_scale asks every member for the density of its action, which only "
                f"policies of this package have, and not {', '.join(without)}. Leave it out, or "
                "these --model.members."
            )
