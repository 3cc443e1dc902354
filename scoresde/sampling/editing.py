"""Editing: runs that begin with something given, a picture or any other sample.

Each function takes a prepared run (:func:`scoresde.prepare`) or a grid, and the further arguments of
:func:`scoresde.sample`. Noise is given by sigma / alpha, in units of the data: a share of the steps of a run
would change its meaning with the spacing.
"""

import math
from typing import Any

import torch
from torch import Tensor

from ..conditioning.observed import Observed
from ..conditioning.operators import Known
from ..conditioning.posterior import Posterior
from ..denoisers.conditions import Condition, check_rows, mapped
from ..denoisers.protocol import DenoiserLike, as_denoiser
from ..integer import integer
from ..noise import Noise
from ..plans.levels import outside
from ..plans.plan import Plan
from ..processes.level import Level
from ..processes.sde import SDE
from ..solvers.integrators.base import Integration
from ..solvers.integrators.inversion import decoding, encoding
from ..spacings.grid import Grid
from .sample import sample

Run = Plan | Integration

NEXT_DRAW = 2**32  # from the number of a draw to that of the next draw of the same sample


def up_to(sde: SDE, sigma: float) -> SDE:
    """The process on the levels up to sigma / alpha = ``sigma``; a run under it begins there.

    Args:
        sde: the process.
        sigma: the noisiest sigma / alpha.

    Raises:
        ValueError: a sigma beyond the levels of the process.
    """
    noisiest, cleanest = sde.lam_ends()
    lam = -math.log(sigma) if sigma > 0 else math.inf
    if not noisiest - 1e-9 <= lam < cleanest:  # rounding of a logarithm
        raise ValueError(
            f"sigma must be above {math.exp(-cleanest):.4g} and at most {math.exp(-noisiest):.4g}, the "
            f"sigma / alpha of {sde}, got {sigma!r}"
        )
    return sde.clip(lam, cleanest)


def noised(level: Level[float], x0: Tensor, *, seed: int = 0, ids: Tensor | None = None) -> Tensor:
    """alpha x_0 + sigma eps, like x_0 ``(B, ...)``: a state at a level, such as ``plan.start``.

    eps is draw 0 of the noise of each sample, so a run with the same seed and ids goes on with other noise.

    Args:
        level: the level.
        x0: the samples.
        seed: the seed of the noise.
        ids: the numbers of the samples, ``(B,)``; default 0 .. B - 1.
    """
    ids = torch.arange(len(x0)) if ids is None else ids
    eps = Noise(seed, ids.long().to(x0.device), tuple(x0.shape[1:]))(0)
    return level.alpha * x0 + level.sigma * eps.to(x0.dtype)


def redrawn(
    denoiser: DenoiserLike,
    run: Run,
    x0: Tensor,
    *,
    draws: int = 1,
    seed: int = 0,
    ids: Tensor | None = None,
    cond: Condition = None,
    **options: Any,
) -> Tensor:
    """Samples near x_0: noise is added up to the start of the run, and taken away.

    For each state x_t of the start this samples p(x_0 | x_t). The more noise, the less of x_0 is kept. Draw j
    of a sample is the same for any number of draws.

    Meng et al. 2022 (arXiv 2108.01073, SDEdit). Difference: any solver, and the noise as sigma / alpha.

    Example:
        ``redrawn(denoiser, prepare("auto", up_to(denoiser.sde, 2.0), 20), x0, draws=4)``

    Args:
        denoiser: the estimate of x_0.
        run: the run, which begins at the wanted level.
        x0: the samples, ``(B, ...)``.
        draws: the number of results for each sample.
        seed: the seed of the noise.
        ids: the numbers of the samples, ``(B,)``; default 0 .. B - 1.
        cond: conditions, a row for each sample.
        options: further arguments of :func:`sample`.

    Returns:
        The results, ``(B, draws, ...)``.

    Raises:
        ValueError: fewer than 1 draw; the errors of :func:`sample`.
    """
    numbers = _numbers(ids, len(x0), draws)
    begin = noised(run.start, x0.repeat_interleave(draws, 0), seed=seed, ids=numbers)
    return _drawn(denoiser, run, x0, draws, x=begin, ids=numbers, cond=cond, seed=seed, **options)


def denoised(
    denoiser: DenoiserLike,
    run: Run,
    y: Tensor,
    *,
    draws: int = 8,
    ids: Tensor | None = None,
    cond: Condition = None,
    **options: Any,
) -> Tensor:
    """Draws of the posterior p(x_0 | y) of noisy samples y = x_0 + tau n, tau = sigma / alpha at the start.

    alpha y is a state x_t of that level, so the law of the results is exact for an exact denoiser and many
    steps: there is no approximation of a likelihood.

    Example:
        ``denoised(denoiser, prepare("dpmpp-2m-sde", up_to(denoiser.sde, tau), 50), y)``

    Args:
        denoiser: the estimate of x_0.
        run: a run that draws noise, and begins at the level of the noise of y.
        y: noisy samples in units of the data, ``(B, ...)``.
        draws: the number of draws for each sample.
        ids: the numbers of the samples, ``(B,)``; default 0 .. B - 1.
        cond: conditions, a row for each sample.
        options: further arguments of :func:`sample`.

    Returns:
        The draws, ``(B, draws, ...)``.

    Raises:
        ValueError: a run without noise, whose draws would be equal; fewer than 1 draw; the errors of
            :func:`sample`.
    """
    if not run.stochastic:
        raise ValueError(
            "run must be of a solver that draws noise, such as dpmpp-2m-sde: without, all draws are equal"
        )
    numbers = _numbers(ids, len(y), draws)
    begin = run.start.alpha * y.repeat_interleave(draws, 0)
    return _drawn(denoiser, run, y, draws, x=begin, ids=numbers, cond=cond, **options)


