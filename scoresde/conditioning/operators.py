"""Linear operators of an observation y = A x + tau n: what of a sample is seen.

Each has ``forward``, A x; ``adjoint``, A^T v; and ``solve``, (r^2 A A^T + tau^2 I)^-1 v. All take and return
batches, ``(B, ...)``. Here A A^T is diagonal in a known basis, so that ``solve`` is exact;
:class:`scoresde.conditioning.linear.Linear` is for other operators. A tensor of an operator is best made on
the device of the samples: from another device it is copied at each call.
"""

import math
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d

from ..devices import exact
from ..integer import integer
from ..processes.level import column
from .rows import times

# Below this part of the largest one, an eigenvalue of A A^T is a rounding.
SMALLEST = 1e-12


class Operator(Protocol):
    """A linear map of samples ``(B, ...)`` to observations ``(B, ...)``."""

    @property
    def singular(self) -> bool:
        """Whether A A^T may have no inverse; then tau must be positive."""
        ...

    def forward(self, x: Tensor) -> Tensor:
        """A x."""
        ...

    def adjoint(self, v: Tensor) -> Tensor:
        """A^T v."""
        ...

    def solve(self, v: Tensor, r2: Any, tau2: Any) -> Tensor:
        """(r2 A A^T + tau2 I)^-1 v; r2 and tau2 are numbers or tensors ``(B,)``."""
        ...


class Known:
    """Some numbers of a sample, in order: inpainting. A A^T = I.

    Args:
        mask: 1 or True where a number is known, else 0, in the shape of a sample or of its last dimensions:
            ``(H, W)`` for pictures ``(C, H, W)`` of which whole pixels are known. The observation is
            ``(B, n)``, or ``(B, C, n)``, for n known numbers of the mask; ``forward`` of a picture gives it.

    Raises:
        ValueError: other numbers in the mask; later, a sample that does not fit it.
    """

    singular = False

    def __init__(self, mask: Tensor) -> None:
        if not ((mask == 0) | (mask == 1)).all():
            raise ValueError(f"mask must hold 0 and 1, got {mask.min().item()} to {mask.max().item()}")
        self.mask, self.index = mask.bool(), mask.flatten().nonzero().flatten()

    def forward(self, x: Tensor) -> Tensor:
        """The known numbers."""
        _check_end("a sample", x, self.mask.shape)
        return x.flatten(-self.mask.ndim).index_select(-1, self.index.to(x.device))

    def adjoint(self, v: Tensor) -> Tensor:
        """The known numbers in their places, and 0 elsewhere."""
        _check_end("an observation", v, self.index.shape)
        empty = v.new_zeros(*v.shape[:-1], self.mask.numel())
        return empty.index_copy(-1, self.index.to(v.device), v).reshape(*v.shape[:-1], *self.mask.shape)

    def solve(self, v: Tensor, r2: Any, tau2: Any) -> Tensor:
        """v / (r2 + tau2)."""
        return _divided(v, 1.0, r2, tau2)


