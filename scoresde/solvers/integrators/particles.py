"""Groups of weighted particles, and how they are resampled.

A group is a number of consecutive samples of the batch. Nothing of a group depends on another group, and its
noise follows from the numbers of its samples; so a group has the same samples in any batch.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from ...devices import float64_device
from ...integer import integer
from ...plans.executor import Draw


@dataclass(frozen=True, eq=False)
class Cloud:
    """The end of a run of G groups of P particles.

    Args:
        x: the samples, ``(G P, ...)``; all of a group have the same weight.
        log_evidence: the logarithm of the mean weight of each group, ``(G,)``, float64, in nats.
        effective: the effective number of particles before each step, ``(steps, G)``, float64.
        ancestors: how many of the first particles of each group have descendants among its samples, ``(G,)``.
    """

    x: Tensor
    log_evidence: Tensor
    effective: Tensor
    ancestors: Tensor


class Groups:
    """The weights of the particles of a run, group by group, in float64.

    Args:
        x: the states at the start, ``(B, ...)``.
        particles: P, of a group.
        ess: a group is resampled when its effective number of particles is below ``ess`` times P.

    Raises:
        ValueError: B is not a multiple of P.
    """

    def __init__(self, x: Tensor, particles: int, ess: float) -> None:
        if len(x) % particles:
            raise ValueError(
                f"the number of samples, and batch_size, must be multiples of particles = {particles}, got "
                f"{len(x)}"
            )
        self.particles, self.ess, device = particles, ess, float64_device(x.device)
        self.log_weights = torch.zeros(len(x) // particles, particles, dtype=torch.float64, device=device)
        self.log_evidence = self.log_weights.new_zeros(len(self.log_weights))
        self.places = torch.arange(particles, device=device)
        self.origins = self.places.expand_as(self.log_weights)
        self.effective: list[Tensor] = []

    def weigh(self, log_factors: Tensor) -> None:
        """Multiply the weights by factors ``(B,)``."""
        self.log_weights = self.log_weights + log_factors.to(self.log_weights).reshape(self.log_weights.shape)

    def resample(self, noise: Tensor, *, always: bool = False) -> Tensor:
        """The rows of the particles that go on, ``(B,)``: those of groups that need it are resampled.

        Systematic resampling: place i of P goes to the particle whose cumulative share of the weights holds
        (i + u) / P, with one uniform number u for each group (Carpenter et al. 1999). A resampled group has
        equal weights; its mean weight goes to the evidence.

        Args:
            noise: a draw of the batch; the first number of the first particle of each group makes u.
            always: resample all groups.
        """
        weights, p = self.log_weights, self.particles
        shares = weights.softmax(1)
        self.effective.append(1 / shares.square().sum(1))
        chosen = torch.ones_like(self.log_evidence, dtype=torch.bool)
        chosen = chosen if always else self.effective[-1] < self.ess * p
        u = torch.special.ndtr(noise.reshape(len(noise), -1)[::p, 0].to(weights))
        cumulative = shares.cumsum(1)
        points = (self.places + u[:, None]) / p * cumulative[:, -1:]
        index = torch.searchsorted(cumulative, points, right=True).clamp(max=p - 1)
        index = torch.where(chosen[:, None], index, self.places)
        mean = weights.logsumexp(1) - math.log(p)
        self.log_evidence = self.log_evidence + torch.where(chosen, mean, 0.0)
        self.log_weights = torch.where(chosen[:, None], 0.0, weights)
        self.origins = self.origins.gather(1, index)
        first = p * torch.arange(len(weights), device=weights.device)
        return (first[:, None] + index).flatten().to(noise.device)

    def cloud(self, x: Tensor) -> Cloud:
        """The record of the run, whose samples are x."""
        of_first = self.origins[:, :, None] == self.places
        return Cloud(x, self.log_evidence, torch.stack(self.effective), of_first.any(1).sum(1))


def check_options(particles: int, ess: float) -> int:
    """The number of particles; an error unless it is at least 2, and ``ess`` in [0, 1]."""
    if not 0 <= ess <= 1:
        raise ValueError(f"ess must be in [0, 1], got {ess!r}")
    return integer("particles", particles, 2)


def draws(noise: Draw, step: int) -> tuple[Tensor, Tensor]:
    """The noise of a step: of its resampling, and of its move."""
    return noise(2 * step), noise(2 * step + 1)
