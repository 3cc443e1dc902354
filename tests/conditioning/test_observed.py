"""What is refused before a call of the network, with a message that names it."""

import re
import warnings

import pytest
import torch
from torch import nn

from scoresde import EDM, VPSDE, Denoiser, Level, RectifiedFlow, predict, sample
from scoresde.conditioning.covariances import Gaussian, Isotropic, Jacobian, ScoreForm, of_prior
from scoresde.conditioning.linear import Linear
from scoresde.conditioning.observed import Observed
from scoresde.conditioning.operators import Blur, Grey, Known, Matrix, Pool
from scoresde.conditioning.peers import diffpir, dps
from scoresde.conditioning.posterior import Posterior
from tests.conditioning.normal_pictures import LEFT, LINEAR, SHAPE
from tests.problems import Net, normal

POOL = Pool(2)
Y = POOL.forward(normal(1, *SHAPE))


class Wrong(Pool):
    def adjoint(self, v):
        return 4 * super().adjoint(v)


class Other(Pool):
    def forward(self, x):
        return super().forward(x) * torch.rand(())


def unflipped():
    """A kernel that is not mirrored in the adjoint."""
    blur = Blur(torch.tensor([[0.5, 0.4, 0.1]]), (4, 4))
    return Linear(blur.forward, blur.forward)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: Observed(POOL, Y, -0.1), ValueError, "tau must be finite and not negative, got -0.1"),
        (lambda: Observed(POOL, Y, torch.nan), ValueError, "tau must be finite and not negative, got nan"),
        (lambda: Observed(POOL, Y, torch.inf), ValueError, "tau must be finite and not negative, got inf"),
        (
            lambda: Observed(Blur.gaussian(3.0, (32, 32)), None, 0.0),
            ValueError,
            "tau must be positive for Blur",
        ),
        (
            lambda: Observed(Matrix(torch.ones(2, 3)), None, 0.0),
            ValueError,
            "tau must be positive for Matrix",
        ),
        (
            lambda: Observed(Linear(torch.clone, torch.clone), None, 0),
            ValueError,
            "positive for Linear, whose",
        ),
        (
            lambda: Observed(POOL, Y[0], 0.1),
            ValueError,
            "y must be one observation for all samples, (1, ...)",
        ),
        (
            lambda: Observed(POOL, Y.expand(2, -1, -1, -1), 0.1),
            ValueError,
            "got (2, 2, 2, 2); for one of each",
        ),
        (lambda: Observed(POOL, [[1.0]], 0.1), TypeError, "y must be a tensor or None, got list"),
        (lambda: Observed(POOL, Y.cfloat(), 0.1), ValueError, "y must be real"),
        (lambda: Observed(POOL, Y.long(), 0.1), ValueError, "finite floating-point numbers, got torch.int64"),
        (lambda: Observed(POOL, Y * torch.nan, 0.1), ValueError, "y must hold finite floating-point numbers"),
        (
            lambda: Observed(Grey(), torch.ones(1, 2, 4), 0.1),
            ValueError,
            "a grey picture must have 1 channel",
        ),
        (lambda: Observed(torch.clone, Y, 0.1), TypeError, "must have forward, adjoint and solve"),
        (lambda: Observed(Wrong(2), Y, 0.1), ValueError, "operator's adjoint is none: <A x, v> ="),
        (lambda: Observed(unflipped(), normal(1, 4, 4), 0.1), ValueError, "operator's adjoint is none"),
        (lambda: Observed(Other(2), Y, 0.1), ValueError, "two calls of its forward differ"),
        (lambda: Gaussian(torch.ones(2, 3)), ValueError, "covariance must be (d, d), finite and symmetric"),
        (lambda: Gaussian(torch.tensor([[1.0, 2.0], [0.0, 1.0]])), ValueError, "finite and symmetric"),
        (lambda: Gaussian(torch.tensor([[torch.nan]])), ValueError, "finite and symmetric"),
        (
            lambda: Gaussian(torch.tensor([[1.0, 2.0], [2.0, 1.0]])),
            ValueError,
            "negative eigenvalues, got -1",
        ),
        (lambda: Gaussian(torch.eye(3), (2,)), ValueError, "shape must hold 3 numbers"),
        (
            lambda: Gaussian.of_samples(torch.ones(1, 3)),
            ValueError,
            "data must hold at least 2 samples, got 1",
        ),
        (lambda: Jacobian(0), ValueError, "iterations must be at least 1, got 0"),
        (lambda: Jacobian(1.5), TypeError, "iterations must be an integer, got 1.5"),
        (lambda: of_prior(0.0), ValueError, "variance must be positive and finite, got 0.0"),
        (lambda: diffpir(None, None, torch.nan), ValueError, "lam must be positive and finite, got nan"),
        (lambda: dps(None, Observed(POOL, Y, 0.0)), ValueError, "tau must be positive for dps, got 0"),
    ],
)
def test_wrong_parts_are_refused(make, error, message):
    with pytest.raises(error, match=re.escape(message)):
        make()


