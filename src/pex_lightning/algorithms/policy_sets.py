"""Expansions of any number of policies: members that the user names, and growth while training."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from torch import nn

from pex_lightning.algorithms.expansion import Expansion
from pex_lightning.data.description import DataDescription
from pex_lightning.errors import UserError, check_range
from pex_lightning.handover import read_checkpoint
from pex_lightning.handover.checks import check_member
from pex_lightning.nn.distributions import policy_from_state
from pex_lightning.policies.growth import Growth
from pex_lightning.policies.member_entry import GIVEN, MemberEntry, entries_of
from pex_lightning.policies.outside import OutsidePolicy, Propose, reason
from pex_lightning.policies.policy_set import LEARNER_NAME, OFFLINE_NAME, PolicySet
from pex_lightning.policies.stable_baselines import read_stable_baselines
from pex_lightning.seeding import derive_seed, global_seed

_log = logging.getLogger(__name__)

MOST_MEMBERS = 1_000


class SetExpansion(Expansion):
    """Π = [π_β, members that the user names, what the set grows by, π_θ].

    When the set grows, π_θ as it is becomes a frozen member, and π_θ starts again as
    `learner_start` says, where a copy is one of the new member; its Adam starts from nothing. The
    members to come have their places from the beginning, as `online-1`, `online-2`, …, so that
    the number of members of a run is always the same; nothing chooses an empty place.

    Args:
        members: Further frozen members: paths, or `{path: PATH, name: NAME}`. A path is a
            checkpoint of this package (its policy; of a policy set the one that learned), a file
            of TorchScript (.pt), torch.export (.pt2), ONNX (.onnx) or stable-baselines3 (.zip), or
            `module:function`, which takes observations `[B, obs_dim]` as a float32 array and
            returns actions `[B, action_dim]`.
        offline_member: Whether the offline stage's policy π_β is the first member. Without it and
            with `critic_start` `fresh` no offline stage is needed.
        grow_at: Gradient steps at which the set grows; it does at the end of the chunk of updates
            in which such a step lies.
        grow_when_stalled: Evaluations without a better `eval/return` after which the set grows.
        largest_set: Members of the largest set, π_θ counted; by default as many as `grow_at` makes.
        kwargs: As for Expansion.

    Raises:
        UserError: A value is outside of its range, or two do not go together.
    """

    def __init__(
        self,
        members: Sequence[str | dict[str, str]] = (),
        offline_member: bool = True,
        grow_at: Sequence[int] = (),
        grow_when_stalled: int | None = None,
        largest_set: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self.offline_member = offline_member
        self.grow_at = [int(step) for step in grow_at]
        self.grow_when_stalled = grow_when_stalled
        self.largest_set = largest_set
        self.growth: Growth | None = None
        self._functions: dict[str, Propose] = {}
        self._named_again: Mapping[str, str | Propose] | None = None
        rising = all(0 < a < b for a, b in zip([0.5, *self.grow_at], self.grow_at, strict=False))
        check_range("--model.grow_at", self.grow_at, rising, "steps above 0, each above the last")
        fits = grow_when_stalled is None or grow_when_stalled >= 1
        check_range("--model.grow_when_stalled", grow_when_stalled, fits, "at least 1")
        if grow_when_stalled is not None and largest_set is None:
            raise UserError("--model.grow_when_stalled needs --model.largest_set, which limits it.")
        if not offline_member:
            self.takes = self.takes - {"policy"}
            if self.critic_ckpt_path is not None:
                raise UserError(
                    "--model.critic_ckpt_path is for a critic beside the offline stage's policy; "
                    "with --model.offline_member false give the file to --offline.ckpt_path."
                )
            if self.learner_start != "fresh":
                raise UserError(
                    f"--model.learner_start {self.learner_start} needs the offline stage's policy, "
                    "but --model.offline_member is false."
                )
        self.hparams["grow_at"] = self.grow_at
        self._take_entries(members)

    def add_member(self, name: str, function: Callable[..., Any]) -> None:
        """Add a Python object as a frozen member; call it before training and before a resume.

        A checkpoint does not hold it: `load_algorithm` is given it again, by `members`.

        Args:
            name: What it is called.
            function: Takes observations `[B, obs_dim]` as a float32 array and returns actions
                `[B, action_dim]`.

        Raises:
            UserError: The name is taken.
        """
        self._take_entries([*self.hparams["members"], {"path": GIVEN, "name": name}])
        self._functions[name] = function

    def name_members(self, members: Mapping[str, str | Propose]) -> None:
        """Name members that are code again, as a loaded module runs only what is named here.

        Raises:
            UserError: It has no such member.
        """
        known = [entry.name for entry in self.entries if entry.outside]
        unknown = [name for name in members if name not in known]
        if unknown:
            raise UserError(
                f"--members: {', '.join(unknown)} is no member that has to be named; these are: "
                f"{', '.join(known) or 'none'}. A member that is a network is in the checkpoint."
            )
        self._named_again = members

    def check_files(self, data: DataDescription) -> None:
        """Open every member once, so that a run does not fail after its offline stage."""
        super().check_files(data)
        for entry in self.entries:
            self._opened(entry, data)

    def attach(self, data: DataDescription) -> None:
        """As every method; outside of a trainer the members' files are read at once."""
        super().attach(data)
        if self._trainer is None and self._named_again is None:
            self._read_members()

    def on_fit_start(self) -> None:
        """Read the members' files; a resumed run has them in its checkpoint."""
        if not self.resumed:
            self._read_members()

    def new_set(self, data: DataDescription) -> PolicySet:
        """Π, with its empty places."""
        if not self.offline_member and not self.entries:
            raise UserError(
                "--model.offline_member false leaves nothing beside the policy that learns: name "
                "an old policy with --model.members, or give true."
            )
        frozen: list[nn.Module] = [self.networks.policy(data.env)] if self.offline_member else []
        for entry in self.entries:
            frozen.append(
                self._opened(entry, data) if entry.outside else self.networks.policy(data.env)
            )
        frozen += [self.networks.policy(data.env) for _ in self._grown]
        places = len(self._grown)
        self.growth = None
        if places:
            self.growth = Growth(places, self.grow_at, self.grow_when_stalled)
        names = [OFFLINE_NAME] if self.offline_member else []
        names += [*(entry.name for entry in self.entries), *self._grown, LEARNER_NAME]
        return PolicySet(frozen, self.networks.policy(data.env), names, places)

    def follow(self, step: int) -> None:
        """Grow if the schedule says so; not at the end of a run, where nothing would learn."""
        if self.growth is not None and self.growth.due(step) and not self._ends(step):
            self._grow(step, scheduled=True)

    def on_evaluation(self, metrics: Mapping[str, float]) -> None:
        """Grow where the return has not become better for long."""
        growth, step = self.growth, self.global_step
        if growth is None or self.grow_when_stalled is None:
            return
        if growth.stalled(metrics["eval/return"]) and not self._ends(step):
            self._grow(step, scheduled=False)
            self.follow(step)

    def uncompiled_reason(self) -> str | None:
        """Code from outside cannot be compiled."""
        outside = [entry.name for entry in self.entries if entry.outside]
        if not outside:
            return None
        return f"the policy set has members that are not parameters ({', '.join(outside)})"

    @property
    def started_at(self) -> int:
        """The gradient step at which π_θ started."""
        return 0 if self.growth is None else self.growth.last

    def _take_entries(self, members: Sequence[str | dict[str, str]]) -> None:
        entries = entries_of(members, taken=(OFFLINE_NAME, LEARNER_NAME))
        first = int(self.offline_member) + len(entries)
        places = len(self.grow_at)
        if self.largest_set is not None:
            places = self.largest_set - first - 1
            least = max(len(self.grow_at), int(self.grow_when_stalled is not None))
            check_range(
                "--model.largest_set",
                self.largest_set,
                places >= max(1, least),
                f"at least {first + 1 + max(1, least)}, as the set begins with {first + 1} members",
            )
            if not least:
                raise UserError(
                    "--model.largest_set needs --model.grow_at or --model.grow_when_stalled, which "
                    "say when the set grows."
                )
        check_range(
            "the number of members",
            first + places + 1,
            first + places < MOST_MEMBERS,
            "at most 1,000",
        )
        self._grown = [f"{LEARNER_NAME}-{number}" for number in range(1, places + 1)]
        self.entries = entries_of(members, taken=(OFFLINE_NAME, LEARNER_NAME, *self._grown))
        self.hparams["members"] = [entry.to_dict() for entry in entries]

    def _read_members(self) -> None:
        """Take over the members that are parameters, with their sizes."""
        assert self.description is not None
        for number, entry in enumerate(self.entries, start=int(self.offline_member)):
            if not entry.outside:
                member = self._opened(entry, self.description)
                self.policies.set_frozen(number, member.state_dict())

    def _opened(self, entry: MemberEntry, data: DataDescription) -> nn.Module:
        """A member, read from its file.

        Raises:
            UserError: It cannot be read, does not fit, or was not named again.
        """
        if entry.kind == "checkpoint":
            checkpoint = read_checkpoint(entry.path)
            check_member(checkpoint, data)
            try:
                return policy_from_state(checkpoint.part("policy"))
            except (KeyError, IndexError, RuntimeError, ValueError) as error:
                raise UserError(
                    f"--model.members: the policy of {entry.path} cannot be read "
                    f"({reason(error)}). Take another checkpoint."
                ) from error
        if entry.kind == "stable_baselines3":
            return read_stable_baselines(entry, data.env)
        function = self._functions.get(entry.name)
        if self._named_again is not None:
            named = self._named_again.get(entry.name)
            if named is None:
                raise UserError(
                    f"the member {entry.name!r:.80} ({entry.path!r:.200}) is code, which is not "
                    "run because a checkpoint says so. If you trust it, name it again: "
                    "--members '[{path: PATH, name: NAME}]', or members= of load_algorithm."
                )
            function = None if isinstance(named, str) else named
            entry = MemberEntry(named if isinstance(named, str) else GIVEN, entry.name)
            if not entry.outside:
                raise UserError(f"--members: {entry.path} is not the code of {entry.name!r}.")
        return OutsidePolicy(entry, data.env, function)

    def _ends(self, step: int) -> bool:
        return self._trainer is not None and step >= self.trainer.max_steps

    @torch.no_grad()
    def _grow(self, step: int, *, scheduled: bool) -> None:
        """Freeze π_θ as it is, and start it again; all in the memory that is there."""
        assert self.growth is not None
        assert self.description is not None
        learner = self.policies.learner
        place = self.growth.record(step, scheduled=scheduled)
        self.policies.fill(place, learner.state_dict())
        # The same in all processes of a run, and without a draw from the stream of training.
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(derive_seed("growth", global_seed(), place))
            fresh = self.networks.policy(self.description.env)
        if self.learner_start == "fresh":
            learner.load_state_dict(fresh.state_dict())
        elif self.learner_start == "copy_mean":
            learner.load_state_dict({"log_std": fresh.state_dict()["log_std"]}, strict=False)
        self._forget_moments()
        _log.info(
            "The policy set grew at update %s: %s is the policy that has learned so far, and a new "
            "one learns from now on",
            f"{step:,}",
            self._grown[place],
        )

    def _forget_moments(self) -> None:
        """Let Adam start from nothing for π_θ."""
        if self._trainer is None or not self.trainer.optimizers:
            return
        optimizer = self.trainer.optimizers[0]
        for parameter in self.policies.learner.parameters():
            for value in optimizer.state.get(parameter, {}).values():
                value.zero_()
