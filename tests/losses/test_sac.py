import pytest
import torch

from pex_lightning.losses.sac import sac_policy_loss, soft_value, temperature_loss


def test_the_entropy_counts_in_the_target_or_not() -> None:
    q, log_prob, alpha = torch.tensor([3.0, -1.0]), torch.tensor([2.0, -4.0]), torch.tensor(0.5)
    assert soft_value(q, log_prob, alpha, entropy=True).tolist() == [2.0, 1.0]
    assert soft_value(q, log_prob, alpha, entropy=False).tolist() == [3.0, -1.0]


def test_the_policy_loss_by_hand() -> None:
    found = sac_policy_loss(torch.tensor([3.0, 1.0]), torch.tensor([2.0, 4.0]), torch.tensor(0.5))
    assert found.loss.item() == pytest.approx(((1.0 - 3.0) + (2.0 - 1.0)) / 2)
    assert found.entropy.item() == -3.0


@pytest.mark.parametrize(("entropy", "falls"), [(2.0, True), (-2.0, False)])
def test_the_weight_falls_where_the_policy_is_random_enough(entropy: float, falls: bool) -> None:
    log_alpha = torch.zeros((), requires_grad=True)
    temperature_loss(log_alpha.exp(), torch.tensor(entropy), target=-1.0).backward()
    assert log_alpha.grad.item() == entropy + 1.0
    assert (log_alpha.grad > 0) == falls