def test_the_check_of_an_operator_leaves_the_global_random_state_alone():
    before = torch.get_rng_state()
    Observed(POOL, Y, 0.1)
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("y", [Y, Y.float()], ids=["float64", "float32"])
def test_right_operators_pass_their_check(y):
    for operator in (POOL, Linear(POOL.forward, POOL.adjoint)):
        assert Observed(operator, y, 0.1).shape == SHAPE
    assert Observed(LINEAR, normal(1, 10).to(y), 0.1).shape == SHAPE
    assert Observed(POOL, None, 0.1).shape is None


def network():
    return Denoiser(Net(), VPSDE(), predict.data, dtype=torch.float64)


LEVEL = VPSDE().level_at(0.5)


@pytest.mark.parametrize(
    ("y", "shape", "cond", "message"),
    [
        (
            Y,
            (3, 2, 4, 6),
            None,
            "x must be like the observation's, samples of shape (2, 4, 4), got (2, 4, 6)",
        ),
        (Y, (3, 32), None, "samples of shape (2, 4, 4), got (32,)"),
        (None, (3, *SHAPE), None, "cond must be the pair (inner, y)"),
        (None, (3, *SHAPE), Y, "cond must be the pair (inner, y)"),
        (None, (3, *SHAPE), (None, None), "cond must be the pair (inner, y)"),
        (None, (3, *SHAPE), (None, Y), "an observation for each of 3 samples, got 1"),
        (None, (3, *SHAPE), (None, torch.ones(3, 2, 3, 2)), "samples of shape (2, 6, 4), got (2, 4, 4)"),
    ],
)
def test_what_does_not_fit_is_refused_before_the_network_is_called(y, shape, cond, message):
    inner = network()
    for covariance in (Isotropic(), Jacobian(2)):
        posterior = Posterior(inner, Observed(POOL, y, 0.1), covariance)
        with pytest.raises(ValueError, match=re.escape(message)):
            posterior(torch.ones(shape, dtype=torch.float64), LEVEL, cond)
    assert inner.net.calls == 0


@pytest.mark.parametrize(
    ("cond", "message"),
    [
        (None, "cond must be the pair (inner, y)"),
        (torch.ones(3), "cond must be the pair (inner, y)"),
        ((None, torch.ones(2, 2, 2, 2)), "cond[1] must hold 3 conditions"),
        ((None, torch.ones(3, 2, 2, 2) * torch.nan), "cond[1], the observations, must be finite"),
        ((None, torch.ones(3, 2, 2, 2).long()), "cond[1], the observations, must be finite floating-point"),
        ((torch.tensor([0, 5, 1]), torch.ones(3, 2, 2, 2)), "cond[0] must hold labels in [0, 3]"),
    ],
)
def test_a_run_checks_the_pair_before_the_network_is_called(cond, message):
    inner = network()
    inner.net.classes = 3
    posterior = Posterior(inner, Observed(POOL, None, 0.1))
    with pytest.raises(ValueError, match=re.escape(message)):
        sample(posterior, "ddim", (3, *SHAPE), nfe=3, cond=cond)
    assert inner.net.calls == 0


