"""Measure the statistics of a network that DPM-Solver-v3 needs."""

import torch
from torch import Tensor
from tqdm import tqdm

from ..denoisers.apart import apart
from ..denoisers.conditions import Condition, joined, rows_of
from ..denoisers.protocol import DenoiserLike, as_denoiser
from ..devices import exact
from ..noise import Noise
from ..solvers.empirical_statistics import Statistics
from ..spacings.formulas import UniformLambda
from ..spacings.grid import Grid


@torch.no_grad()
def model_statistics(
    denoiser: DenoiserLike,
    x0: Tensor,
    *,
    points: int = 100,
    cond: Condition = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Statistics:
    """Measure l and s of DPM-Solver-v3 on noised data, by 2 x points evaluations a datum, no derivatives.

    Let x = alpha x_0 +- sigma z, d the estimate of x_0, and u = x / alpha. Means are over data, dimensions
    and z.

    * l = mean(sigma d eps / dx) = 1 - alpha mean(dd / dx), and mean(dd / dx) = mean(z d) / sigma for normal
      z (Stein 1981). Two choices lower the variance: both signs of z are used, so that only the odd part of
      d counts; and the mean is divided by mean(z^2), so that l is exact for a linear d.
    * s = argmin mean |f' - s f - b|^2 = mean(f f') / mean(f^2), with f = u - d - l (u - c) centred. f' is the
      derivative along the ODE, and b removes the means. The ODE carries each marginal into the next, so that
      this is d log rms(f) / dlam, and the integral of s is log rms(f). This holds for the exact denoiser; for
      a trained one, as far as its ODE carries the noised data into noised data.

    c is the estimate at the noisiest level, as in the solver. Zheng et al. 2023 (arXiv 2310.13268, section
    3.1 and appendix C.1.1) compute l by forward differentiation, and s from the network's derivative along
    the ODE.

    Args:
        denoiser: the network.
        x0: data ``(B, ...)``, or samples, float32 or float64, on the network's device; a thousand are enough.
        points: the number of levels, at least 2, at equal steps in the half log-SNR over the SDE's time.
        cond: conditions ``(B,)`` or ``(B, ...)``.
        seed: of the noise.
        batch_size: data in one network call, each with both signs of z; default, all.
        progress: show a progress bar.

    Raises:
        ValueError: too few points, or an SDE whose alpha is 0 at t_max (clip it).
        FloatingPointError: the output of the network is not finite.
    """
    levels = Grid.build(denoiser.sde, points - 1, UniformLambda()).levels
    ask = apart(as_denoiser(denoiser))
    size = min(batch_size or len(x0), len(x0))
    sums = torch.zeros(points, 5, dtype=torch.float64)
    starts = range(0, len(x0), size)
    with tqdm(total=points * len(starts), desc="statistics", unit="call", disable=not progress) as bar:
        for first in starts:
            part = slice(first, min(first + size, len(x0)))
            ids = torch.arange(part.start, part.stop, device=x0.device)
            z = _with_sign(Noise(seed, ids, tuple(x0.shape[1:]))(0).to(x0), -1)
            data = _with_sign(x0[part], 1)
            given = rows_of(cond, part)
            given = joined(given, given)
            for i, level in enumerate(levels):
                x = level.alpha * data + level.sigma * z
                d = ask(x, level, given)
                if i == 0:
                    centre = _with_sign(d.reshape(2, -1, *d.shape[1:]).mean(0), 1)
                sums[i] += _products(z, x / level.alpha - centre, d - centre)
                bar.update()
    lam = torch.tensor([level.lam for level in levels], dtype=torch.float64)
    return _statistics(lam, sums / (2 * x0.numel()))


def _products(z: Tensor, u: Tensor, d: Tensor) -> Tensor:
    """The sums of zz, zd, uu, ud and dd, u and d less the centre, in float64 on the host."""
    u, d = exact(u), exact(d)
    z = z.to(d.device)
    return torch.stack([(a * b).sum() for a, b in ((z, z), (z, d), (u, u), (u, d), (d, d))]).cpu()


def _statistics(lam: Tensor, means: Tensor) -> Statistics:
    """l and log rms(f) from the means of :func:`_products` at each level."""
    zz, zd, uu, ud, dd = means.unbind(1)
    rest = lam.exp() * zd / zz  # 1 - l
    f2 = rest**2 * uu - 2 * rest * ud + dd  # f = (1 - l) (u - c) - (d - c)
    if not torch.isfinite(f2).all():
        raise FloatingPointError("the network's output is not finite at some level")
    # Where f is only rounding, for example for data that is a single point, any s is right.
    log_rms = 0.5 * torch.maximum(f2, 1e-15 * dd + 1e-30).log()
    return Statistics(*(tuple(values.tolist()) for values in (lam, 1 - rest, log_rms)))


def _with_sign(x: Tensor, sign: int) -> Tensor:
    """x, followed by sign x."""
    return torch.cat([x, sign * x])
