"""Damaged copies of files: what mutation fuzzing feeds to each reader.

Every fuzzing test runs with a fixed seed and with a random one, which pytest prints at its end.
`FAULTS_SEED=<that number>` repeats the random one.
"""

from __future__ import annotations

import os
import secrets
import time
from collections.abc import Callable, Iterator
from copy import deepcopy
from typing import Any

import numpy as np

from pex_lightning.errors import UserError

FIXED_SEED = 0
RANDOM_SEED = int(os.environ.get("FAULTS_SEED") or secrets.randbelow(2**31))
SEEDS = (FIXED_SEED, RANDOM_SEED)
SEED_NAMES = ("fixed seed", "random seed")
"""For `@pytest.mark.parametrize("seed", SEEDS, ids=SEED_NAMES)`."""

_EXTREMES = (0, 1, 0x7F, 0x80, 0xFE, 0xFF)


def mutated(content: bytes, count: int, seed: int, head: int = 4096) -> Iterator[bytes]:
    """Yield `count` damaged copies of a file's content.

    Each has one to eight faults: a bit flipped, a byte or eight set to an extreme value, a range
    overwritten by noise, zeros or another part of the file, bytes removed or inserted, or the end
    cut off. Half of the faults lie in the first `head` bytes, where most formats keep their
    structure.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        data = bytearray(content)
        for _ in range(int(rng.integers(1, 9))):
            _damage(data, rng, head)
        yield bytes(data)


def _damage(data: bytearray, rng: np.random.Generator, head: int) -> None:
    if not data:
        return
    end = min(head, len(data)) if rng.random() < 0.5 else len(data)
    at = int(rng.integers(end))
    length = int(rng.integers(1, 65))
    kind = rng.integers(8)
    if kind == 0:
        data[at] ^= 1 << int(rng.integers(8))
    elif kind == 1:
        data[at] = int(rng.choice(_EXTREMES))
    elif kind == 2:
        data[at : at + 8] = bytes([int(rng.choice(_EXTREMES))]) * len(data[at : at + 8])
    elif kind == 3:
        data[at : at + length] = rng.bytes(len(data[at : at + length]))
    elif kind == 4:
        other = int(rng.integers(len(data)))
        data[at : at + length] = data[other : other + len(data[at : at + length])]
    elif kind == 5:
        del data[at : at + length]
    elif kind == 6:
        data[at:at] = rng.bytes(length)
    elif rng.random() < 0.2:
        del data[at:]


ODD_VALUES: tuple[Any, ...] = (
    *(None, True, False, -1, 0, 1, 2**31, 10**30, 0.5, float("nan"), float("inf"), 1e30),
    *("", "0", "x", "../x", "a\0b", [], [[]], {}, {"x": 1}, [1] * 1000, ["x"], "y" * 10_000),
)


def attempt(
    function: Callable[..., Any], *args: Any, seconds: float = 10.0, **kwargs: Any
) -> tuple[Any, str | None]:
    """Call a reader of a damaged file.

    Returns:
        (its result, None), or (None, message) if it raised a `UserError`; other exceptions, long
        messages and long waits fail the test.
    """
    begin = time.monotonic()
    try:
        result, message = function(*args, **kwargs), None
    except UserError as error:
        result, message = None, str(error)
    assert time.monotonic() - begin < seconds
    assert message is None or len(message) < 2_500, message[:500]
    return result, message


def altered(value: Any, seed: int, count: int) -> Iterator[Any]:
    """Yield `count` copies of nested dicts and lists, in each of which one place is another value.

    Or an entry is removed, or put in twice.
    """
    rng = np.random.default_rng(seed)
    for _ in range(count):
        copy = deepcopy(value)
        owner, key = _place(copy, rng)
        kind = rng.integers(6)
        if kind == 0:
            del owner[key]
        elif kind == 1 and isinstance(owner, list):
            owner.insert(key, owner[key])
        else:
            owner[key] = deepcopy(ODD_VALUES[int(rng.integers(len(ODD_VALUES)))])
        yield copy


def _place(value: Any, rng: np.random.Generator) -> tuple[Any, Any]:
    """A random entry of a nested value: what holds it, and where."""
    places = []
    left = [value]
    while left:
        owner = left.pop()
        keys = owner.keys() if isinstance(owner, dict) else range(len(owner))
        for key in keys:
            places.append((owner, key))
            if isinstance(owner[key], dict | list) and owner[key]:
                left.append(owner[key])
    return places[int(rng.integers(len(places)))]
