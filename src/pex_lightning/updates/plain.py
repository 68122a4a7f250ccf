"""The update as PyTorch and Lightning execute it: backward, clip, step."""

from __future__ import annotations

from typing import Any

from pex_lightning.updates.batch import Batch, Diagnostics, Losses
from pex_lightning.updates.clipping import Clipping
from pex_lightning.updates.rule import CRITIC_GROUPS, UpdateRule


class PlainUpdate:
    """Takes one gradient step per call.

    Args:
        rule: The module that learns, in a trainer.
        clipping: Limit of the gradient.

    Attributes:
        groups: Names of the parameter groups.
    """

    def __init__(self, rule: UpdateRule, clipping: Clipping) -> None:
        self._rule = rule
        self._clipping = clipping
        optimizer: Any = rule.optimizers(use_pl_optimizer=False)
        self.groups = {group["name"] for group in optimizer.param_groups}

    def __call__(self, batch: Batch) -> Diagnostics:
        """Take one gradient step; return the diagnostics.

        An update in which only the critic learns gives back its terms alone.
        """
        rule = self._rule
        # Lightning's wrapper of the optimizer counts the step in `global_step`.
        optimizer: Any = rule.optimizers()
        losses = rule.losses(batch)
        losses.check_terms(self.groups)
        optimizer.zero_grad()
        if rule.critic_alone(rule.global_step):
            self._backward_of_critic(losses)
            losses = losses.only(CRITIC_GROUPS)
        else:
            rule.manual_backward(losses.total)
        self._clipping.clip_(p for group in optimizer.param_groups for p in group["params"])
        optimizer.step()
        rule.after_step()
        return losses.results()

    def _backward_of_critic(self, losses: Losses) -> None:
        """Leave the other groups without gradients, so that Adam passes them over."""
        rule = self._rule
        if rule.trainer.world_size == 1:
            rule.manual_backward(losses.only(CRITIC_GROUPS).total)
            return
        # Processes reduce the gradients of all parameters together.
        rule.manual_backward(losses.total)
        optimizer: Any = rule.optimizers(use_pl_optimizer=False)
        for group in optimizer.param_groups:
            if group["name"] not in CRITIC_GROUPS:
                for parameter in group["params"]:
                    parameter.grad = None