@dataclass(frozen=True)
class Pool:
    """The mean of each k x k square of pictures ``(B, ..., H, W)``: super-resolution. A A^T = I / k^2.

    Args:
        k: at least 1; it divides H and W.

    Raises:
        TypeError: k is not an integer.
        ValueError: k is below 1; later, it does not divide H and W.
    """

    k: int
    singular = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "k", integer("k", self.k, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The means."""
        if x.ndim < 3 or x.shape[-1] % self.k or x.shape[-2] % self.k:
            raise ValueError(f"pictures must have a multiple of {self.k} rows and columns, got {x.shape[1:]}")
        return avg_pool2d(x, self.k)

    def adjoint(self, v: Tensor) -> Tensor:
        """Each number on its square, divided by k^2."""
        return v.repeat_interleave(self.k, -1).repeat_interleave(self.k, -2) / self.k**2

    def solve(self, v: Tensor, r2: Any, tau2: Any) -> Tensor:
        """v / (r2 / k^2 + tau2)."""
        return _divided(v, self.k**-2, r2, tau2)


@dataclass(frozen=True)
class Grey:
    """The weighted sum of the channels of pictures ``(B, C, ...)``: colourising. A A^T = |weights|^2 I.

    Args:
        weights: one for each channel, not all 0.

    Raises:
        ValueError: other weights; later, another number of channels.
    """

    weights: tuple[float, ...] = (1 / 3, 1 / 3, 1 / 3)
    singular = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "weights", tuple(map(float, self.weights)))
        if not (all(map(math.isfinite, self.weights)) and any(self.weights)):
            raise ValueError(f"weights must be finite and not all 0, got {self.weights}")

    def forward(self, x: Tensor) -> Tensor:
        """The sum, with one channel."""
        if x.ndim < 2 or x.shape[1] != len(self.weights):
            raise ValueError(f"pictures must have {len(self.weights)} channels, got {tuple(x.shape[1:])}")
        parts = [weight * x[:, c : c + 1] for c, weight in enumerate(self.weights)]
        return sum(parts[1:], parts[0])

    def adjoint(self, v: Tensor) -> Tensor:
        """The weights times the one channel."""
        if v.ndim < 2 or v.shape[1] != 1:
            raise ValueError(f"a grey picture must have 1 channel, got {tuple(v.shape[1:])}")
        return torch.cat([weight * v for weight in self.weights], 1)

    def solve(self, v: Tensor, r2: Any, tau2: Any) -> Tensor:
        """v / (r2 |weights|^2 + tau2)."""
        return _divided(v, sum(weight**2 for weight in self.weights), r2, tau2)


class Blur:
    """The convolution with a kernel, periodic at the edges. A A^T = F^-1 |F k|^2 F by the Fourier transform.

    Args:
        kernel: k, of odd sizes, its middle at 0; ``(h, w)`` for pictures, or of another number of dimensions.
        size: the last dimensions of a sample, ``(H, W)``, at least as large as the kernel.

    Raises:
        ValueError: a kernel that is not finite or does not fit; later, a sample of another size.
    """

    def __init__(self, kernel: Tensor, size: tuple[int, ...]) -> None:
        odd = all(n % 2 for n in kernel.shape)
        if len(size) != kernel.ndim or not odd or any(n > m for n, m in zip(kernel.shape, size, strict=True)):
            what = f"got {tuple(kernel.shape)} for {tuple(size)}"
            raise ValueError(f"kernel must have odd sizes, each at most that of the samples, {what}")
        if not torch.isfinite(kernel).all():
            raise ValueError("kernel must be finite")
        self.size = torch.Size(size)
        self.axes = tuple(range(-kernel.ndim, 0))
        padded = exact(kernel).new_zeros(size)
        padded[tuple(slice(n) for n in kernel.shape)] = exact(kernel)
        shifts = tuple(-(n // 2) for n in kernel.shape)
        self.spectrum = torch.fft.fftn(padded.roll(shifts, self.axes))
        self.squares = self.spectrum.abs().square()
        self.singular = not float(self.squares.min()) > SMALLEST * float(self.squares.max())

    @classmethod
    def gaussian(cls, deviation: float, size: tuple[int, ...]) -> "Blur":
        """The blur by a normal density of this deviation, in pixels, with sum 1."""
        if not 0 < deviation < math.inf:
            raise ValueError(f"deviation must be positive and finite, got {deviation}")
        kernel = torch.ones((), dtype=torch.float64)
        for n in size:
            half = min((n - 1) // 2, math.ceil(6 * deviation))
            places = torch.arange(-half, half + 1, dtype=torch.float64)
            kernel = kernel[..., None] * (-0.5 * (places / deviation) ** 2).softmax(0)
        return cls(kernel, size)

    def forward(self, x: Tensor) -> Tensor:
        """k * x."""
        return self._filtered(x, self._cast(self.spectrum, x))

    def adjoint(self, v: Tensor) -> Tensor:
        """The convolution with the mirrored kernel."""
        return self._filtered(v, self._cast(self.spectrum, v).conj())

    def solve(self, v: Tensor, r2: Any, tau2: Any) -> Tensor:
        """Each frequency divided by r2 |F k|^2 + tau2."""
        return self._filtered(v, 1 / _eigenvalues(self.squares.to(v), v, r2, tau2))

    def _filtered(self, x: Tensor, factor: Tensor) -> Tensor:
        _check_end("a sample", x, self.size)
        # The transform of real numbers depends, in its last bits, on the batch; the complex one does not.
        seen = torch.fft.fftn(x.to(x.dtype.to_complex()), dim=self.axes)
        filtered: Tensor = torch.fft.ifftn(factor * seen, dim=self.axes).real
        return filtered

    @staticmethod
    def _cast(spectrum: Tensor, x: Tensor) -> Tensor:
        return spectrum.to(x.dtype.to_complex()).to(x.device)


class Matrix:
    """Any matrix A, on flattened samples, by its singular values, which are computed once in float64.

    Args:
        matrix: A, ``(m, d)``. Its m left singular vectors need memory m^2.
        shape: the shape of a sample, of d numbers; default, ``(d,)``. An observation is ``(B, m)``.

    Raises:
        ValueError: a matrix that is not finite, or does not fit the shape.
    """

    def __init__(self, matrix: Tensor, shape: tuple[int, ...] | None = None) -> None:
        if matrix.ndim != 2 or not matrix.numel() or not torch.isfinite(matrix).all():
            raise ValueError(f"matrix must be (m, d) and finite, got shape {tuple(matrix.shape)}")
        m, d = matrix.shape
        self.shape = (d,) if shape is None else tuple(shape)
        if math.prod(self.shape) != d:
            raise ValueError(f"shape must hold {d} numbers for a matrix {(m, d)}, got {self.shape}")
        self.matrix = exact(matrix).contiguous()
        self.transposed = self.matrix.mT.contiguous()
        left, values, _ = torch.linalg.svd(self.matrix, full_matrices=m > d)
        self.left, self.left_transposed = left.contiguous(), left.mT.contiguous()
        self.squares = torch.cat([values.square(), values.new_zeros(m - len(values))])
        self.singular = not float(self.squares.min()) > SMALLEST * float(self.squares.max())

    def forward(self, x: Tensor) -> Tensor:
        """A x, ``(B, m)``."""
        _check_end("a sample", x, torch.Size(self.shape))
        return times(x.reshape(len(x), -1), self.matrix.to(x))

    def adjoint(self, v: Tensor) -> Tensor:
        """A^T v, in the shape of samples."""
        _check_end("an observation", v, self.matrix.shape[:1])
        return times(v, self.transposed.to(v)).reshape(-1, *self.shape)

    def solve(self, v: Tensor, r2: Any, tau2: Any) -> Tensor:
        """U (r2 s^2 + tau2)^-1 U^T v, for left singular vectors U and singular values s."""
        turned = times(v, self.left_transposed.to(v))
        return times(turned / _eigenvalues(self.squares.to(v), v, r2, tau2), self.left.to(v))


def _eigenvalues(squares: Any, v: Tensor, r2: Any, tau2: Any) -> Any:
    """r2 squares + tau2, which broadcasts with v."""
    return column(r2, v) * squares + column(tau2, v)


def _divided(v: Tensor, square: float, r2: Any, tau2: Any) -> Tensor:
    quotient: Tensor = v / _eigenvalues(square, v, r2, tau2)
    return quotient


def _check_end(what: str, x: Tensor, shape: torch.Size) -> None:
    """ValueError unless x is a batch whose last dimensions are ``shape``."""
    if x.ndim <= len(shape) or x.shape[-len(shape) :] != shape:
        raise ValueError(f"{what} must end in the dimensions {tuple(shape)}, got {tuple(x.shape[1:])}")
