"""IQL in plain JAX: the same networks, losses, Adam and Polyak step, jitted as one function.

Written for this comparison after the equations in `pex_lightning.losses.iql`; the tests compare
its losses and its update with this package's. bf16 is what autocast does: weights and states of
Adam stay float32, the layers compute in bfloat16, the losses in float32.
"""

from __future__ import annotations

import math
from functools import partial
from itertools import cycle, pairwise
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks.cases.shared.setting import (
    ACTION_DIM,
    BETA,
    EXPECTILE,
    GAMMA,
    HIDDEN,
    LEARNING_RATE,
    NUM_Q,
    OBS_DIM,
    TAU,
    Arrays,
    Floats,
    Work,
    arrays,
)

MAX_ADVANTAGE_WEIGHT = 100.0
LOG_STD_MIN, LOG_STD_MAX = -5.0, 2.0
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8

Net = list[tuple[jax.Array, jax.Array]]


class Params(NamedTuple):
    """Layers `(weight [in, out], bias [out])`; Q's `([num_q, in, out], [num_q, 1, out])`."""

    q: Net
    v: Net
    policy: Net
    log_std: jax.Array


class State(NamedTuple):
    """What an update changes."""

    params: Params
    target: Net
    mean: Params
    square: Params
    updates: jax.Array


class Losses(NamedTuple):
    """IQL's three, scalars."""

    q: jax.Array
    value: jax.Array
    policy: jax.Array


def new_params() -> Params:
    """Weights as torch's linear layers start."""
    rng = np.random.default_rng(0)

    def net(inputs: int, outputs: int, *members: int) -> Net:
        layers: Net = []
        for fan_in, fan_out in pairwise((inputs, *HIDDEN, outputs)):
            bound = 1 / math.sqrt(fan_in)
            weight = rng.uniform(-bound, bound, (*members, fan_in, fan_out))
            one = (1,) if members else ()
            bias = rng.uniform(-bound, bound, (*members, *one, fan_out))
            layers.append((jnp.asarray(weight, jnp.float32), jnp.asarray(bias, jnp.float32)))
        return layers

    q = net(OBS_DIM + ACTION_DIM, 1, NUM_Q)
    return Params(q, net(OBS_DIM, 1), net(OBS_DIM, ACTION_DIM), jnp.zeros(ACTION_DIM))


def new_state(params: Params) -> State:
    """Adam at its start, the target equal to Q."""

    def zeros() -> Any:
        return jax.tree.map(jnp.zeros_like, params)

    target = jax.tree.map(jnp.copy, params.q)
    return State(params, target, zeros(), zeros(), jnp.zeros((), jnp.float32))


def _forward(net: Net, inputs: jax.Array | Floats, dtype: Any) -> jax.Array:
    x = jnp.asarray(inputs, dtype)
    for layer, (weight, bias) in enumerate(net):
        x = jnp.matmul(x, weight.astype(dtype)) + bias.astype(dtype)
        if layer < len(net) - 1:
            x = jax.nn.relu(x)
    return x.astype(jnp.float32)


def losses(params: Params, target: Net, batch: Arrays, dtype: Any = jnp.float32) -> Losses:
    """L_Q, L_V and L_π on a batch, all from the networks as they are."""
    pair = jnp.concatenate((batch.observation, batch.action), -1)
    stop = jax.lax.stop_gradient
    target_q = stop(_forward(target, pair, dtype)[..., 0].min(0))
    value = _forward(params.v, batch.observation, dtype)[..., 0]
    u = target_q - value
    value_loss = jnp.mean(jnp.where(u < 0, 1 - EXPECTILE, EXPECTILE) * u**2)

    next_value = stop(_forward(params.v, batch.next_observation, dtype)[..., 0])
    td_target = batch.reward + GAMMA * jnp.where(batch.terminated, 0.0, next_value)
    q = _forward(params.q, pair, dtype)[..., 0]
    q_loss = 0.5 * jnp.mean((q - td_target) ** 2, -1).sum()

    weight = jnp.minimum(jnp.exp(BETA * stop(u)), MAX_ADVANTAGE_WEIGHT)
    log_std = jnp.clip(params.log_std, LOG_STD_MIN, LOG_STD_MAX)
    mode = jnp.tanh(_forward(params.policy, batch.observation, dtype))
    z = (batch.action - mode) * jnp.exp(-log_std)
    log_prob = (-0.5 * z**2 - log_std - 0.5 * math.log(2 * math.pi)).sum(-1)
    return Losses(q_loss, value_loss, jnp.mean(weight * -log_prob))


@partial(jax.jit, static_argnames="dtype", donate_argnames="state")
def update(state: State, batch: Arrays, dtype: Any = jnp.float32) -> State:
    """One step of Adam on the sum of the losses, then one Polyak step of the target."""
    gradient = jax.grad(lambda p: sum(losses(p, state.target, batch, dtype)))(state.params)
    count = state.updates + 1
    tree = jax.tree.map
    mean = tree(lambda m, g: BETA_1 * m + (1 - BETA_1) * g, state.mean, gradient)
    square = tree(lambda s, g: BETA_2 * s + (1 - BETA_2) * g**2, state.square, gradient)
    rate = LEARNING_RATE / (1 - BETA_1**count)
    scale = 1 / jnp.sqrt(1 - BETA_2**count)
    params = tree(
        lambda p, m, s: p - rate * m / (jnp.sqrt(s) * scale + EPSILON), state.params, mean, square
    )
    target = tree(lambda t, q: t + TAU * (q - t), state.target, params.q)
    return State(params, target, mean, square, count)


def build(precision: str) -> Work:
    """The jitted update with its state."""
    dtype = jnp.bfloat16 if precision == "bf16" else jnp.float32
    columns = [jnp.asarray(column) for column in arrays()]
    supply = cycle([Arrays(*row) for row in zip(*columns, strict=True)])
    state = new_state(new_params())

    def step() -> None:
        nonlocal state
        state = update(state, next(supply), dtype)

    def parameters() -> Floats:
        return np.concatenate([np.asarray(p).ravel() for p in jax.tree.leaves(state.params)])

    def finish() -> None:
        for leaf in jax.tree.leaves(state):
            leaf.block_until_ready()

    return Work(step, parameters, finish)
