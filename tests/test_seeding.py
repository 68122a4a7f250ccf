import numpy as np
import pytest
import torch

from pex_lightning.seeding import derive_seed, global_seed


def test_a_seed_depends_on_every_part_and_its_place() -> None:
    parts = [
        ("chunk", 0, 0, 0),
        ("train", 0, 0, 0),
        ("chunk", 1, 0, 0),
        ("chunk", 0, 1, 0),
        ("chunk", 0, 0, 1),
    ]
    assert len({derive_seed(*part) for part in parts}) == len(parts)
    assert derive_seed("chunk", 1, 2) == derive_seed("chunk", 1, 2)


def test_seeds_fit_where_they_are_used() -> None:
    seeds = [derive_seed("chunk", 0, 0, step) for step in range(500)]
    assert len(set(seeds)) == 500
    assert all(0 <= seed < 2**63 for seed in seeds)
    # All 63 bits are used, so that neighbouring steps have nothing in common.
    bits = np.array([[seed >> bit & 1 for bit in range(63)] for seed in seeds])
    assert np.all(np.abs(bits.mean(0) - 0.5) < 0.15)
    torch.Generator().manual_seed(max(seeds) + 1)


def test_the_known_value_does_not_change_between_versions() -> None:
    # A resumed run would otherwise see other batches than the one it continues.
    assert derive_seed("chunk", 7) == 1444770864238239563


def test_the_global_seed_is_the_one_of_seed_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PL_GLOBAL_SEED", "123")
    assert global_seed() == 123
    monkeypatch.delenv("PL_GLOBAL_SEED")
    torch.manual_seed(45)
    assert global_seed() == 45
