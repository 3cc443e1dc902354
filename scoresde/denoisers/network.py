"""Where a network meets a noise level."""

import copy
from collections.abc import Callable
from contextlib import nullcontext
from itertools import islice
from typing import Any, Self

import torch
from torch import Tensor, nn

from ..devices import exact
from ..processes.catalogue import sde_of
from ..processes.level import Level, cast, per_sample
from ..processes.sde import SDE
from .apart import watched
from .predictions import Affine, Prediction, prediction_of
from .unwrapped import classes_of, unwrapped


class Denoiser(nn.Module):
    """E[x_0 | x_t] from any network.

    ``skip x_t + out net(scale x_t, time)`` with three numbers a level that ``prediction`` gives. Where it
    gives no time, the network gets ``sde.label(t)``, which may be 0 to 999; a network with a
    ``label_span``, as those of ``scoresde.networks``, gets ``sde.unit_label`` instead, which its features
    of the level are made for.

    Args:
        net: any module or callable ``(x, t[, cond]) -> like x``; x ``(B, ...)``, t ``(B,)``.
        sde: the process, or its name (:func:`scoresde.processes.catalogue.sde_of`).
        prediction: what the network estimates: :func:`noise`, :func:`score`, :func:`data`, :func:`v`,
            :func:`velocity` or :func:`edm`, or its name. There is no default, for nothing tells a wrong one
            by its looks.
        dtype: precision of the network alone: float32 or float64, to which x is cast, or bfloat16 or float16,
            in which it runs under autocast, x staying float32. None: the type of its parameters, or, where it
            has none, of x.

    Raises:
        TypeError: an argument of another kind; later, a network that does not return a tensor.
        ValueError: another dtype; labels beyond the network's ``label_span``; later, an output of another
            shape or type than the network's input.
    """

    def __init__(
        self,
        net: Callable[..., Tensor],
        sde: SDE | str,
        prediction: Prediction | str,
        *,
        dtype: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        if not callable(net):
            raise TypeError(f"Denoiser needs a callable net, got {type(net).__name__}")
        self.net, self.sde, self.prediction = net, sde_of(sde), prediction_of(prediction)
        # In a tuple: no parameter of this module. Its type is read at every call, for half() may change it.
        self._first = _first_parameter(net)
        self._dtype = _checked_dtype(dtype, self._first)
        span: float | None = getattr(unwrapped(net), "label_span", None)
        self._unit = span is not None
        if span is not None:
            _check_labels_within(span, net, self.sde, self.prediction)
        self._writes: bool | None = None  # does the network write to its input? known from its first call

    @property
    def dtype(self) -> torch.dtype | None:
        """The precision of the network: as given, or the type of its parameters; None for the type of x."""
        return self._dtype or (self._first[0].dtype if self._first else None)

    @property
    def classes(self) -> int | None:
        """The number of classes of the network, its attribute ``classes``; None without one."""
        return classes_of(self.net)

    def at(self, dtype: torch.dtype | None) -> Self:
        """The same denoiser in another precision, as by the constructor's ``dtype``. It shares the network.

        Raises:
            ValueError: a dtype that the constructor refuses.
        """
        other = copy.copy(self)
        other._modules = self._modules.copy()  # so that no change of one is a change of the other
        other._dtype = _checked_dtype(dtype, self._first)
        return other

    def forward(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        """x: ``(B, ...)``; level: floats, or tensors ``()``, ``(B,)`` or ``(B, 1, ...)``; returns as x."""
        level = Level(*(per_sample(number, x) for number in level))
        c = self.prediction(level)
        scale, skip, out = (cast(number, x) for number in c[:3])
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
        ``(B,)``, best on the CPU, for some devices have no float64; returns ``(B,)``.
        """
        level = self.sde.level(per_sample(exact(t), x0))
        c = self.prediction(level)
        on_x0, on_eps = (1 - c.skip * level.alpha) / c.out, -c.skip * level.sigma / c.out
        target = cast(on_x0, x0) * x0 + cast(on_eps, x0) * eps
        noisy = cast(c.scale * level.alpha, x0) * x0 + cast(c.scale * level.sigma, x0) * eps
        output = self._output(noisy, self._time(c, level), cond)
        error: Tensor = (output - target).square()
        return error.flatten(1).mean(1) if error.ndim > 1 else error

    def _time(self, c: Affine, level: Level[Any]) -> Any:
        if c.time is not None:
            return c.time
        return self.sde.unit_label(level) if self._unit else self.sde.label(level.t)

    def _of_copy(self, x: Tensor, time: Any, cond: Tensor | None) -> Tensor:
        """The network's output at x, which is read again after it."""
        if self._writes is None and not torch.compiler.is_compiling():
            output, self._writes = watched(lambda shown: self._output(shown, time, cond), x.clone(), x)
            return output
        return self._output(x.clone(), time, cond)

    def _output(self, x: Tensor, time: Any, cond: Tensor | None) -> Tensor:
        dtype = self.dtype or x.dtype
        low = dtype.itemsize < 4
        shown = x.to(torch.float32 if low else dtype)
        label = _label(time, shown)
        with torch.autocast(x.device.type, dtype) if low else nullcontext():
            output: Tensor = self.net(shown, label) if cond is None else self.net(shown, label, cond)
        if not isinstance(output, Tensor):
            raise TypeError(f"the network must return a tensor, got {type(output).__name__}")
        if output.shape != x.shape or (output.dtype != shown.dtype and output.dtype.itemsize >= 4):
            raise ValueError(
                f"the network must return the shape and type of its input, {tuple(x.shape)} {shown.dtype}, "
                f"got {tuple(output.shape)} {output.dtype}"
            )
        return output.to(x.dtype)


# Precisions of a network; None is that of its input.
DTYPES = (None, torch.float32, torch.float64, torch.bfloat16, torch.float16)


def _checked_dtype(dtype: torch.dtype | None, first: tuple[Tensor, ...]) -> torch.dtype | None:
    """``dtype``; ValueError unless a network can run in it or, for None, in the type of its parameters."""
    if dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(map(str, DTYPES))}, got {dtype}")
    if dtype is None and first and first[0].dtype not in DTYPES:
        raise ValueError(f"a network cannot run with parameters of {first[0].dtype}")
    return dtype


def _first_parameter(net: Any) -> tuple[Tensor, ...]:
    parameters = net.parameters() if isinstance(net, nn.Module) else ()
    return tuple(islice((p for p in parameters if p.is_floating_point()), 1))


def _check_labels_within(span: float, net: object, sde: SDE, prediction: Prediction) -> None:
    """ValueError where the SDE's labels span more than the network's embedding can separate."""
    with torch.device("cpu"):  # a network may be made on the meta device, which has no numbers
        level = sde.level(torch.tensor([sde.t_min, sde.t_max], dtype=torch.float64))
        if prediction(level).time is not None:
            return
        first, last = sorted(sde.unit_label(level).tolist())
    if not last - first <= span:
        raise ValueError(
            f"{type(unwrapped(net)).__name__} takes labels within {span:g} of each other, but those of "
            f"{sde} are {first:.4g} to {last:.4g}; give the SDE a unit_label, or use the edm prediction"
        )


def _label(time: Any, x: Tensor) -> Tensor:
    """The network's label for every sample, ``(B,)``."""
    if not isinstance(time, Tensor):
        return x.new_full((len(x),), time)
    if time.numel() != 1 and not (len(time) == len(x) == time.numel()):
        raise ValueError(
            f"level must be one number, or one for each of {len(x)} samples, for the network takes one label "
            f"a sample; got shape {tuple(time.shape)}"
        )
    return time.flatten().to(x).expand(len(x))
