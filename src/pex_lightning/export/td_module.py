"""An acting policy as a module of TensorDicts, for TorchRL."""

from __future__ import annotations

import torch
from tensordict import TensorDictBase
from tensordict.nn import TensorDictModuleBase

from pex_lightning.errors import UserError
from pex_lightning.policies.acting import ActingPolicy

MEMORY, BEGINS = "policy_memory", "is_init"


class ActingModule(TensorDictModuleBase):  # type: ignore[misc]
    """Reads `observation` `[*, obs_dim]`; writes `action`, `policy_index` and `choice_probs`.

    A policy that remembers also reads `is_init` `[*, 1]` bool, which says where an episode begins,
    and keeps its memory in `policy_memory` `[*, memory_size]`, which TorchRL carries on.

    Args:
        policy: Who acts.
        device: Where its parameters are.
        deterministic: Whether to leave nothing to chance, else it draws as in training.
    """

    def __init__(self, policy: ActingPolicy, device: torch.device, deterministic: bool) -> None:
        super().__init__()
        self.policy = policy
        self._device = device
        self._deterministic = deterministic
        self._remembers = policy.remembers(deterministic)
        self.in_keys = ["observation", *([BEGINS] if self._remembers else [])]
        self.out_keys = [
            *("action", "policy_index", "choice_probs"),
            *([MEMORY] if self._remembers else []),
        ]

    @torch.no_grad()
    def forward(self, tensordict: TensorDictBase) -> TensorDictBase:
        """Act.

        Raises:
            UserError: The policy remembers, and nothing says where an episode begins.
        """
        observation = tensordict.get("observation")
        shape = observation.shape[:-1]
        states = observation.reshape(-1, observation.shape[-1]).to(self._device, torch.float32)
        act = self.policy.decide if self._deterministic else self.policy.act
        choice = act(states, self._memory(tensordict, states))
        written = {
            "action": choice.action.float(),
            "policy_index": choice.policy_index,
            "choice_probs": choice.choice_probs.float(),
        }
        if self._remembers:
            written[MEMORY] = choice.memory
        for key, value in written.items():
            tensordict.set(key, value.reshape(shape + value.shape[1:]).to(observation.device))
        return tensordict

    def _memory(self, tensordict: TensorDictBase, states: torch.Tensor) -> torch.Tensor:
        fresh = self.policy.initial_memory(states)
        if not self._remembers:
            return fresh
        begins = tensordict.get(BEGINS, None)
        if begins is None:
            raise UserError(
                f"This policy remembers something within an episode, and the TensorDict has no "
                f"{BEGINS!r}, which says where one begins. Append torchrl.envs.InitTracker() to "
                "the environment."
            )
        known = tensordict.get(MEMORY, None)
        if known is None:
            return fresh
        begins = begins.reshape(-1, 1).to(self._device)
        return torch.where(begins, fresh, known.reshape(fresh.shape).to(self._device))
