"""The values of rows: linear combinations of tensors, or of anything that adds and scales."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from .vector import Row


def linear_combination(row: Row, live: Mapping[str, Any], out: Tensor | None = None) -> Any:
    """The sum of weight * vector over the terms of a row.

    Args:
        row: at least one term.
        live: the vectors by name.
        out: a tensor for the result, which may be the first vector of the row; None for a new one.
    """
    (name, weight), *rest = row
    total = live[name]
    if isinstance(total, Tensor) and weight == 1 and rest:
        (name, weight), *rest = rest
        total = torch.add(total, live[name], alpha=weight, out=out)
    elif isinstance(total, Tensor) and 0.5 < weight < 2:
        # x + (weight - 1) x rounds weight - 1, which is small; weight x would round weight. In float32 the
        # rounding of a weight would be the same in each of many equal steps, and would add up.
        total = torch.add(total, total, alpha=weight - 1, out=out)
    elif isinstance(total, Tensor):
        total = torch.mul(total, weight, out=out)
    else:
        total = weight * total
    for name, weight in rest:
        if isinstance(total, Tensor):
            total.add_(live[name], alpha=weight)
        else:
            total = total + weight * live[name]
    return total


def langevin_step(row: Row, score: Row, snr: float, live: Mapping[str, Any]) -> Any:
    """x + e score + sqrt(2 e) z, with e = 2 (snr |z| / |score|)^2 and norms averaged over the batch.

    Song et al. 2021 (arXiv 2011.13456, Algorithm 5).

    Args:
        row: x, and z as its last term.
        score: the row of the score.
        snr: the signal-to-noise ratio.
        live: the vectors by name.
    """
    *state, (noise, _) = row
    x, slope = linear_combination(tuple(state), live), linear_combination(score, live)
    z = live[noise]
    step = 2 * (snr * _mean_norm(z) / _mean_norm(slope)) ** 2
    return x + step * slope + (2 * step).sqrt() * z


def _mean_norm(x: Tensor) -> Tensor:
    norms: Tensor = torch.linalg.vector_norm(x.reshape(len(x), -1), dim=1)
    return norms.mean()
