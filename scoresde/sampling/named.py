"""The field's familiar samplers: special cases of :func:`scoresde.sample`."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from ..denoisers.network import Denoiser
from ..denoisers.predictions import Prediction
from ..processes.sde import SDE
from ..solvers.dpm import DPMSolver
from ..solvers.first_order import DDIM, EulerMaruyama
from ..solvers.integrators.ode import ODE
from ..solvers.langevin import PredictorCorrector
from ..spacings.formulas import UniformTime
from .sample import sample

Net = Callable[..., Tensor]


def em_sampler(
    net: Net,
    sde: SDE | str,
    shape: Sequence[int],
    *,
    prediction: Prediction | str,
    nfe: int = 1000,
    eta: float = 1.0,
    **options: Any,
) -> Tensor:
    """Euler-Maruyama on the reverse SDE, in equal steps of t (:class:`scoresde.solvers.EulerMaruyama`).

    ``net(x, t)``, ``prediction`` what it estimates; ``options`` are those of :func:`sample`.
    """
    options = {"spacing": UniformTime()} | options
    return sample(Denoiser(net, sde, prediction), EulerMaruyama(eta), shape, nfe=nfe, **options)


def pc_sampler(
    net: Net,
    sde: SDE | str,
    shape: Sequence[int],
    *,
    prediction: Prediction | str,
    nfe: int = 1000,
    snr: float = 0.16,
    corrections: int = 1,
    measured: bool = False,
    **options: Any,
) -> Tensor:
    """Predictor-corrector sampling, in equal steps of t (:class:`scoresde.solvers.PredictorCorrector`).

    ``net(x, t)``, ``prediction`` what it estimates; ``options`` are those of :func:`sample`.
    """
    solver = PredictorCorrector(snr=snr, corrections=corrections, measured=measured)
    options = {"spacing": UniformTime()} | options
    return sample(Denoiser(net, sde, prediction), solver, shape, nfe=nfe, **options)


def ode_sampler(
    net: Net,
    sde: SDE | str,
    shape: Sequence[int],
    *,
    prediction: Prediction | str,
    nfe: int | None = None,
    method: str = "dopri5",
    rtol: float = 1e-5,
    atol: float = 1e-5,
    **options: Any,
) -> Tensor:
    """The probability-flow ODE by torchdiffeq (:class:`scoresde.solvers.ODE`).

    ``net(x, t)``, ``prediction`` what it estimates; ``options`` are those of :func:`sample`.
    """
    return sample(Denoiser(net, sde, prediction), ODE(method, rtol, atol), shape, nfe=nfe, **options)


def ddim_sampler(
    net: Net,
    sde: SDE | str,
    shape: Sequence[int],
    *,
    prediction: Prediction | str,
    nfe: int = 50,
    eta: float = 0.0,
    **options: Any,
) -> Tensor:
    """DDIM (:class:`scoresde.solvers.DDIM`).

    ``net(x, t)``, ``prediction`` what it estimates; ``options`` are those of :func:`sample`.
    """
    return sample(Denoiser(net, sde, prediction), DDIM(eta), shape, nfe=nfe, **options)


def dpm_sampler(
    net: Net,
    sde: SDE | str,
    shape: Sequence[int],
    *,
    prediction: Prediction | str,
    nfe: int = 20,
    order: int = 2,
    **options: Any,
) -> Tensor:
    """DPM-Solver (:class:`scoresde.solvers.DPMSolver`).

    ``net(x, t)``, ``prediction`` what it estimates; ``options`` are those of :func:`sample`.
    """
    return sample(Denoiser(net, sde, prediction), DPMSolver(order), shape, nfe=nfe, **options)
