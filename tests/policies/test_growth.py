import torch

from pex_lightning.policies.growth import Growth


def test_a_schedule_is_followed_once_each_and_late_where_it_was_missed() -> None:
    growth = Growth(2, [10, 20], None)
    assert not growth.due(9)
    assert growth.due(13)
    assert growth.record(13, scheduled=True) == 0
    assert (growth.last, growth.count, growth.full) == (13, 1, False)
    assert not growth.due(19)
    assert growth.due(20)
    assert growth.record(20, scheduled=True) == 1
    assert growth.full
    assert not growth.due(1000)


def test_a_stall_is_so_many_evaluations_without_a_better_return() -> None:
    growth = Growth(3, [], 2)
    # Negative returns too: the first one is the best so far.
    found = [growth.stalled(value) for value in (-5.0, -6.0, -4.0, -4.0, -4.5)]
    assert found == [False, False, False, False, True]
    growth.record(100, scheduled=False)
    assert [growth.stalled(value) for value in (-9.0, -9.0)] == [False, True]


def test_a_full_set_does_not_grow_and_stalls_take_no_place_of_the_schedule() -> None:
    growth = Growth(2, [50], 1)
    growth.stalled(1.0)
    assert growth.stalled(0.0)
    growth.record(20, scheduled=False)
    assert not growth.due(49)
    assert growth.due(50)
    growth.record(50, scheduled=True)
    assert not growth.stalled(0.0)


def test_all_of_it_is_in_the_state_dict_and_finite() -> None:
    growth = Growth(3, [10, 30], 2)
    for value in (-1.0, 2.5, 0.0):
        growth.stalled(value)
    growth.record(10, scheduled=True)
    growth.stalled(0.0)
    state = growth.state_dict()
    assert all(torch.isfinite(value).all() for value in state.values())
    other = Growth(3, [10, 30], 2)
    other.load_state_dict(state)
    assert (other.count, other.last, other.due(29), other.due(30)) == (1, 10, False, True)
    assert other.stalled(2.5)
