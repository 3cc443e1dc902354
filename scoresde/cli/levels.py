"""The levels of a command that are read from a file: by name, or those beside the network."""

import argparse
import hashlib

from ..spacings.catalogue import spacing_of
from ..spacings.formulas import Spacing
from ..spacings.measured import Measured
from ..training.levels import levels_file, levels_of, usable_levels
from .shared import Loaded, checkpoint_path

CALLS = 20  # network calls where no budget is given
MEASURED = "measured"  # the spacing that means the file beside the network


def levels_asked(options: argparse.Namespace, network: Loaded) -> Spacing | None:
    """The levels of ``--spacing`` if a file holds them; without ``--spacing``, for ``auto``, those beside
    the network; None if there are none.

    Without ``--spacing``, levels that cannot be used are left aside with a warning.

    Raises:
        ValueError: ``--spacing measured``, and no levels of this network beside it; a damaged file.
    """
    if options.spacing:
        if options.spacing == MEASURED:
            return _beside(options, network)
        return spacing_of(options.spacing) if MEASURED in options.spacing else None
    if options.solver != "auto":
        return None
    return usable_levels(checkpoint_path(options.checkpoint), network.denoiser)


def _beside(options: argparse.Namespace, network: Loaded) -> Measured:
    path = checkpoint_path(options.checkpoint)
    levels = levels_of(path, network.denoiser)
    if levels is None:
        how = f"scoresde measure --checkpoint {options.checkpoint} --out {levels_file(path)}"
        raise ValueError(f"--spacing measured needs {levels_file(path)}, which is not there; make it: {how}")
    return levels


def said_of(options: argparse.Namespace, levels: Measured) -> str:
    """One line on the levels beside the network that a command uses."""
    choice = levels.choice(options.nfe or CALLS)
    solver = f", with {choice.solver}" if options.solver == "auto" else ""
    file = levels_file(checkpoint_path(options.checkpoint))
    return f"levels measured on this network for {choice.calls} calls{solver}: {file}"


def content_of(levels: Spacing) -> str:
    """The hash of all numbers that decide the levels; 16 hex digits."""
    return hashlib.sha256(repr(levels).encode()).hexdigest()[:16]
