import torch

from fedjourney.models.mlp import mlp
from fedjourney.tasks import Signature

SIGNATURE = Signature({"x": (3,)}, {"label": ()}, 2)


def test_straight_through_computes_signs_and_lets_a_gradient_pass() -> None:
    torch.manual_seed(0)
    plain = mlp(SIGNATURE, hidden=[5, 4], activation="sign")
    through = mlp(SIGNATURE, hidden=[5, 4], activation="straight_through")
    through.load_state_dict(plain.state_dict())
    x = torch.randn(7, 3)
    assert torch.equal(plain(x), through(x))
    first = next(iter(plain.parameters()))
    (none,) = torch.autograd.grad(plain(x).sum(), [first], allow_unused=True)
    assert none is None or not none.any()
    (some,) = torch.autograd.grad(through(x).sum(), [next(iter(through.parameters()))])
    assert some.any()


def test_its_backward_is_that_of_a_clamp() -> None:
    through = mlp(SIGNATURE, hidden=[1], activation="straight_through")
    inner = through[2]
    x = torch.tensor([-1.5, -0.5, 0.5, 1.5], requires_grad=True)
    inner(x).sum().backward()
    assert x.grad is not None
    assert x.grad.tolist() == [0.0, 1.0, 1.0, 0.0]
