"""What is known of a tuned table, by measurement."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import write_atomically
from .gate import RULE_OF_THREE, Interval
from .strict import parsed
from .teacher import Certificate


@dataclass(frozen=True)
class Report:
    """Figures of a tuned solver, all but ``training`` on noises that the tuning did not see.

    Args:
        nfe: network calls.
        tuned: False if the best stock solver was not beaten, and its table is what was returned.
        start: the solver that the tuning began with.
        stock: the best stock solver.
        rmse: to the teacher's ends, of the tuned table.
        stock_rmse: to the teacher's ends, of the best stock solver.
        gain: log(rmse / stock_rmse), paired; of what is perceived, if the tuning was given a map.
        bands: energies in bands over the teacher's, of the tuned table; ``stock_bands`` of the stock solver.
        band_gain: root mean square of the logs of these, less the stock solver's, paired.
        coupling: a bound on the Wasserstein distance of the laws of tuned and teacher: W2 <= sqrt(E |y_N -
            y*|^2), for both begin with the same noise; estimate, and the upper end of a one-sided 95 %
            interval.
        equivalent: calls at which the best stock solvers do as well; None if not within ``searched`` calls.
        teacher: its certificate.
        samples: of training, validation and held-out noises.
        parameters: of the table, that were free.
        training: the objective after each iteration, on the training and the validation noises.
        calls: network evaluations, of one sample at one level, that the tuning took.
        seconds: that it took.
        network: what the table was tuned for: hash of the weights, SDE and precision.
        unseen: the RMSE of the returned plan, if samples ended elsewhere as often as the held-out noises, of
            which none shows it, allow (:func:`scoresde.tuning.gate.with_unseen`); None in files of before.
    """

    nfe: int
    tuned: bool
    start: str
    stock: str
    rmse: Interval
    stock_rmse: Interval
    gain: Interval
    bands: tuple[float, ...]
    stock_bands: tuple[float, ...]
    band_gain: Interval
    coupling: tuple[float, float]
    equivalent: int | None
    searched: int
    teacher: Certificate
    samples: tuple[int, int, int]
    parameters: int
    training: tuple[tuple[float, float], ...]
    calls: int
    seconds: float
    network: dict[str, str]
    unseen: float | None = None

    def __str__(self) -> str:
        def percents(values: tuple[float, ...]) -> str:
            return " ".join(f"{100 * value:.0f}" for value in values)

        noises = self.samples[-1]
        rows = {
            "network calls": f"{self.nfe}",
            "returned": ("tuned: better" if self.tuned else "the stock solver: tuning did not beat it")
            + f" on {noises} held-out noises",
            "tuned from": self.start,
            "best stock solver": self.stock,
            "RMSE": f"{self.rmse}, stock {self.stock_rmse}",
            "log of their ratio": str(self.gain),
            "band energies, %": f"{percents(self.bands)}; stock {percents(self.stock_bands)}",
            "W2 to the teacher": "at most {:.4g}; {:.4g} with 95 % confidence".format(*self.coupling),
            **self._not_excluded(noises),
            "stock solver needs": f"{self.equivalent or f'more than {self.searched}'} calls to be as good",
            "teacher": f"{self.teacher.calls} calls, {self.teacher.difference:.3g} from twice as many "
            f"({self.teacher.share:.2%} of the stock solver's error)",
            "noises": "{} training, {} validation, {} held out".format(*self.samples),
            "parameters": str(self.parameters),
            "evaluations": f"{self.calls}, {self.seconds:.0f} s",
        }
        return "\n".join(f"{name:<20} {value}" for name, value in rows.items())

    def _not_excluded(self, noises: int) -> dict[str, str]:
        """What so many noises do not show, and what it could cost."""
        if self.unseen is None:
            return {}
        words = (
            f"a miss in up to {RULE_OF_THREE / noises:.2%} of samples, {RULE_OF_THREE:g} / {noises}, that no "
            f"held-out noise shows; with it, RMSE up to {self.unseen:.4g}, sqrt(RMSE^2 + "
            f"{RULE_OF_THREE:g} / {noises} m^2), m that of unrelated samples"
        )
        return {"not excluded": words}

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        write_atomically(Path(path), json.dumps(self.to_json(), indent=1).encode())

    def to_json(self) -> dict[str, Any]:
        """The report as plain data."""
        return asdict(self)

    @classmethod
    def load(cls, path: str | Path) -> "Report":
        """Read what :meth:`save` wrote; ValueError, with the file and the key, if it is no report."""
        try:
            return parsed(Path(path).read_bytes(), cls)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is no report of a tuning: {error}") from None
