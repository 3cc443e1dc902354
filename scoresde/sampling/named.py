"""The familiar samplers of the field: special cases of :func:`scoresde.sample`."""

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

    Args:
        net: the network ``net(x, t)``.
        sde: the process, or its name.
        shape: the shape of the result, ``(B, ...)``.
        prediction: what the network estimates.
        nfe: the budget of network calls.
        eta: the factor on the noise; 1 is the reverse SDE.
        options: further arguments of :func:`sample`.
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

    Args:
        net: the network ``net(x, t)``.
        sde: the process, or its name.
        shape: the shape of the result, ``(B, ...)``.
        prediction: what the network estimates.
        nfe: the budget of network calls.
        snr: the signal-to-noise ratio of the corrector.
        corrections: the number of corrections after each predictor step.
        measured: measure the norm of the score, as published, in place of its expected value.
        options: further arguments of :func:`sample`.
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

    Args:
        net: the network ``net(x, t)``.
        sde: the process, or its name.
        shape: the shape of the result, ``(B, ...)``.
        prediction: what the network estimates.
        nfe: the budget of network calls; None for no limit.
        method: the method of torchdiffeq.
        rtol: the relative tolerance.
        atol: the absolute tolerance.
        options: further arguments of :func:`sample`.
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

    Args:
        net: the network ``net(x, t)``.
        sde: the process, or its name.
        shape: the shape of the result, ``(B, ...)``.
        prediction: what the network estimates.
        nfe: the budget of network calls.
        eta: the factor on the noise; 0 is deterministic.
        options: further arguments of :func:`sample`.
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

    Args:
        net: the network ``net(x, t)``.
        sde: the process, or its name.
        shape: the shape of the result, ``(B, ...)``.
        prediction: what the network estimates.
        nfe: the budget of network calls.
        order: 1, 2 or 3.
        options: further arguments of :func:`sample`.
    """
    return sample(Denoiser(net, sde, prediction), DPMSolver(order), shape, nfe=nfe, **options)
