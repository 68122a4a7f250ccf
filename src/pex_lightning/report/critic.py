"""What a critic thinks of the positions of a maze."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch

from pex_lightning.algorithms import Algorithm, load_algorithm
from pex_lightning.errors import UserError
from pex_lightning.handover import Checkpoint
from pex_lightning.inspection.maze_plan import MazePlan
from pex_lightning.nn.critic import Critic
from pex_lightning.report.drawing import Sketch
from pex_lightning.report.maze import Rows, maze_map, shade, squares, tell
from pex_lightning.report.reading import Run
from pex_lightning.report.results import number

_VALUES_PER_CELL = 6
_NEAREST_AMONG = 20_000


def critic_map(run: Run, plan: MazePlan, checkpoint: Checkpoint, rows: Rows) -> Sketch:
    """The critic's values on a grid of free positions.

    Raises:
        UserError: The checkpoint does not give a critic of one value.
    """
    module = load_algorithm(checkpoint).eval()
    columns, lines = squares(plan, _VALUES_PER_CELL)
    side = plan.cell_size / _VALUES_PER_CELL
    x_low, _, y_low, _ = plan.extent
    x, y = np.meshgrid(np.arange(columns), np.arange(lines), indexing="ij")
    xy = np.stack((x_low + (x + 0.5) * side, y_low + (y + 0.5) * side), axis=-1)
    free = np.ones((columns, lines), dtype=np.bool_)
    for wall in plan.walls:
        free &= (np.abs(xy - wall) >= plan.cell_size / 2).any(axis=-1)
    observation = at_positions(rows, xy[free].astype(np.float32))
    found, what = _value(module, torch.from_numpy(observation))
    values = np.zeros(free.shape)
    values[free] = found
    begun = maze_map(
        run,
        plan,
        "critic",
        f"Critic: {what} at step {checkpoint.header.gradient_steps:,}",
        f"The critic's {what} in the last checkpoint at free positions. All numbers of an "
        "observation but the position are those of the nearest row of the run's data, so that far "
        "from any row the value is a guess.",
    )
    shade(begun, plan, values, free, cmap="viridis").set_label(what)
    # A few numbers are enough to hover over.
    for column, line in np.argwhere(free):
        if column % 3 == 1 and line % 3 == 1:
            text = f"{what} {number(values[column, line])}"
            tell(begun, plan, _VALUES_PER_CELL, column, line, text)
    return begun


def some_rows(rows: Rows) -> Rows:
    """Up to 20,000 of the rows [N, obs_dim], evenly spread."""
    return rows[np.linspace(0, len(rows) - 1, min(len(rows), _NEAREST_AMONG)).astype(np.int64)]


def at_positions(rows: Rows, xy: Rows) -> Rows:
    """Observations at positions [N, 2], the rest of each from the nearest of the rows."""
    among = some_rows(rows)
    places = torch.from_numpy(np.ascontiguousarray(among[:, :2]))
    nearest = torch.cat(
        [torch.cdist(part, places).argmin(dim=1) for part in torch.split(torch.from_numpy(xy), 512)]
    )
    observation: Rows = among[nearest.numpy()].copy()
    observation[:, :2] = xy
    return observation


@torch.no_grad()
def _value(module: Algorithm, observation: torch.Tensor) -> tuple[npt.NDArray[np.float64], str]:
    """Values [N] and what they are; of several agents, their mean."""
    critic = getattr(module, "critic", None)
    if not isinstance(critic, Critic):
        raise UserError(f"{type(module).__name__} has no critic of this package.")
    if hasattr(critic, "v_net"):
        value, what = critic.v(observation), "V"
    else:
        acting = module.acting_policy()
        action, _ = acting.evaluation_action(observation, acting.initial_memory(observation))
        value, what = critic.target_q(observation, action).amin(0), "least Q"
    numbers = value.reshape(-1, len(observation)).mean(0)
    return numbers.double().numpy(), what
