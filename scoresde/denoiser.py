"""Where a network meets a noise level: what it is shown, and what its output means."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from .apart import watched
from .sde import SDE, Level


class Affine(NamedTuple):
    """E[x_0 | x_t] = skip x_t + out net(scale x_t, time), each a float or a tensor.

    ``time`` None: the network is told ``sde.label(t)``.
    """

    scale: Any
    skip: Any
    out: Any
    time: Any = None


Prediction = Callable[[Level[Any]], Affine]


def noise(level: Level[Any]) -> Affine:
    """The network estimates eps (Ho et al. 2020, arXiv 2006.11239)."""
    return Affine(1.0, 1 / level.alpha, -level.sigma / level.alpha)


def score(level: Level[Any]) -> Affine:
    """The network estimates grad log p_t = -eps / sigma (Song et al. 2021, arXiv 2011.13456)."""
    return Affine(1.0, 1 / level.alpha, level.sigma**2 / level.alpha)


def data(level: Level[Any]) -> Affine:
    """The network estimates x_0."""
    return Affine(1.0, 0.0, 1.0)


def v(level: Level[Any]) -> Affine:
    """The network estimates alpha eps - sigma x_0 (Salimans and Ho 2022, arXiv 2202.00512, appendix D)."""
    norm = level.alpha**2 + level.sigma**2
    return Affine(1.0, level.alpha / norm, -level.sigma / norm)


def velocity(level: Level[Any]) -> Affine:
    """The network estimates eps - x_0, the velocity of rectified flow (Liu et al. 2023, arXiv 2209.03003)."""
    total = level.alpha + level.sigma
    return Affine(1.0, 1 / total, -level.sigma / total)


def edm(sigma_data: float = 0.5) -> Prediction:
    """Preconditioning of Karras et al. 2022 (arXiv 2206.00364, Table 1), for any alpha: theirs at x / alpha.

    ``sigma_data`` is the deviation of the data. The network is told log(sigma / alpha) / 4, whatever the SDE:
    it serves every process within the range of sigma / alpha that it was trained on.
    """
    if not 0 < sigma_data < math.inf:
        raise ValueError(f"sigma_data must be positive and finite, got {sigma_data!r}")

    def prediction(level: Level[Any]) -> Affine:
        # Theirs, multiplied out by alpha so that alpha = 0 is no pole.
        norm = level.sigma**2 + (level.alpha * sigma_data) ** 2
        root = norm**-0.5
        skip, out = sigma_data**2 * level.alpha / norm, level.sigma * sigma_data * root
        return Affine(root, skip, out, -level.lam / 4)

    return prediction


PREDICTIONS: dict[str, Callable[..., Prediction]] = {
    "noise": lambda: noise,
    "score": lambda: score,
    "data": lambda: data,
    "v": lambda: v,
    "velocity": lambda: velocity,
    "edm": edm,
}


class Denoiser(nn.Module):
    """E[x_0 | x_t] from any network.

    ``skip x_t + out net(scale x_t, time)`` with three numbers a level that ``prediction`` gives.

    Args:
        net: any module or callable ``(x, t[, cond]) -> like x``; x ``(B, ...)``, t ``(B,)``.
        sde: the process.
        prediction: what the network estimates: :func:`noise`, :func:`score`, :func:`data`, :func:`v`,
            :func:`velocity` or :func:`edm`. There is no default, for nothing tells a wrong one by its looks.
        dtype: precision of the network alone: float32 or float64, to which x is cast, or bfloat16 or float16,
            in which it runs under autocast, x staying float32. None: the type of x.

    Raises:
        TypeError: an argument of another kind; later, a network that does not return a tensor.
        ValueError: another dtype; later, an output of another shape or type than the network's input.
    """

    def __init__(
        self,
        net: Callable[..., Tensor],
        sde: SDE,
        prediction: Prediction,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not callable(net) or not isinstance(sde, SDE) or not callable(prediction):
            raise TypeError(
                f"Denoiser needs a callable net, an SDE and a prediction, got {type(net).__name__}, "
                f"{type(sde).__name__}, {type(prediction).__name__}"
            )
        if dtype not in DTYPES:
            raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
        self.net, self.sde, self.prediction, self.dtype = net, sde, prediction, dtype
        self._writes: bool | None = None  # does the network write to its input? known from its first call

    def forward(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        """x: ``(B, ...)``; level: floats, or tensors ``()``, ``(B,)`` or ``(B, 1, ...)``; returns as x."""
        level = Level(*(_per_sample(number, x) for number in level))
        c = self.prediction(level)
        scale, skip, out = (_cast(number, x) for number in c[:3])
        time = self._time(c, level)
        if isinstance(scale, Tensor) or scale != 1:
            output = self._output(scale * x, time, cond)
        elif self._writes is False:
            output = self._output(x, time, cond)
        else:
            output = self._of_copy(x, time, cond)
        if torch.is_grad_enabled() or isinstance(skip, Tensor):
            estimate: Tensor = out * output + skip * x
        else:
            estimate = (out * output).add_(x, alpha=skip)  # the same, with a temporary fewer
        return estimate

    def loss(self, x0: Tensor, t: Tensor, eps: Tensor, cond: Tensor | None = None) -> Tensor:
        """Denoising score matching: mean squared error of the network's own output.

        The target ``((1 - skip alpha) x_0 - skip sigma eps) / out`` *is* eps, the score, x_0, v, or EDM's F
        (Vincent 2011; Song et al. 2021, eq. 7), its two factors computed in float64. x0, eps ``(B, ...)``; t
        ``(B,)``; returns ``(B,)``.
        """
        level = self.sde.level(_per_sample(t.double(), x0))
        c = self.prediction(level)
        on_x0, on_eps = (1 - c.skip * level.alpha) / c.out, -c.skip * level.sigma / c.out
        target = _cast(on_x0, x0) * x0 + _cast(on_eps, x0) * eps
        noisy = _cast(c.scale * level.alpha, x0) * x0 + _cast(c.scale * level.sigma, x0) * eps
        output = self._output(noisy, self._time(c, level), cond)
        error: Tensor = (output - target).square()
        return error.flatten(1).mean(1) if error.ndim > 1 else error

    def _time(self, c: Affine, level: Level[Any]) -> Any:
        return self.sde.label(level.t) if c.time is None else c.time

    def _of_copy(self, x: Tensor, time: Any, cond: Tensor | None) -> Tensor:
        """The network's output at x, which is read again after it."""
        if self._writes is None and not torch.compiler.is_compiling():
            output, self._writes = watched(lambda shown: self._output(shown, time, cond), x.clone(), x)
            return output
        return self._output(x.clone(), time, cond)

    def _output(self, x: Tensor, time: Any, cond: Tensor | None) -> Tensor:
        low = self.dtype is not None and self.dtype.itemsize < 4
        shown = x.to(torch.float32 if low else self.dtype or x.dtype)
        if isinstance(time, Tensor):
            if time.numel() != 1 and not (len(time) == len(x) == time.numel()):
                raise ValueError(
                    f"level must be one number, or one for each of {len(x)} samples, for the network is told "
                    f"one label a sample; got shape {tuple(time.shape)}"
                )
            label = time.flatten().to(shown.dtype).expand(len(x))
        else:
            label = shown.new_full((len(x),), time)
        with torch.autocast(x.device.type, self.dtype) if low else nullcontext():
            output: Tensor = self.net(shown, label) if cond is None else self.net(shown, label, cond)
        if not isinstance(output, Tensor):
            raise TypeError(f"the network must return a tensor, got {type(output).__name__}")
        if output.shape != x.shape or (output.dtype != shown.dtype and output.dtype.itemsize >= 4):
            raise ValueError(
                f"the network must return the shape and type of its input, {tuple(x.shape)} {shown.dtype}, "
                f"got {tuple(output.shape)} {output.dtype}"
            )
        return output.to(x.dtype)


