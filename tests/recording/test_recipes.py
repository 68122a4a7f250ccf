"""The recipes agree with the mazes, and a wrong name is answered with the right one."""

import gymnasium
import pytest

from pex_lightning.envs.mazes import MAPS, Maze
from pex_lightning.errors import UserError
from pex_lightning.recording.recipes import RECIPES, AntMazeRecipe, find_recipe

ANT = {name: recipe for name, recipe in RECIPES.items() if isinstance(recipe, AntMazeRecipe)}


@pytest.mark.parametrize("name", ANT)
def test_cells_are_free_and_the_environment_is_the_evaluation_tasks(name):
    recipe = ANT[name]
    maze = Maze(MAPS[recipe.maze], 4.0, 2.0)
    assert all(maze.is_free(cell) for cell in recipe.start_cells + recipe.goal_cells)
    registered = gymnasium.registry[recipe.env_id]
    assert registered.kwargs["maze"] == recipe.maze
    assert registered.max_episode_steps == recipe.episode_steps
    assert recipe.rows == 1_000_000


def test_diverse_starts_and_ends_anywhere_and_play_has_few_goals():
    for maze in ("medium", "large"):
        free = Maze(MAPS[maze], 4.0, 2.0).free_cells
        diverse, play = ANT[f"antmaze-{maze}-diverse"], ANT[f"antmaze-{maze}-play"]
        assert diverse.start_cells == diverse.goal_cells == play.start_cells == free
        assert len(play.goal_cells) < len(free) / 2


def test_umaze_is_the_evaluation_task():
    maze = Maze(MAPS["umaze"], 4.0, 2.0)
    recipe = ANT["antmaze-umaze"]
    assert recipe.start_cells == (maze.start_cell,)
    assert recipe.goal_cells == (maze.goal_cell,)
    assert recipe.start_jitter == 0


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("antmaze-medium", "did you mean 'antmaze-medium-play' or 'antmaze-medium-diverse'"),
        ("pointmaze-medum", "did you mean 'pointmaze-medium'"),
        ("antmaze-large-play-v2", "fetch antmaze-large-play-v2'.*make antmaze-large-play'"),
        ("antmaze-huge-v2", "expected one of"),
    ],
)
def test_another_name_is_refused_with_a_hint(name, words):
    with pytest.raises(UserError, match=words):
        find_recipe(name)
