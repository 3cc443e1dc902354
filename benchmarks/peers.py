"""Samplers of other projects as functions (denoise, levels, x, noise) -> x at the last level.

:func:`scoresde.integrate` does the same for a plan. The noise comes from ``noise``, the grid from
``levels`` and the precision from ``x``, so only the method differs. A project is imported at the first use;
ModuleNotFoundError if it is not installed.
"""

import importlib
import importlib.util
import inspect
import math
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from itertools import count
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor

from scoresde.plans.executor import Denoise, Draw
from scoresde.processes.level import Level

Levels = Sequence[Level[float]]
Peer = Callable[[Denoise, Levels, Tensor, Draw], Tensor]


@cache
def k_diffusion_sampling() -> Any:
    """``k_diffusion.sampling`` alone; the package itself imports thirty others, torchvision first.

    The module uses one function of ``k_diffusion.utils``, which is one line; this function replaces it.
    """
    found = importlib.util.find_spec("k_diffusion")
    if found is None:
        raise ModuleNotFoundError("No module named 'k_diffusion'", name="k_diffusion")
    package, utils = ModuleType("k_diffusion"), ModuleType("k_diffusion.utils")
    package.__path__ = list(found.submodule_search_locations or [])
    package.utils = utils  # type: ignore[attr-defined]
    utils.append_dims = lambda x, ndim: x[(..., *[None] * (ndim - x.ndim))]  # type: ignore[attr-defined]
    stands_in = {"k_diffusion": package, "k_diffusion.utils": utils}
    sys.modules |= stands_in
    try:
        return importlib.import_module("k_diffusion.sampling")
    finally:
        for name in stands_in:  # only these: some other modules can be imported only once
            del sys.modules[name]


def k_diffusion(name: str, **options: Any) -> Peer:
    """``k_diffusion.sampling.<name>``, in k-diffusion's variables y = x / alpha and sigma / alpha."""
    function = getattr(k_diffusion_sampling(), name)
    known = inspect.signature(function).parameters

    def run(denoise: Denoise, levels: Levels, x: Tensor, noise: Draw) -> Tensor:
        draw = _in_order(noise)
        given: dict[str, Any] = dict(options, disable=True)
        if "noise_sampler" in known:
            given["noise_sampler"] = draw
        if "sigmas" in known:
            given["sigmas"] = torch.tensor(_ratios(levels), dtype=x.dtype, device=x.device)
        else:  # the function makes a grid between the ends
            given["sigma_max"], *_, given["sigma_min"] = _ratios(levels)

        def model(y: Tensor, sigma: Tensor) -> Tensor:
            return denoise(y, _exploding(sigma[0].item()))  # type: ignore[no-any-return]

        with _ours(k_diffusion_sampling(), x.dtype, draw):
            y: Tensor = function(model, x / levels[0].alpha, **given)
        return levels[-1].alpha * y

    return run


def azula(name: str, module_name: str = "azula.sample", **options: Any) -> Peer:
    """A sampler of azula, of its module ``module_name``; its times are the indices of our levels."""
    module = importlib.import_module(module_name)

    def run(denoise: Denoise, levels: Levels, x: Tensor, noise: Draw) -> Tensor:
        alphas, sigmas = (
            torch.tensor(part, dtype=x.dtype, device=x.device)
            for part in zip(*((level.alpha, level.sigma) for level in levels), strict=True)
        )

        class Denoiser:
            def schedule(self, t: Tensor) -> tuple[Tensor, Tensor]:
                return alphas[t.long()], sigmas[t.long()]

            def __call__(self, x: Tensor, t: Tensor) -> SimpleNamespace:
                return SimpleNamespace(mean=denoise(x, levels[int(t)]))

        n = len(levels) - 1
        grid = {"start": 0, "stop": n, "steps": n, "dtype": x.dtype}
        sampler = getattr(module, name)(Denoiser(), silent=True, **grid, **options)
        with _ours(module, x.dtype, _in_order(noise)):
            end: Tensor = sampler(x)
        return end

    return run


STEP_OPTIONS = ("eta", "order", "s_churn")  # of a scheduler's step; all other options are of the scheduler