class Transported(nn.Module):
    """A denoiser trained under one SDE, used under another: D(alpha' / alpha x, t'), lam equal at t and t'.

    x_t / alpha_t has the same law at equal sigma / alpha, whatever the SDE (Karras et al. 2022, arXiv
    2206.00364, section 2). ``sde`` is the new process on the part of its time that the network was trained
    on.

    Raises:
        ValueError: the two processes have no sigma / alpha in common.
    """

    def __init__(self, denoiser: Denoiser, sde: SDE) -> None:
        super().__init__()
        ends = torch.tensor([denoiser.sde.t_max, denoiser.sde.t_min], dtype=torch.float64)
        self.denoiser, self.sde = denoiser, sde.clip(*denoiser.sde.lam(ends).tolist())

    @property
    def net(self) -> Callable[..., Tensor]:
        """The network within."""
        return self.denoiser.net

    def forward(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        """x: ``(B, ...)``; level: floats, or tensors ``(B,)``, of the new process; returns ``(B, ...)``."""
        trained = self.denoiser.sde
        time = trained.time_of(torch.as_tensor(level.lam, dtype=torch.float64))
        own: Level[Any] = trained.level(time.clamp(trained.t_min, trained.t_max))
        if not isinstance(level.lam, Tensor):
            own = Level(*torch.stack(own).tolist())
        scale = _cast(_per_sample(own.alpha / level.alpha, x), x)
        estimate: Tensor = self.denoiser(scale * x, own, cond)
        return estimate


# Precisions of a network; None is that of its input.
DTYPES = (None, torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _per_sample(number: Any, x: Tensor) -> Any:
    """A number for every sample, ``(B,)``, in a shape that broadcasts with x; anything else as it is."""
    if isinstance(number, Tensor) and number.ndim == 1:
        return number.reshape(-1, *[1] * (x.ndim - 1))
    return number


def _cast(number: Any, x: Tensor) -> Any:
    """A coefficient, computed in float64, in the type of x."""
    return number.to(x.dtype) if isinstance(number, Tensor) else number
