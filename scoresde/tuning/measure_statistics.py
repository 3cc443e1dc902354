"""The statistics of a network that DPM-Solver-v3 is fitted to."""

import torch
from torch import Tensor
from tqdm import tqdm

from ..denoisers.apart import apart
from ..denoisers.protocol import DenoiserLike
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
    cond: Tensor | None = None,
    seed: int = 0,
    batch_size: int | None = None,
    progress: bool = False,
) -> Statistics:
    """Measure l and s of DPM-Solver-v3 on noised data, in 2 x points calls a datum, without a derivative.

    With x = alpha x_0 +- sigma z, d the network's estimate of x_0 and means over data, dimensions and z:

    * l = mean(sigma d eps / dx) = 1 - alpha mean(dd / dx), and mean(dd / dx) = mean(z d) / sigma for normal z
      (Stein 1981). Either sign of z is used, so that of d only the odd part counts, and the mean is divided
      by that of z^2: a d that is linear in x gives l without error.
    * s = argmin mean |f' - s f - b|^2, where f' is along the ODE and b takes the means away, is mean(f f') /
      mean(f^2) for f centred. The ODE carries each marginal into the next, so that this is d log rms(f) /
      dlam, and the integral of s is log rms(f). For the exact denoiser; a trained one keeps to it as well as
      its ODE keeps to the noised data.

    The centre c of f = u - d - l (u - c), u = x / alpha, is the estimate at the noisiest level, as in the
    solver. Zheng et al. 2023 (arXiv 2310.13268, section 3.1 and appendix C.1.1); they take l by forward
    differentiation, and s by the network's derivative along the ODE.

    Args:
        denoiser: what is to be sampled from.
        x0: ``(B, ...)`` data, or samples; a thousand will do. On the network's device, float32 or float64.
        points: levels, at equal steps in the half log-SNR over the SDE's time, at least 2.
        cond: ``(B,)`` or ``(B, ...)``, handed to the network.
        seed: of the noise.
        batch_size: data at a time, each twice; default, all.
        progress: show a progress bar with the time left.

    Raises:
        ValueError: too few points; an SDE whose alpha is 0 at t_max: clip it.
        FloatingPointError: the network's output is not finite.
    """
    levels, ask = Grid.build(denoiser.sde, points - 1, UniformLambda()).levels, apart(denoiser)
    size = min(batch_size or len(x0), len(x0))
    sums = torch.zeros(points, 5, dtype=torch.float64)
    starts = range(0, len(x0), size)
    with tqdm(total=points * len(starts), desc="statistics", unit="call", disable=not progress) as bar:
        for first in starts:
            part = slice(first, min(first + size, len(x0)))
            ids = torch.arange(part.start, part.stop, device=x0.device)
            z = _signed(Noise(seed, ids, tuple(x0.shape[1:]))(0).to(x0), -1)
            data = _signed(x0[part], 1)
            given = None if cond is None else _signed(cond[part], 1)
            for i, level in enumerate(levels):
                x = level.alpha * data + level.sigma * z
                d = ask(x, level, given)
                if i == 0:
                    centre = _signed(d.reshape(2, -1, *d.shape[1:]).mean(0), 1)
                away, found = exact(x / level.alpha - centre), exact(d - centre)
                drawn = z.to(found.device)
                pairs = ((drawn, drawn), (drawn, found), (away, away), (away, found), (found, found))
                sums[i] += torch.stack([(a * b).sum() for a, b in pairs]).cpu()
                bar.update()
    zz, zd, uu, ud, dd = (sums / (2 * x0.numel())).unbind(1)
    lam = torch.tensor([level.lam for level in levels], dtype=torch.float64)
    rest = lam.exp() * zd / zz  # 1 - l
    f2 = rest**2 * uu - 2 * rest * ud + dd  # f = (1 - l) (u - c) - (d - c)
    if not torch.isfinite(f2).all():
        raise FloatingPointError("the network's output is not finite at some level")
    # Where f is nothing but rounding, as for data that is a single point, any s will do.
    log_rms = 0.5 * torch.maximum(f2, 1e-15 * dd + 1e-30).log()
    return Statistics(*(tuple(values.tolist()) for values in (lam, 1 - rest, log_rms)))


def _signed(x: Tensor, sign: int) -> Tensor:
    """x, and below it the same once more, or its negative."""
    return torch.cat([x, sign * x])
