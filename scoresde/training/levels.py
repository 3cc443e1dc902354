"""The measured levels beside a trained network."""

import warnings
from dataclasses import replace
from pathlib import Path

from ..denoisers.protocol import DenoiserLike
from ..denoisers.transported import Transported
from ..plans.fingerprint import fingerprint
from ..spacings.measured import Measured, ends_of

LEVELS = "levels.json"


def levels_file(checkpoint: str | Path) -> Path:
    """The file of the measured levels of a checkpoint: in its folder, or in the folder of its file."""
    path = Path(checkpoint)
    return (path if path.is_dir() else path.parent) / LEVELS


def load_levels(checkpoint: str | Path) -> Measured | None:
    """The levels measured on a trained network, from its file or folder; None if there is no file of them.

    Raises:
        ValueError: the file holds no measured levels.
    """
    file = levels_file(checkpoint)
    return Measured.load(file) if file.exists() else None


def levels_of(checkpoint: str | Path, denoiser: DenoiserLike) -> Measured | None:
    """The levels beside a trained network, to sample it with; None if there is no file of them.

    The formulas of the levels are in sigma / alpha. So they hold under another process, too, on the part of
    sigma / alpha that it reaches; a measured density keeps its form there.

    Args:
        checkpoint: file or folder of the training run.
        denoiser: its network, or :class:`scoresde.Transported` around it.

    Raises:
        ValueError: the file holds no measured levels, or levels of another network or process.
    """
    levels = load_levels(checkpoint)
    if levels is None:
        return None
    own = denoiser.denoiser if isinstance(denoiser, Transported) else denoiser
    if not are_of(levels, own):
        raise ValueError(f"{levels_file(checkpoint)} was measured on another network; measure again")
    levels.check(own.sde)
    if own is denoiser:
        return levels
    return replace(levels, process=type(denoiser.sde).__name__, ends=ends_of(denoiser.sde))


def usable_levels(checkpoint: str | Path, denoiser: DenoiserLike) -> Measured | None:
    """The same for a program that can do without: None for a file of other levels, too.

    Warns:
        UserWarning: the file holds no measured levels, or levels of another network or process.
    """
    try:
        return levels_of(checkpoint, denoiser)
    except ValueError as error:
        warnings.warn(f"measured levels are not used: {error}", stacklevel=2)
        return None


def are_of(levels: Measured, denoiser: DenoiserLike) -> bool:
    """Were the levels measured on this network? The hash of its weights and settings decides."""
    return bool(levels.about.get("weights") == fingerprint(denoiser)["weights"])
