"""Spacings by name."""

from pathlib import Path
from typing import Any

from ..processes.catalogue import sde_of
from ..processes.sde import SDE
from ..registry import build
from .composed import Clipped, Joined, Refined, Shifted, Under, check_spacing
from .flow_time import FlowTime
from .formulas import (
    Beta,
    Karras,
    Polyexponential,
    PowerTime,
    QuadraticTime,
    Spacing,
    UniformLambda,
    UniformSigma,
    UniformTime,
)
from .lists import AlignYourSteps, AtLambdas, AtSigmas, AtTimes, fixed_steps
from .measured import AtShares, measured_levels

SPACINGS: dict[str, Any] = {
    "uniform-t": UniformTime,
    "quadratic-t": QuadraticTime,
    "power-t": PowerTime,
    "beta": Beta,
    "uniform-lambda": UniformLambda,
    "uniform-sigma": UniformSigma,
    "karras": Karras,
    "flow-time": FlowTime,
    "polyexponential": Polyexponential,
    "align-your-steps": AlignYourSteps,
    "at-times": AtTimes,
    "at-lambdas": AtLambdas,
    "at-sigmas": AtSigmas,
    "shifted": Shifted,
    "clipped": Clipped,
    "refined": Refined,
    "joined": Joined,
    "under": Under,
    "at-shares": AtShares,
    "measured": measured_levels,
}


def spacing_of(spec: Spacing | str) -> Spacing:
    """A spacing as it is, or by name, with options if wanted: ``"karras:rho=5"``, ``"shifted:spacing=beta"``.

    Raises:
        TypeError: a class (``Karras`` in place of ``Karras()``), or an object that is not a spacing.
        ValueError: an unknown name or option, or a value that the spacing refuses.
    """
    spacing: Spacing = build("spacing", SPACINGS, spec, {Spacing: spacing_of, SDE: sde_of, Path: Path})
    check_spacing("spacing", spacing)
    return spacing


def steps_of(spec: Spacing | str | None) -> int | None:
    """The only number of steps of a spacing, or of a spacing by name; None for any number."""
    return None if spec is None else fixed_steps(spacing_of(spec))
