"""The figures of a tuning."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field

from ..files import write_atomically
from .confidence import RULE_OF_THREE, Interval
from .strict_json import parse_json, plain_data
from .teacher import TeacherCheck


@dataclass(frozen=True)
class Report:
    """The figures of a tuned solver; all but ``training`` are of held-out noise samples.

    Some keys of the JSON file are shorter than the names here; these keys are in parentheses.

    Args:
        nfe: network calls.
        tuned: True if the tuned plan was returned, False if the plan of the best stock solver was.
        start: the candidate that the fit started from.
        stock: the best stock solver.
        rmse: the root mean square error of the tuned table, to the teacher's ends.
        stock_rmse: the RMSE of the stock solver.
        log_rmse_ratio: log(rmse / stock_rmse), paired; in features, if the tuning had a feature map
            (``gain``).
        bands: the energies of the tuned table in frequency bands, divided by the energies of the teacher.
        stock_bands: the same for the stock solver.
        band_difference: the root mean square of the logs of ``bands``, minus the same for the stock solver,
            paired (``band_gain``).
        w2_bound: a bound on the Wasserstein distance of the laws of the returned plan and the teacher: W2 <=
            sqrt(E |y_N - y*|^2), because both start from the same noise; the estimate, and the upper end of a
            one-sided 95 % interval (``coupling``).
        equivalent_calls: the smallest number of calls at which a good stock solver is as accurate; None if no
            number up to ``equivalent_searched_up_to`` is enough (``equivalent``).
        equivalent_searched_up_to: the largest number of calls that was tried (``searched``).
        teacher: the check of the teacher.
        samples: the numbers of training, validation and held-out noise samples.
        parameters: the number of free parameters of the table.
        training: the objective on training and on validation samples, at the start of each round and after
            each iteration.
        calls: network evaluations of the tuning, each of one sample at one level.
        seconds: the time of the tuning.
        network: what the table was tuned for: hash of the weights, SDE and precision.
        rmse_with_unseen: the RMSE of the returned plan, if misses that no held-out sample shows were as
            frequent as they can be (:func:`scoresde.tuning.confidence.with_unseen`); None in older files
            (``unseen``).
    """

    nfe: int
    tuned: bool
    start: str
    stock: str
    rmse: Interval
    stock_rmse: Interval
    log_rmse_ratio: Annotated[Interval, Field(alias="gain")]
    bands: tuple[float, ...]
    stock_bands: tuple[float, ...]
    band_difference: Annotated[Interval, Field(alias="band_gain")]
    w2_bound: Annotated[tuple[float, float], Field(alias="coupling")]
    equivalent_calls: Annotated[int | None, Field(alias="equivalent")]
    equivalent_searched_up_to: Annotated[int, Field(alias="searched")]
    teacher: TeacherCheck
    samples: tuple[int, int, int]
    parameters: int
    training: tuple[tuple[float, float], ...]
    calls: int
    seconds: float
    network: dict[str, str]
    rmse_with_unseen: Annotated[float | None, Field(alias="unseen")] = None

    def __str__(self) -> str:
        def percents(values: tuple[float, ...]) -> str:
            return " ".join(f"{100 * value:.0f}" for value in values)

        held_out = self.samples[-1]
        needed = self.equivalent_calls or f"more than {self.equivalent_searched_up_to}"
        rows = {
            "network calls": f"{self.nfe}",
            "returned": ("tuned: better" if self.tuned else "the stock solver: tuning did not beat it")
            + f" on {held_out} held-out samples",
            "tuned from": self.start,
            "best stock solver": self.stock,
            "RMSE": f"{self.rmse}, stock {self.stock_rmse}",
            "log of their ratio": str(self.log_rmse_ratio),
            "band energies, %": f"{percents(self.bands)}; stock {percents(self.stock_bands)}",
            "W2 to the teacher": "at most {:.4g}; {:.4g} with 95 % confidence".format(*self.w2_bound),
            **self._not_excluded(held_out),
            "stock solver needs": f"{needed} calls to be as accurate",
            "teacher": f"{self.teacher.calls} calls, {self.teacher.difference:.3g} from twice as many "
            f"({self.teacher.share:.2%} of the stock solver's error)",
            "noise samples": "{} training, {} validation, {} held out".format(*self.samples),
            "parameters": str(self.parameters),
            "evaluations": f"{self.calls}, {self.seconds:.0f} s",
        }
        return "\n".join(f"{name:<20} {value}" for name, value in rows.items())

    def _not_excluded(self, held_out: int) -> dict[str, str]:
        """What ``held_out`` samples cannot exclude, and what it would cost."""
        if self.rmse_with_unseen is None:
            return {}
        words = (
            f"a miss in up to {RULE_OF_THREE / held_out:.2%} of samples, {RULE_OF_THREE:g} / {held_out}, "
            f"that no held-out sample shows; with it, RMSE up to {self.rmse_with_unseen:.4g}, sqrt(RMSE^2 + "
            f"{RULE_OF_THREE:g} / {held_out} m^2), m the RMS distance of unrelated samples"
        )
        return {"not excluded": words}

    def save(self, path: str | Path) -> None:
        """Write the report as JSON."""
        write_atomically(Path(path), json.dumps(self.to_json(), indent=1).encode())

    def to_json(self) -> dict[str, Any]:
        """The report as plain data, with the keys of the file."""
        content: dict[str, Any] = plain_data(self)
        return content

    @classmethod
    def load(cls, path: str | Path) -> "Report":
        """Read what :meth:`save` wrote.

        Raises:
            ValueError: the file is not a report; the message names the file and the key.
        """
        try:
            return parse_json(Path(path).read_bytes(), cls)
        except (OSError, ValueError) as error:
            raise ValueError(f"{path} is no report of a tuning: {error}") from None
