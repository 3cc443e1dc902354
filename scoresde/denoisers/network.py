"""The denoiser of a network."""

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
from .conditions import Condition
from .predictions import Affine, Prediction, prediction_of
from .unwrapped import classes_of, unwrapped


class Denoiser(nn.Module):
    """E[x_0 | x_t] from any network: ``skip x_t + out net(scale x_t, time)``.

    ``prediction`` gives skip, out, scale and the time for each level. If it gives no time, the network
    receives ``sde.label(t)``, which may be 0 to 999. A network with an attribute ``label_span``, like the
    networks of ``scoresde.networks``, receives ``sde.unit_label`` instead, which fits its features.

    Args:
        net: any module or callable ``(x, t[, cond]) -> like x``; x ``(B, ...)``, t ``(B,)``.
        sde: the process, or its name (:func:`scoresde.processes.catalogue.sde_of`).
        prediction: what the network estimates: :func:`noise`, :func:`score`, :func:`data`, :func:`v`,
            :func:`velocity` or :func:`edm`, or its name. There is no default, because no check finds a wrong
            one.
        dtype: the precision of the network alone: float32 or float64, to which x is cast; or bfloat16 or
            float16, in which the network runs under autocast while x stays float32. None: the type of its
            parameters, or the type of x if it has no parameters.

    Raises:
        TypeError: an argument of another kind; later, a network that does not return a tensor.
        ValueError: another dtype; labels beyond the ``label_span`` of the network; later, an output of
            another shape or type than the input of the network, or one without gradients for an x that has
            them.
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
        # In a tuple, so that it is not a parameter of this module. half() may change its type later.
        self._first = _first_parameter(net)
        self._dtype = _checked_dtype(dtype, self._first)
        span: float | None = getattr(unwrapped(net), "label_span", None)
        self._unit = span is not None
        if span is not None:
            _check_labels_within(span, net, self.sde, self.prediction)
        self._writes: bool | None = None  # whether the network writes to its input; its first call shows it

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
        other._dtype, other._writes = _checked_dtype(dtype, self._first), None
        return other

    def forward(self, x: Tensor, level: Level[Any], cond: Condition = None) -> Tensor:
        """The estimate of x_0, like x ``(B, ...)``.

        Args:
            x: states ``(B, ...)``.
            level: floats, or tensors ``()``, ``(B,)`` or ``(B, 1, ...)``.
            cond: conditions ``(B, ...)``, or None; a nested structure goes to the network as it is.
        """
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
        if self._first and torch.is_grad_enabled() and x.requires_grad and not output.requires_grad:
            raise ValueError(
                f"{type(self.net).__name__} runs without gradients, so it has no derivative by x"
            )
        if torch.is_grad_enabled() or isinstance(skip, Tensor):
            estimate: Tensor = out * output + skip * x
        else:
            estimate = (out * output).add_(x, alpha=skip)  # the same with one temporary less
        return estimate

    def loss(self, x0: Tensor, t: Tensor, eps: Tensor, cond: Condition = None) -> Tensor:
        """Denoising score matching: the mean squared error of the output of the network, ``(B,)``.

        The target ``((1 - skip alpha) x_0 - skip sigma eps) / out`` is eps, the score, x_0, v, or F of EDM
        (Vincent 2011; Song et al. 2021, eq. 7). Its two factors are computed in float64.

        Args:
            x0: data, ``(B, ...)``.
            t: times, ``(B,)``, best on the CPU, because some devices have no float64.
            eps: standard normal noise like x0.
            cond: conditions ``(B, ...)``, or None; a nested structure goes to the network as it is.
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

    def _of_copy(self, x: Tensor, time: Any, cond: Condition) -> Tensor:
        """The output of the network at a copy of x, because x is read after the call."""
        if x.dtype != self._input_type(x):  # the network receives a copy in another type
            return self._output(x, time, cond)
        if self._writes is None and not torch.compiler.is_compiling():
            output, self._writes = watched(lambda shown: self._output(shown, time, cond), x.clone(), x)
            return output
        return self._output(x.clone(), time, cond)

    def _input_type(self, x: Tensor) -> torch.dtype:
        """The type in which the network receives x: float32 for precisions below it."""
        dtype = self.dtype or x.dtype
        return torch.float32 if dtype.itemsize < 4 else dtype

    def _output(self, x: Tensor, time: Any, cond: Condition) -> Tensor:
        dtype = self.dtype or x.dtype
        shown = x.to(self._input_type(x))
        label = _label(time, shown)
        with torch.autocast(x.device.type, dtype) if dtype.itemsize < 4 else nullcontext():
            output: Tensor = self.net(shown, label) if cond is None else self.net(shown, label, cond)
        if not isinstance(output, Tensor):
            raise TypeError(f"the network must return a tensor, got {type(output).__name__}")
        if output.shape != x.shape or (output.dtype != shown.dtype and output.dtype.itemsize >= 4):
            raise ValueError(
                f"the network must return the shape and type of its input, {tuple(x.shape)} {shown.dtype}, "
                f"got {tuple(output.shape)} {output.dtype}"
            )
        return output.to(x.dtype)


# Precisions of a network; None is the precision of its input.
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
    """ValueError if the labels of the SDE span more than the embedding of the network can separate."""
    with torch.device("cpu"):  # a network may be made on the meta device, whose tensors hold no numbers
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
    """The label of each sample for the network, ``(B,)``."""
    if not isinstance(time, Tensor):
        return x.new_full((len(x),), time)
    if time.numel() != 1 and not (len(time) == len(x) == time.numel()):
        raise ValueError(
            f"level must be one number, or one for each of {len(x)} samples, because the network takes one "
            f"label for each; got shape {tuple(time.shape)}"
        )
    return time.flatten().to(x).expand(len(x))
