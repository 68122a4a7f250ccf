import pytest
import torch

from pex_lightning.nn.mlp import MLP, EnsembleMLP


def separate(ensemble: EnsembleMLP, member: int, sizes: tuple[int, list[int], int]) -> MLP:
    """An ordinary perceptron with the parameters of one member."""
    net = MLP(*sizes)
    linears = [layer for layer in net.layers if isinstance(layer, torch.nn.Linear)]
    with torch.no_grad():
        for layer, weight, bias in zip(linears, ensemble.weights, ensemble.biases, strict=True):
            layer.weight.copy_(weight[member].T)
            layer.bias.copy_(bias[member, 0])
    return net


@pytest.mark.parametrize("hidden", [[], [7], [7, 5]])
def test_a_perceptron_is_linear_layers_with_relu_between(hidden: list[int]) -> None:
    net = MLP(4, hidden, 2)
    x = torch.randn(6, 4)
    expected = x
    linears = [layer for layer in net.layers if isinstance(layer, torch.nn.Linear)]
    assert [layer.out_features for layer in linears] == [*hidden, 2]
    for i, layer in enumerate(linears):
        expected = expected @ layer.weight.T + layer.bias
        expected = expected.clamp(min=0) if i < len(hidden) else expected
    torch.testing.assert_close(net(x), expected)
    assert (net(x) < 0).any()


@pytest.mark.parametrize("size", [1, 2, 5])
@pytest.mark.parametrize("hidden", [[], [7, 5]])
def test_an_ensemble_is_separate_perceptrons(size: int, hidden: list[int]) -> None:
    sizes = (4, hidden, 2)
    ensemble = EnsembleMLP(size, *sizes)
    x = torch.randn(6, 4)
    out = ensemble(x)
    assert out.shape == (size, 6, 2)
    for member in range(size):
        torch.testing.assert_close(out[member], separate(ensemble, member, sizes)(x))


def test_members_start_differently_and_learn_alone() -> None:
    ensemble = EnsembleMLP(3, 4, [7, 5], 1)
    for weight in ensemble.weights:
        assert not torch.equal(weight[0], weight[1])
    ensemble(torch.randn(6, 4))[1].sum().backward()
    for parameter in ensemble.parameters():
        assert parameter.grad is not None
        assert parameter.grad[1].abs().sum() > 0
        assert parameter.grad[[0, 2]].abs().sum() == 0


def test_members_are_initialised_as_linear_layers_are() -> None:
    ensemble = EnsembleMLP(2, 400, [100], 1)
    bound = 1 / 400**0.5
    for parameter in (ensemble.weights[0], ensemble.biases[0]):
        assert 0.9 * bound < parameter.abs().max() <= bound
    reference = torch.nn.Linear(400, 100).weight
    torch.testing.assert_close(ensemble.weights[0].std(), reference.std(), rtol=0.05, atol=0)