def test_labels_inside_of_a_pair_reach_the_network_as_integers():
    inner = network()
    inner.net.classes = 3
    shared, each = (Posterior(inner, Observed(POOL, y, 0.1)) for y in (Y, None))
    assert (shared.classes, each.classes) == (3, None)
    labels, y = torch.tensor([0, 3, 1], dtype=torch.uint8), Y.expand(3, -1, -1, -1)
    first = sample(shared, "ddim", (3, *SHAPE), nfe=3, cond=labels, dtype=torch.float64)
    assert torch.equal(sample(each, "ddim", (3, *SHAPE), nfe=3, cond=(labels, y), dtype=torch.float64), first)


def test_a_covariance_of_other_samples_is_refused():
    with pytest.raises(ValueError, match=r"of samples like the observation's, \(2, 4, 4\), got \(2, 2, 8\)"):
        Posterior(network(), Observed(POOL, Y, 0.1), Gaussian(torch.eye(32), (2, 2, 8)))
    with pytest.raises(ValueError, match="a multiple of 2"):
        Posterior(network(), Observed(POOL, Y, 0.1), Gaussian(torch.eye(32)))


class Blind(Net):
    """A network that runs without gradients."""

    @torch.no_grad()
    def forward(self, x, t, cond=None):
        return super().forward(x, t)


class Foreign(nn.Module):
    """A user's denoiser; without its network's gradients, or not of x."""

    sde = VPSDE()

    def __init__(self, blind):
        super().__init__()
        self.net, self.blind = Net(), blind

    def forward(self, x, level):
        if self.blind:
            with torch.no_grad():
                return self.net(x, level.t)
        return self.net(torch.ones_like(x), level.t)


@pytest.mark.parametrize("covariance", [Jacobian(2), ScoreForm()])
@pytest.mark.parametrize(
    ("inner", "message"),
    [
        (Denoiser(Blind(), VPSDE(), predict.noise, dtype=torch.float64), "Blind runs without gradients"),
        (Foreign(blind=True), "needs the derivative of the estimate by x_t"),
        (Foreign(blind=False), "needs the derivative of the estimate by x_t"),
    ],
)
def test_an_estimate_without_a_derivative_is_refused(inner, message, covariance):
    posterior = Posterior(inner, Observed(POOL, Y, 0.1), covariance)
    with torch.no_grad(), pytest.raises(ValueError, match=message):
        posterior(normal(3, *SHAPE), LEVEL)


@pytest.mark.parametrize("covariance", [Jacobian(2), ScoreForm()])
def test_pure_noise_has_no_derivative(covariance):
    inner = Denoiser(Net(), RectifiedFlow(), predict.data, dtype=torch.float64)
    posterior = Posterior(inner, Observed(POOL, Y, 0.1), covariance)
    x, level = normal(3, *SHAPE), Level(1.0, 0.0, 1.0, -torch.inf)
    with pytest.raises(ValueError, match="is not defined at alpha = 0"):
        posterior(x, level)
    assert inner.net.calls == 0
    for other in (Isotropic(), Gaussian(torch.eye(32), SHAPE)):
        assert Posterior(inner, Observed(POOL, Y, 0.1), other)(x, level).isfinite().all()


def test_derivatives_in_low_precision_are_warned_of():
    low = Denoiser(Net(), EDM(), predict.data, dtype=torch.bfloat16)
    known = Observed(POOL, Y.float(), 0.1)
    with pytest.warns(UserWarning, match=r"Jacobian needs the derivatives .* rough in torch\.bfloat16"):
        posterior = Posterior(low, known, Jacobian(1))
    assert posterior(normal(2, *SHAPE).float(), EDM().level_at(1.0)).isfinite().all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Posterior(low, known)
        high = posterior.at(torch.float32)
    assert high.dtype == torch.float32
    with pytest.warns(UserWarning, match="rough"):
        high.at(torch.bfloat16)


def test_a_mask_of_whole_pixels_is_for_pictures_of_any_channels():
    known = Known(LEFT)
    for channels in (1, 2, 5):
        x = normal(1, channels, 4, 4)
        assert Observed(known, known.forward(x), 0.0).shape == (channels, 4, 4)
