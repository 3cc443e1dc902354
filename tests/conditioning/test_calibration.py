"""Posteriors are calibrated where they are exact, and their law does not depend on the number of calls.

Of many observations, each from its own truth, the truth and the draws of its posterior have one law: the rank
of the truth among 19 draws is uniform on 0 .. 19, and 18 of 20 ranks lie between the extreme draws, which
makes these a 90 % interval.
"""

import pytest
import torch
from posterior_methods import EXACT, METHODS, Method, Task, by_path, covariance_of, isotropic
from posterior_problems import PROBLEMS
from posterior_truth import Truth
from scipy.stats import chisquare
from torch import Tensor

from scoresde import EDM, Jacobian, Observed, Posterior

DRAWS = 19


def ranks(problem: str, method: Method, n: int, tau: float = 0.3) -> Tensor:
    """The ranks of n truths among their draws, ``(3, n)``: a seen number, an unseen one, and the norm."""
    made = PROBLEMS[problem]()
    x = made.prior.sample(n, seed=11)
    task = Task(made, tau, made.observed(x, tau, 11), DRAWS, seed=5)
    draws = method.draw(task).x.unflatten(0, (n, DRAWS))

    def statistics(x: Tensor) -> Tensor:
        return torch.stack([x[..., 0], x[..., -1], x.square().sum(-1)])

    return (statistics(draws) < statistics(x)[..., None]).sum(-1)


def coverage(found: Tensor) -> float:
    return ((found > 0) & (found < DRAWS)).double().mean().item()


def uniform(found: Tensor) -> float:
    """The p-value of chi^2 against a uniform rank."""
    return chisquare(found.bincount(minlength=DRAWS + 1).numpy()).pvalue


JACOBIAN = by_path(lambda task: Posterior(task.denoiser, task.observed, Jacobian(8)), nfe=30)
CALIBRATED = {
    "exact on mix2": ("mix2", METHODS[EXACT], 1000),
    "data covariance on gauss16": ("gauss16", METHODS["data covariance"], 1000),
    "Jacobian on gauss16": ("gauss16", JACOBIAN, 500),
}


@pytest.mark.parametrize("case", CALIBRATED)
def test_truths_rank_among_their_draws_as_one_of_them(case: str) -> None:
    """p > .01 for each of three statistics; a share of .9 +- .03, three standard errors for 1,000 truths."""
    for found in ranks(*CALIBRATED[case]):
        assert uniform(found) > 0.01
        assert 0.87 <= coverage(found) <= 0.93


def test_a_posterior_of_another_noise_is_found_out() -> None:
    """With twice the noise that y has, the draws of a seen number spread too far."""

    def wrong(task: Task) -> Posterior:
        observed = Observed(task.observed.operator, None, 2 * task.tau)
        return Posterior(task.denoiser, observed, covariance_of(task.problem))

    seen, *_ = ranks("gauss16", by_path(wrong, nfe=30), 500)
    assert uniform(seen) < 1e-6
    assert coverage(seen) > 0.93


@pytest.mark.parametrize("covariance", [covariance_of, isotropic], ids=["data", "isotropic"])
def test_the_law_of_100_calls_is_that_of_400(covariance) -> None:
    """Sliced W2 to the exact posterior differs by less than that of exact draws: the floor."""
    problem, draws, tau = PROBLEMS["mix16"](), 256, 0.5
    y = problem.observations(tau, 4, 0)
    task = Task(problem, tau, y, draws, 0)
    truth = Truth(problem, tau, y, EDM().level_at(EDM().t_min), draws)

    def distance(nfe: int) -> float:
        method = by_path(lambda task: Posterior(task.denoiser, task.observed, covariance(problem)), nfe)
        return truth.figures(method.draw(task).x)["w2"]

    floor = truth.figures(truth.exact_draws(0))["w2"]
    assert abs(distance(100) - distance(400)) < floor