def repainted(
    denoiser: DenoiserLike,
    run: Run,
    x0: Tensor,
    mask: Tensor,
    *,
    draws: int = 1,
    ids: Tensor | None = None,
    cond: Condition = None,
    **options: Any,
) -> Tensor:
    """Samples that are x_0 where the mask is 1, and drawn given these parts where it is 0.

    It is a run of :class:`scoresde.Posterior` with an isotropic covariance and without noise in the
    observation, which is an approximation; the known parts are put back at its end, to the last bit.

    Args:
        denoiser: the estimate of x_0.
        run: a run from the noisy end of the process, best of a solver that draws noise.
        x0: the samples, ``(B, ...)``.
        mask: 1 or True where x_0 is kept, else 0; see :class:`scoresde.Known`.
        draws: the number of results for each sample.
        ids: the numbers of the samples, ``(B,)``; default 0 .. B - 1.
        cond: conditions, a row for each sample.
        options: further arguments of :func:`sample`.

    Returns:
        The results, ``(B, draws, ...)``.

    Raises:
        ValueError: a mask of another shape, or that keeps all; fewer than 1 draw; the errors of
            :func:`sample`.
    """
    known = Known(mask)
    if known.mask.all():
        raise ValueError("mask must be 0 where samples are repainted, got 1 everywhere")
    given = Posterior(denoiser, Observed(known, None, 0.0))
    numbers = _numbers(ids, len(x0), draws)
    results = _drawn(given, run, x0, draws, ids=numbers, cond=(cond, known.forward(x0)), **options)
    return torch.where(known.mask.to(results.device), x0[:, None].to(results), results)


def encode(denoiser: DenoiserLike, grid: Grid, x0: Tensor, **options: Any) -> Tensor:
    """The latent of samples: the probability-flow ODE from the last level of a grid to the first.

    :func:`decode` with the same denoiser, grid and conditions gives the samples back to rounding, for any
    number of steps; with another condition or guidance, it changes them and keeps the rest. See
    :mod:`scoresde.solvers.integrators.inversion`.

    Example:
        ``decode(denoiser, grid, encode(denoiser, grid, x0, cond=old), cond=new)``, with
        ``grid = Grid.build(denoiser.sde, 50, "karras")``

    Args:
        denoiser: the estimate of x_0.
        grid: the levels, of at least 2 steps; one network call a step. Karras levels suit; a grid under
            :func:`up_to` ends the encoding earlier, and so keeps more of the samples. Clean pictures lack the
            noise that the network expects at the last levels; to change them, let a grid end at
            sigma / alpha = 0.05 or so (:meth:`scoresde.SDE.clip`).
        x0: the samples, ``(B, ...)``.
        options: further arguments of :func:`sample`, such as ``cond``.

    Returns:
        The latent, ``(B, 2, ...)``: x / alpha at the second and at the first level.

    Raises:
        ValueError: a grid of another process than the denoiser's, or with alpha = 0; the errors of
            :func:`sample`.
    """
    _check_process(denoiser, grid)
    return sample(denoiser, encoding(grid), x0.shape, x=x0, **options)


def decode(denoiser: DenoiserLike, grid: Grid, latent: Tensor, **options: Any) -> Tensor:
    """The samples ``(B, ...)`` of a latent ``(B, 2, ...)`` of :func:`encode`.

    Args:
        denoiser: the estimate of x_0.
        grid: the levels of the encoding.
        latent: the pairs.
        options: further arguments of :func:`sample`, such as ``cond``.

    Raises:
        ValueError: a latent that is not of pairs; as :func:`encode`.
    """
    _check_process(denoiser, grid)
    if latent.ndim < 2 or latent.shape[1] != 2:
        raise ValueError(f"latent must be pairs of states, (B, 2, ...), got {tuple(latent.shape)}")
    return sample(denoiser, decoding(grid), latent.shape, x=latent, **options)


def _drawn(
    denoiser: DenoiserLike, run: Run, given: Tensor, draws: int, *, cond: Condition, **options: Any
) -> Tensor:
    """The ends of a run for given samples ``(B, ...)``, each of them ``draws`` times, ``(B, draws, ...)``."""
    check_rows(cond, len(given))
    cond = mapped(lambda tensor: tensor.repeat_interleave(draws, 0), cond)
    ends = sample(denoiser, run, (len(given) * draws, *given.shape[1:]), cond=cond, **options)
    return ends.reshape(len(given), draws, *given.shape[1:])


def _numbers(ids: Tensor | None, samples: int, draws: int) -> Tensor:
    """The numbers of all draws of all samples, whose noise they determine; draw 0 has that of its sample."""
    draws = integer("draws", draws, 1)
    ids = torch.arange(samples) if ids is None else ids.long().cpu()
    if ids.shape != (samples,):
        raise ValueError(f"ids must be {samples} integers, got shape {tuple(ids.shape)}")
    return (ids[:, None] + NEXT_DRAW * torch.arange(draws)).flatten()


def _check_process(denoiser: DenoiserLike, grid: Grid) -> None:
    off = outside(as_denoiser(denoiser).sde, grid.levels)
    if off is not None:
        raise ValueError(f"grid must be of the process of the denoiser, {denoiser.sde}, got the level {off}")
