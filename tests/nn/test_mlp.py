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


def test_layer_norm_stands_before_the_relu_and_each_member_has_its_own() -> None:
    ensemble = EnsembleMLP(3, 4, [7, 5], 1, layer_norm=True)
    net = MLP(4, [7, 5], 1, layer_norm=True)
    kinds = [type(layer).__name__ for layer in net.layers]
    assert kinds == ["Linear", "LayerNorm", "ReLU", "Linear", "LayerNorm", "ReLU", "Linear"]
    linears, norms = net.layers[0::3], net.layers[1::3]
    with torch.no_grad():
        for parameter in [*ensemble.scales, *ensemble.shifts]:
            parameter.uniform_(-1, 1)
        for layer, linear in enumerate(linears):
            linear.weight.copy_(ensemble.weights[layer][1].T)
            linear.bias.copy_(ensemble.biases[layer][1, 0])
        for layer, norm in enumerate(norms):
            norm.weight.copy_(ensemble.scales[layer][1, 0])
            norm.bias.copy_(ensemble.shifts[layer][1, 0])
    x = torch.randn(6, 4)
    torch.testing.assert_close(ensemble(x)[1], net(x))


@pytest.mark.parametrize("layer_norm", [False, True])
def test_some_members_can_be_asked(layer_norm: bool) -> None:
    ensemble, x = EnsembleMLP(5, 4, [7, 5], 1, layer_norm=layer_norm), torch.randn(6, 4)
    torch.testing.assert_close(ensemble(x, members=torch.tensor([3, 0])), ensemble(x)[[3, 0]])


def test_constant_parameters_get_no_gradient_and_the_input_does() -> None:
    ensemble, x = EnsembleMLP(2, 4, [7], 1, layer_norm=True), torch.randn(6, 4, requires_grad=True)
    out = ensemble(x, constant=True)
    torch.testing.assert_close(out, ensemble(x))
    out.sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0
    assert all(parameter.grad is None for parameter in ensemble.parameters())