def diffusers(name: str, **options: Any) -> Peer:
    """The scheduler ``diffusers.<name>``; it receives the noise, or the velocity if it allows only that."""
    getattr(importlib.import_module("diffusers"), name)  # a missing module shows here
    config = {key: value for key, value in options.items() if key not in STEP_OPTIONS}
    step_options = {key: value for key, value in options.items() if key in STEP_OPTIONS}

    def run(denoise: Denoise, levels: Levels, x: Tensor, noise: Draw) -> Tensor:
        draw = _in_order(noise)
        scheduler, ratios = diffusers_scheduler(name, levels, x.dtype, **config)
        exploding = (
            float(scheduler.init_noise_sigma) != 1
        )  # its state is x / alpha, otherwise the state of VP
        state = x / levels[0].alpha / (1.0 if exploding else math.hypot(1.0, ratios[0]))
        with _ours(sys.modules[type(scheduler).__module__], x.dtype, draw):
            for t, ratio in zip(scheduler.timesteps, ratios, strict=True):
                x = scheduler.scale_model_input(state, t)
                y = x * math.hypot(1.0, ratio)
                out = (y - denoise(y, _exploding(ratio))) / ratio
                if name == "IPNDMScheduler":
                    out = math.hypot(1.0, ratio) * out - ratio * x
                state = scheduler.step(out, t, state, **step_options).prev_sample
        end: Tensor = state * levels[-1].alpha
        return end if exploding else end * math.hypot(1.0, _ratios(levels)[-1])

    return run


def diffusers_scheduler(
    name: str, levels: Levels, dtype: torch.dtype = torch.float64, **config: Any
) -> tuple[Any, list[float]]:
    """A scheduler on our levels, and sigma / alpha at each of its network calls."""
    module = importlib.import_module("diffusers")
    ratios, n = _ratios(levels), len(levels) - 1
    half = name == "PNDMScheduler"  # its inner times are halves of the numbers of its steps
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # deprecation warnings of diffusers and numpy
        scheduler = getattr(module, name)(num_train_timesteps=(1 + half) * n, **config)
        scheduler.set_timesteps(n)
    if hasattr(scheduler, "sigmas"):
        return scheduler, _walk_sigmas(scheduler, ratios, dtype)
    calls = ratios[:-1]
    if name == "IPNDMScheduler":
        angles = torch.tensor(ratios, dtype=dtype).atan()
        scheduler.alphas, scheduler.betas = angles.cos(), angles.sin()
        scheduler.set_begin_index(0)
        return scheduler, calls
    if half:  # twice as many times; each odd one is the middle of two levels in sigma / alpha
        middles = [(a + b) / 2 for a, b in zip(ratios, calls[1:], strict=False)]
        table = [calls[0], calls[0], *(r for pair in zip(middles, calls[1:], strict=True) for r in pair)]
        calls = [table[-1 - t] for t in scheduler.timesteps.tolist()]
    else:
        table = calls
    scheduler.alphas_cumprod = torch.tensor([1 / (1 + r**2) for r in reversed(table)], dtype=dtype)
    # The end of DDIM and PNDM, and that of DDPM.
    scheduler.final_alpha_cumprod = scheduler.one = torch.tensor(1 / (1 + ratios[-1] ** 2), dtype=dtype)
    return scheduler, calls


def _walk_sigmas(scheduler: Any, ratios: list[float], dtype: torch.dtype) -> list[float]:
    """Give a scheduler with sigmas ours; returns sigma / alpha at each of its network calls."""
    sigmas, calls = torch.tensor(ratios, dtype=dtype), ratios[:-1]
    if scheduler.order == 2:  # two calls a step, one in the step to sigma = 0
        middles = torch.cat([sigmas[:1], (sigmas[1:] * sigmas[:-1]).sqrt()])
        sigmas, middles = (part.repeat_interleave(2)[1:] for part in (sigmas, middles))
        calls = sigmas.tolist()
        if hasattr(scheduler, "sigmas_interpol"):
            scheduler.sigmas_interpol = middles
            calls[1::2] = middles.tolist()[1::2]
        calls = calls[: -1 - (ratios[-1] == 0)]
    scheduler.sigmas = sigmas
    scheduler.timesteps = torch.arange(len(calls), 0, -1, dtype=dtype)
    scheduler.set_begin_index(0)
    return calls


class _Torch:
    """The module torch with another precision and noise."""

    def __init__(self, dtype: torch.dtype, draw: Callable[..., Tensor]) -> None:
        self.float32, self.randn_like = dtype, draw

    def __getattr__(self, name: str) -> Any:
        return getattr(torch, name)


@contextmanager
def _ours(module: Any, dtype: torch.dtype, draw: Callable[..., Tensor]) -> Iterator[None]:
    """Let a module compute in ``dtype`` where it names float32 or no type, and draw our noise."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    parts: dict[str, Any] = {"torch": _Torch(dtype, draw)}
    if hasattr(module, "randn_tensor"):
        parts["randn_tensor"] = draw
    try:
        with patch.multiple(module, **parts), warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of numpy functions on tensors
            yield
    finally:
        torch.set_default_dtype(before)


def _in_order(noise: Draw) -> Callable[..., Tensor]:
    numbers = count()
    return lambda *_, **__: noise(next(numbers))


def _exploding(sigma: float) -> Level[float]:
    """The level of the process with alpha = 1 and sigma = t, at sigma."""
    return Level(sigma, 1.0, sigma, -math.log(sigma) if sigma else math.inf)


def _ratios(levels: Levels) -> list[float]:
    return [level.sigma / level.alpha for level in levels]
