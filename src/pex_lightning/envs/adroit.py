"""D4RL's Adroit tasks: gymnasium-robotics' hand with the rewards and ends of the recorded data.

gymnasium-robotics rebuilt the four environments (Rajeswaran et al. 2017, arXiv 1709.10087; Fu et
al. 2020, arXiv 2004.07219) with the models and observations that D4RL had. Two things changed: from
its version 1.2.1 on, door, hammer and relocate add 0.1 times the distance between palm and object
where D4RL subtracts it, and pen goes on after the pen was dropped where D4RL ends the episode.
The wrappers here compute the reward by D4RL's formulas from the state of the simulation, so that
they are right beside every version of gymnasium-robotics.
"""

from typing import Any

import gymnasium
import numpy as np
import numpy.typing as npt

_DROPPED = 0.075
"""Height of the pen's centre under which it counts as dropped, in metres."""


class D4RLAdroit(gymnasium.Wrapper[Any, Any, Any, Any]):
    """Replaces the reward of an Adroit environment by D4RL's; see the subclasses."""

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Apply an action; returns observation, D4RL's reward, ends, and info with `success`."""
        observation, _, _, truncated, info = self.env.step(action)
        reward, over = self._judge(self.env.unwrapped)
        info["success"] = bool(info["success"])
        return observation, reward, over, truncated, info

    def _judge(self, env: Any) -> tuple[float, bool]:
        """Reward of the step that led to the present state, and whether it ended the episode."""
        raise NotImplementedError


class PenRewards(D4RLAdroit):
    """Pen: turn the pen as the target lies; dropping it costs 5 and ends the episode."""

    def _judge(self, env: Any) -> tuple[float, bool]:
        pen = env.data.body("Object").xpos
        distance = _distance(pen, _site(env, "eps_ball"))
        direction = _direction(env, "object")
        likeness = float(direction @ _direction(env, "target"))
        reward = likeness - distance
        if distance < 0.075:
            reward += 10.0 * (likeness > 0.9) + 50.0 * (likeness > 0.95)
        dropped = bool(pen[2] < _DROPPED)
        return reward - 5.0 * dropped, dropped


class DoorRewards(D4RLAdroit):
    """Door: undo the latch and swing the door open; never over."""

    def _judge(self, env: Any) -> tuple[float, bool]:
        hinge = float(env.data.joint("door_hinge").qpos[0])
        reward = -0.1 * _distance(_site(env, "S_grasp"), _site(env, "S_handle"))
        reward -= 0.1 * (hinge - 1.57) ** 2
        reward -= 1e-5 * float(np.sum(env.data.qvel**2))
        return reward + 2.0 * (hinge > 0.2) + 8.0 * (hinge > 1.0) + 10.0 * (hinge > 1.35), False


class HammerRewards(D4RLAdroit):
    """Hammer: pick up the hammer and drive the nail in; never over."""

    def _judge(self, env: Any) -> tuple[float, bool]:
        hammer, head = env.data.body("Object").xpos, _site(env, "tool")
        nail = _site(env, "S_target")
        depth_left = _distance(nail, _site(env, "nail_goal"))
        reward = -0.1 * _distance(_site(env, "S_grasp"), hammer)
        reward -= _distance(head, nail) + 10.0 * depth_left
        reward -= 1e-2 * float(np.linalg.norm(env.data.qvel))
        lifted = bool(hammer[2] > 0.04 and head[2] > 0.04)
        return reward + 2.0 * lifted + 25.0 * (depth_left < 0.02) + 75.0 * (
            depth_left < 0.01
        ), False


class RelocateRewards(D4RLAdroit):
    """Relocate: carry the ball to the target; never over."""

    def _judge(self, env: Any) -> tuple[float, bool]:
        ball, palm = env.data.body("Object").xpos, _site(env, "S_grasp")
        target = _site(env, "target")
        left = _distance(ball, target)
        reward = -0.1 * _distance(palm, ball)
        if ball[2] > 0.04:
            reward += 1.0 - 0.5 * _distance(palm, target) - 0.5 * left
        return reward + 10.0 * (left < 0.1) + 20.0 * (left < 0.05), False


def _site(env: Any, name: str) -> npt.NDArray[np.float64]:
    position: npt.NDArray[np.float64] = env.data.site(name).xpos
    return position


def _distance(here: npt.NDArray[np.float64], there: npt.NDArray[np.float64]) -> float:
    return float(np.linalg.norm(here - there))


def _direction(env: Any, name: str) -> npt.NDArray[np.float64]:
    along = _site(env, f"{name}_top") - _site(env, f"{name}_bottom")
    return along / float(np.linalg.norm(along))
