"""The empirical statistics of a network that DPM-Solver-v3 uses."""

import json
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf, isfinite
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..files import write_atomically

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, repr=False)
class Statistics:
    """The statistics of a network for :class:`DPMSolverV3`, as functions of the half log-SNR lam.

    :func:`scoresde.model_statistics` measures them. They hold for the network under every SDE. Between the
    nodes they are cubic splines; outside, linear and log_rms are constant.

    Args:
        lam: the nodes, at least two, strictly rising.
        linear: l of the paper, the slope of sigma eps in x / alpha: 1 in pure noise, 0 in clean data.
        log_rms: log of the root mean square of f = exp(-lam) eps - l (x / alpha - mean), up to a constant.
            Its derivative is s of the paper.

    Raises:
        ValueError: nodes that do not rise, numbers that are not finite, or lists of different lengths.
    """

    lam: tuple[float, ...]
    linear: tuple[float, ...]
    log_rms: tuple[float, ...]

    def __post_init__(self) -> None:
        if len(self.lam) < 2 or not all(-inf < a < b < inf for a, b in pairwise(self.lam)):
            raise ValueError(f"lam must be at least 2 finite numbers, strictly rising, got {self.lam}")
        for name, values in (("linear", self.linear), ("log_rms", self.log_rms)):
            if len(values) != len(self.lam) or not all(map(isfinite, values)):
                raise ValueError(
                    f"{name} must be {len(self.lam)} finite numbers, as many as lam, got {values}"
                )

    def __repr__(self) -> str:
        return f"<Statistics: {len(self.lam)} levels, lambda {self.lam[0]:+.3f} to {self.lam[-1]:+.3f}>"

    def at(self, lam: Array) -> "Fitted":
        """l, its integral from lam[0] of the nodes, and log_rms at any lam."""
        within = np.clip(lam, self.lam[0], self.lam[-1])
        linear, area, log_rms = (spline(within) for spline in self._splines)
        return Fitted(linear, area + linear * (lam - within), log_rms)

    @cached_property
    def _splines(self) -> tuple[Any, Any, Any]:
        from scipy.interpolate import CubicSpline  # slow to import

        linear = CubicSpline(self.lam, self.linear)
        return linear, linear.antiderivative(), CubicSpline(self.lam, self.log_rms)

    def save(self, path: str | Path) -> None:
        """Write the statistics as JSON."""
        content = {"format": FORMAT, "lam": self.lam, "linear": self.linear, "log_rms": self.log_rms}
        write_atomically(Path(path), json.dumps(content).encode())

    @classmethod
    def load(cls, path: str | Path) -> "Statistics":
        """Read a file of :meth:`save`, bit for bit. ValueError if the file holds no statistics."""
        try:
            content = json.loads(Path(path).read_text())
            if content["format"] != FORMAT:
                raise ValueError(f"its format is {content['format']!r}")
            return cls(*(tuple(map(float, content[name])) for name in ("lam", "linear", "log_rms")))
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise ValueError(f"{path} holds no statistics of scoresde: {error}") from error


FORMAT = "scoresde statistics 1"


class Fitted(NamedTuple):
    """The statistics at some lam: l, and the integrals L of l and S of s."""

    linear: Array
    area: Array
    log_rms: Array


DPM_SOLVER_PP = Statistics((-1.0, 1.0), (1.0, 1.0), (0.0, 0.0))
