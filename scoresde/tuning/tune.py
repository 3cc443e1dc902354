"""From a network and a budget of calls to a tuned plan, and what is known of it."""

import hashlib
import json
import math
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from tqdm import tqdm

from ..blackbox import BlackBox
from ..devices import exact
from ..files import read_tensors, write_atomically, write_tensors
from ..fingerprint import fingerprint
from ..noise import Noise
from ..plan import Plan, Solver
from ..registry import lookup
from ..sampling import Denoises
from ..sde import SDE, Level
from ..solvers import DDIM, SOLVERS
from .derivatives import step_for
from .descent import Descending, Descent, Known
from .family import GROUPS, Family
from .fit import Fit
from .gate import bootstrap, difference_of_bands, log_ratio, root
from .objective import Bands, Objective
from .pairs import Map, Pairs, squares
from .race import FREE, SPACINGS, Entrant, errors, freed, race, race_each, stock
from .report import Report
from .table import Numbers, Table, level_at, noisiest
from .teacher import MOST_CALLS, SHARE, Certificate, certify, taught

Families = Callable[[list[Entrant]], list[Entrant]]

SEED = 0x7475_6E65_0000_0000  # noises of tuning are none that sample() draws from a seed below 2^32
SURVIVORS = 3  # stock solvers of each spacing, that starts are made of
BEST = 8  # of these, that are raced on more noises
PARTS = 4  # of the training noises, of one of which derivatives are taken in an iteration
HEATS = (1, 2)  # of these parts starts are fitted to; the better half goes on
TRIED = 4  # iterations of a heat
BEHIND = 2.0  # times the best start's objective: who is further behind does not go on
FEW = 64  # noises, at least, of a part; that all stock solvers, and starts, are tried on
SOME = 256  # noises that stock solvers of more calls are compared on
FIRST_TEACHER = 32  # calls, doubled until they are enough


@dataclass(frozen=True)
class Settings:
    """How a table is tuned.

    Args:
        samples: noises of the fit; half as many more validate it, and ``held_out`` decide. Where calls are
            cheap, thousands are better: the few that change mode make most of the mean square error.
        groups: the parameters that may move: ``weights``, ``scales``, ``knots``, ``free``; without the last,
            there is no free first step.
        window: of past outputs; 0, all.
        bands, gamma: number and weight of the bands of energies; 0 for none.
        robust: whether samples that cannot be followed count less to the end; if not, they do until a last
            heat more, for their sum alone has many poor minima.
        starts: of the fit, at most; after a few iterations the better half of them goes on, twice.
        finalists: starts that go to the last heat, at most; the best after it is the result.
        iterations: of the last heat of the fit, at most.
        solvers, spacings: names of those that race; no solvers, all that make deterministic plans.

    Raises:
        ValueError: a number below what it can be, or an unknown group.
    """

    samples: int = 256
    held_out: int = 1024
    groups: tuple[str, ...] = ("weights", "scales", "knots", "free")
    window: int = 4
    bands: int = 8
    gamma: float = 0.2
    robust: bool = True
    starts: int = 4
    finalists: int = 1
    iterations: int = 12
    solvers: tuple[str, ...] = ()
    spacings: tuple[str, ...] = SPACINGS

    def __post_init__(self) -> None:
        least = {
            **{"samples": 2, "held_out": 2, "window": 0, "bands": 0},
            **{"starts": 1, "finalists": 1, "iterations": 0},
        }
        for name, bound in least.items():
            value = getattr(self, name)
            if not isinstance(value, int) or value < bound:
                raise ValueError(f"{name} must be an integer of at least {bound}, got {value!r}")
        if not 0 <= self.gamma < math.inf:
            raise ValueError(f"gamma must be finite and not negative, got {self.gamma!r}")
        if not self.groups or (unknown := set(self.groups) - set(GROUPS)):
            what = ", ".join(sorted(unknown)) if self.groups else "none"
            raise ValueError(f"groups must be some of {', '.join(GROUPS)}, got {what}")


def check_budget(nfe: int, settings: Settings) -> None:
    """ValueError if a table of ``nfe`` calls cannot be tuned so."""
    if not isinstance(nfe, int) or isinstance(nfe, bool) or nfe < 2:
        raise ValueError(f"nfe must be an integer of at least 2, got {nfe!r}; of one call there is no choice")
    if not 4 * nfe <= MOST_CALLS:
        raise ValueError(f"nfe must be at most {MOST_CALLS // 4}, a part of the teacher's calls, got {nfe}")
    window = settings.window or nfe
    parameters = sum(min(window, i + 1) for i in range(nfe)) + 2 * nfe + 2
    if not settings.samples > parameters:
        raise ValueError(
            f"{settings.samples} samples cannot decide up to {parameters} parameters; ask for more samples, "
            f"best ten times as many as parameters"
        )


@torch.no_grad()
def tune(
    denoiser: Denoises,
    nfe: int,
    shape: Sequence[int],
    *,
    cond: Tensor | None = None,
    seed: int = 0,
    settings: Settings | None = None,
    batch_size: int = 128,
    device: torch.device | str = "cpu",
    draft: Denoises | None = None,
    perceive: Map | None = None,
    state: str | Path | None = None,
    progress: bool = False,
) -> tuple[Plan, Report]:
    """The best table of ``nfe`` network calls for one's own network, by measurement.

    A converged teacher shows where noises end (:func:`scoresde.tuning.teacher.certify`); all stock solvers
    race for the best, and for three to begin with; Levenberg-Marquardt fits levels and weights
    (:class:`scoresde.tuning.family.Family`, :class:`scoresde.tuning.descent.Descending`), without
    backpropagation; and on noises that nobody has seen the result is compared with the best stock solver,
    whose plan is returned unless the tuned one is better beyond doubt.

    Kin: BNS (Shaul et al. 2024, arXiv 2403.01329), S4S (arXiv 2502.17423), LD3 (arXiv 2405.15506).

    Args:
        denoiser: what is to be sampled from, in eval mode.
        nfe: network calls, at least 2.
        shape: of one sample.
        cond: ``(K, ...)``, conditions in the mix that is to be sampled; noise i has condition i mod K.
        seed: of the noises.
        settings: default, :class:`Settings`.
        batch_size: samples at a time.
        device: of the state.
        draft: the same network at a lower cost (in low precision, say), for the race. Teacher, fit and
            report are the denoiser's own: rounding hides the small differences that a fit is made of.
        perceive: a map from samples ``(B, ...)`` to features ``(B, ...)`` that the errors of the fit, and of
            the decision, are taken of; default, the samples. Not one that the results are then measured in.
        state: a folder that the tuning goes on from, and is written to after every iteration; a teacher that
            is there serves other budgets too.
        progress: show a progress bar, of network evaluations.

    Raises:
        ValueError: a budget of less than 2 calls, or no fewer than the teacher's; fewer samples than
            parameters; a network in training mode, or whose calls differ; a teacher that does not converge;
            a state of another tuning.
        FloatingPointError: the network's output is not finite.
    """
    settings = settings or Settings()
    shape = tuple(shape)
    check_budget(nfe, settings)
    with tqdm(unit="evaluation", disable=not progress, smoothing=0.1) as bar:
        watched = _Watched(denoiser, bar)
        cheap = watched if draft is None else _Watched(draft, bar)
        tuning = _Tuning(
            watched, cheap, perceive, nfe, shape, cond, seed, settings, batch_size, torch.device(device)
        )
        return tuning.run(None if state is None else Path(state))


class _Watched:
    """A denoiser whose evaluations are counted, and shown."""

    def __init__(self, denoiser: Denoises, bar: Any) -> None:
        self.denoiser, self.bar, self.count = denoiser, bar, 0

    @property
    def sde(self) -> SDE:
        return self.denoiser.sde

    def __call__(self, x: Tensor, level: Level[Any], cond: Tensor | None = None) -> Tensor:
        self.count += len(x)
        self.bar.update(len(x))
        return self.denoiser(x, level, cond)

    def says(self, what: str) -> None:
        """Show what is being done."""
        self.bar.set_description(what)


@dataclass(frozen=True, eq=False)
class Teacher:
    """Where all noises end, by ``calls`` calls; by twice as many, those of the fit, ``difference`` away."""

    target: Tensor
    calls: int
    difference: float

    def save(self, path: Path, key: str) -> None:
        """Replace the file as a whole."""
        write_tensors(path, {"target": self.target}, key=key, calls=self.calls, difference=self.difference)

    @classmethod
    def load(cls, path: Path, key: str) -> "Teacher":
        """What :meth:`save` wrote; ValueError if it is of another tuning."""
        tensors, header = read_tensors(path)
        return cls(tensors["target"], **_of_key(header, key, path))


@dataclass
class State:
    """What a tuning has found out so far, beside its teacher; all that going on needs."""

    certificate: dict[str, Any]
    stock: list[str]
    starts: list[str]
    heats: list[dict[str, dict[str, Any]]]
    calls: int = 0
    seconds: float = 0.0

    def save(self, path: Path, key: str) -> None:
        """Replace the file as a whole."""
        write_atomically(path, json.dumps({"key": key} | vars(self)).encode())

    @classmethod
    def load(cls, path: Path, key: str) -> "State":
        """What :meth:`save` wrote; ValueError if it is of another tuning."""
        try:
            return cls(**_of_key(json.loads(path.read_text()), key, path))
        except (TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"{path} is no state of a tuning: {error}") from None


def _of_key(header: dict[str, Any], key: str, path: Path) -> dict[str, Any]:
    if header.pop("key", None) != key:
        raise ValueError(f"{path} is of another tuning; remove it, or name another folder")
    return header


@dataclass(eq=False)
class _Tuning:
    """One run of :func:`tune`."""

    denoiser: _Watched
    draft: _Watched
    perceive: Map | None
    nfe: int
    shape: tuple[int, ...]
    cond: Tensor | None
    seed: int
    settings: Settings
    batch_size: int
    device: torch.device

    def run(self, folder: Path | None) -> tuple[Plan, Report]:
        begun = time.perf_counter()
        pairs = self._noises()
        self._check(pairs)
        entered = stock(self.denoiser.sde, self.nfe, self._solvers, self.settings.spacings)
        path = None if folder is None else folder / f"state-{self.nfe}.json"
        state = State.load(path, self._key) if path is not None and path.exists() else None
        teacher, state = self._taught(entered, pairs, folder, state)
        calls, seconds = state.calls, state.seconds

        def save() -> None:
            made = {id(one): one.count for one in (self.denoiser, self.draft)}
            state.calls = calls + sum(made.values())
            state.seconds = seconds + time.perf_counter() - begun
            if path is not None:
                state.save(path, self._key)

        save()
        parts = self._parts(replace(pairs, target=teacher.target.to(self.device)))
        families = partial(self._families, variance=_variance(parts[0].target))
        if not state.starts:
            self._race(entered, parts[0], state, families)
            save()
        stocks = _by_name(state.stock, entered)
        start, best = self._fitted(_by_name(state.starts, families(stocks)), parts, state, save)
        table = _family(start).table(np.array(best.best))
        plan, report = self._judged(start, table, best, stocks, parts, state)
        save()
        return plan, replace(report, calls=state.calls, seconds=state.seconds)

    @property
    def _solvers(self) -> Mapping[str, Solver | BlackBox]:
        names = self.settings.solvers
        return {name: lookup("solver", name, SOLVERS) for name in names} if names else SOLVERS

    @property
    def _sizes(self) -> tuple[int, int, int]:
        return self.settings.samples, -(-self.settings.samples // 2), self.settings.held_out

    @property
    def _teacher_key(self) -> str:
        cond = None if self.cond is None else self.cond.tolist()
        return _hash(fingerprint(self.denoiser.denoiser), self.shape, cond, self.seed, self._sizes)

    @property
    def _key(self) -> str:
        maps = None if self.perceive is None else fingerprint(self.perceive)
        return _hash(self._teacher_key, fingerprint(self.draft.denoiser), maps, self.nfe, self.settings)

    def _noises(self) -> Pairs:
        """The noises of all parts; the targets are not there yet."""
        ids = torch.arange(sum(self._sizes))
        times = torch.tensor(self.denoiser.sde.t_max, dtype=torch.float64)
        sigma = self.denoiser.sde.sigma(times).item()
        x = sigma * Noise(self.seed + SEED, ids.to(self.device), self.shape)(0)
        cond = None if self.cond is None else self.cond[ids % len(self.cond)].to(self.device)
        return Pairs(x, x, cond)

    def _parts(self, pairs: Pairs) -> tuple[Pairs, Pairs, Pairs]:
        a, b, c = accumulate(self._sizes)
        return pairs[:a], pairs[a:b], pairs[b:c]

    def _check(self, pairs: Pairs) -> None:
        inner = self.denoiser.denoiser
        modules = [inner, getattr(inner, "net", None)]
        if any(isinstance(module, nn.Module) and _training(module) for module in modules):
            raise ValueError("the network is in training mode; call its eval() first")
        few = pairs[:FEW]
        level = Plan.make(DDIM(), self.denoiser.sde, 1).start
        first, second = (self.denoiser(few.x, level, few.cond) for _ in range(2))
        if not torch.isfinite(first).all():
            raise FloatingPointError(f"the network's output is not finite at t = {level.t:.6g}")
        if not torch.equal(first, second):
            raise ValueError(
                "two calls of the network with the same input differ: is there dropout or noise in it?"
            )

    def _taught(
        self, entered: list[Entrant], pairs: Pairs, folder: Path | None, state: State | None
    ) -> tuple[Teacher, State]:
        """The teacher, one that is there if it is good enough, and the stock solvers that may be the best."""
        size = self.batch_size
        path = None if folder is None else folder / "teacher.safetensors"
        known = Teacher.load(path, self._teacher_key) if path is not None and path.exists() else None
        if known is not None and state is not None and known.calls >= state.certificate["calls"]:
            return known, state
        self.denoiser.says("teacher")
        ranked: list[tuple[Entrant, float]] = []

        def least(pairs: Pairs) -> float:
            left = [entrant for entrant, _ in ranked] or entered
            ranked[:] = race_each(left, _spacing, self.draft, pairs[:FEW], size, keep=SURVIVORS)
            return ranked[0][1]

        # Of all noises of the fit: a few that end in another mode may be most of a teacher's error.
        fitted, calls = pairs[: sum(self._sizes[:2])], FIRST_TEACHER
        while calls < self.nfe:
            calls *= 2
        share = math.inf
        if known is not None:
            share = known.difference / least(replace(pairs, target=known.target.to(self.device)))
            calls = max(calls, known.calls)
        if known is not None and share < SHARE:
            certificate = Certificate(known.calls, known.difference, share)
        else:
            taken, certificate = certify(self.denoiser, fitted.x, fitted.cond, calls, least, size)
            rest = pairs[len(fitted) :]
            rest = taught(self.denoiser, rest.x, rest.cond, certificate.calls, size)
            target = torch.cat([taken.target, rest.target]).cpu()
            known = Teacher(target, certificate.calls, certificate.difference)
            if path is not None:
                known.save(path, self._teacher_key)
        return known, State(asdict(certificate), [entrant.name for entrant, _ in ranked], [], [])

    def _race(self, entered: list[Entrant], train: Pairs, state: State, families: Families) -> None:
        """The best stock solvers, and what to start from."""
        self.denoiser.says("race")
        left = _by_name(state.stock, entered)
        best = [entrant for entrant, _ in race(left, self.draft, train, self.batch_size, keep=BEST)]
        stocks = best + [entrant for entrant in left if entrant not in best]
        # As many of every first level, for a free step is behind at first, and ahead in the end.
        each = math.ceil(self.settings.starts / (1 + len(FREE)))
        starts = race_each(families(stocks), _first_level, self.draft, train[:FEW], self.batch_size, each)
        plain = [entrant for entrant, _ in starts if not _family(entrant).free]
        free = [entrant for entrant, _ in starts if _family(entrant).free]
        state.stock = [entrant.name for entrant in stocks]
        state.starts = [entrant.name for entrant in (*plain, *free)][: self.settings.starts]

    def _families(self, stocks: list[Entrant], variance: float) -> list[Entrant]:
        ratios = FREE if "free" in self.settings.groups else ()
        return [
            family
            for entrant in stocks
            for family in freed(entrant, self.denoiser.sde, self.nfe, variance, self.settings.window, ratios)
        ]

    def _fitted(
        self,
        starts: list[Entrant],
        parts: tuple[Pairs, Pairs, Pairs],
        state: State,
        save: Callable[[], None],
    ) -> tuple[Entrant, Descent]:
        """The start that the fit came furthest from, and its descent.

        All starts take a few steps on a few noises, the better half of them a few on more, and so on; the
        finalists, or those that are not far behind, go on, on all.
        """
        train, valid, _ = parts
        finalists = self.settings.finalists
        bands = Bands.of(train.target, self.settings.bands) if self.settings.bands else None
        step = self._step(train[:FEW])

        def fit_of(start: Entrant, scale: float, robust: bool = True) -> Fit:
            objective = Objective(scale, bands, self.settings.gamma, robust=robust)
            return Fit(_family(start), self.denoiser, objective, self.batch_size, step, self.perceive)

        scale = min(fit_of(one, 1.0).error(np.zeros(_family(one).size), train) for one in starts)
        part = max(FEW, -(-len(train) // PARTS))
        heats = [(parts * part, min(TRIED, self.settings.iterations)) for parts in HEATS]
        heats += [(len(train), self.settings.iterations)] * (1 if self.settings.robust else 2)
        reached: dict[str, Descent] = {}
        known: dict[str, Known] = {start.name: {} for start in starts}

        def go_on(start: Entrant, heat: int, noises: int, iterations: int) -> Descent:
            family, before = _family(start), reached.get(start.name)
            active = family.places(self.settings.groups)
            robust = self.settings.robust or heat < len(heats) - 1
            if before and not robust:  # what parts said was of another objective
                before = replace(before, looked=())
                known[start.name] = {}
            descending = Descending(fit_of(start, scale, robust), train[:noises], valid, active, part)
            kept, first = state.heats[heat], len(before.history) if before else 0
            if start.name not in kept:
                theta = np.array(before.best) if before else np.zeros(family.size)
                kept[start.name] = asdict(descending.begin(theta, before))
            now = Descent.of(kept[start.name])
            while not now.done and len(now.history) - first <= iterations:
                self.denoiser.says(
                    f"heat {heat + 1}, {start.name}, {len(now.history) - first}: {now.least:.4f}"
                )
                now = descending.improve(now, known[start.name])
                kept[start.name] = asdict(now)
                save()
            return now

        for heat, (noises, iterations) in enumerate(heats):
            if len(state.heats) == heat:
                state.heats.append({})
            if heat >= len(HEATS):
                starts = starts[:finalists]
            elif heat and len(starts) <= finalists:
                continue  # nobody would go
            for start in starts:
                reached[start.name] = go_on(start, heat, noises, iterations)
            ranked = sorted(starts, key=lambda one: reached[one.name].least)
            ranked = ranked[: max(finalists, -(-len(starts) // 2))]
            starts = [
                one for one in ranked if reached[one.name].least <= BEHIND * reached[ranked[0].name].least
            ]
        return starts[0], reached[starts[0].name]

    def _step(self, pairs: Pairs) -> float:
        """Of differences, as it suits the network in the middle of a run."""
        begin, level = noisiest(self.denoiser.sde), level_at(self.denoiser.sde, 0.0)
        x = level.alpha * pairs.target + level.sigma / begin.sigma * pairs.x
        return step_for(self.denoiser, x, level, pairs.cond)

    def _judged(
        self,
        start: Entrant,
        tuned: Table,
        descent: Descent,
        stocks: list[Entrant],
        parts: tuple[Pairs, Pairs, Pairs],
        state: State,
    ) -> tuple[Plan, Report]:
        """The plan that won on held-out noises, and the figures."""
        self.denoiser.says("held-out noises")
        _, _, test = parts
        bands = Bands.of(test.target, self.settings.bands or 8)
        ours, theirs, target = (
            _measured(table, self.denoiser, test, bands, self.perceive, self.batch_size)
            for table in (tuned, stocks[0].table, None)
        )
        gain = bootstrap(log_ratio, ours.seen, theirs.seen)
        band_gain = bootstrap(difference_of_bands, ours.energies, theirs.energies, target.energies)
        won = gain.high < 0 and not band_gain.low > 0
        chosen = ours if won else theirs
        size = math.prod(self.shape)
        spread = float(chosen.squares.std(ddof=1)) / math.sqrt(len(test))
        mean = float(chosen.squares.mean())
        equivalent, searched = self._equivalent(stocks, test, chosen.squares, state.certificate["calls"])
        report = Report(
            nfe=self.nfe,
            tuned=won,
            start=start.name,
            stock=stocks[0].name,
            rmse=bootstrap(root, ours.squares),
            stock_rmse=bootstrap(root, theirs.squares),
            gain=gain,
            bands=_tuple(ours.energies.mean(0) / target.energies.mean(0)),
            stock_bands=_tuple(theirs.energies.mean(0) / target.energies.mean(0)),
            band_gain=band_gain,
            coupling=(math.sqrt(size * mean), math.sqrt(size * (mean + 1.645 * spread))),
            equivalent=equivalent,
            searched=searched,
            teacher=Certificate(**state.certificate),
            samples=self._sizes,
            parameters=len(_family(start).places(self.settings.groups)),
            training=descent.history,
            calls=0,
            seconds=0.0,
            network=fingerprint(self.denoiser.denoiser),
        )
        about = {**report.network, "nfe": self.nfe, "seed": self.seed, "tuned": won}
        return replace((tuned if won else stocks[0].table).plan(), about=about), report

    def _equivalent(
        self, stocks: list[Entrant], pairs: Pairs, ours: Numbers, most: int
    ) -> tuple[int | None, int]:
        """The least calls at which a good stock solver is as near the teacher, of those up to 3 x nfe.

        Those that are far off on a few noises are not tried on more.
        """
        most = min(3 * self.nfe, most // 2)
        few, more = pairs[:FEW], pairs[:SOME]

        def near(entrant: Entrant, part: Pairs, times: float = 1.0) -> bool:
            theirs = errors(entrant.table, self.draft, part, self.batch_size).mean()
            return float(theirs) <= times * float(ours[: len(part)].mean())

        for nfe in range(self.nfe, most + 1):
            for name, spacing in {(one.solver, one.spacing): None for one in stocks[:3]}:
                for entrant in stock(self.denoiser.sde, nfe, {name: SOLVERS[name]}, [spacing]):
                    if near(entrant, few, times=2.0) and near(entrant, more):
                        return nfe, most
        return None, most


@dataclass(frozen=True, eq=False)
class _Measured:
    squares: Numbers  # (M, 1): mean square error of every sample
    seen: Numbers  # the same, of what is perceived of it
    energies: Numbers  # (M, bands)


def _measured(
    table: Table | None,
    denoiser: Denoises,
    pairs: Pairs,
    bands: Bands,
    perceive: Map | None,
    batch_size: int,
) -> _Measured:
    """Errors and energies of every sample; of the targets themselves, without a table."""
    missed, seen, energies = [], [], []
    for part in pairs.batches(batch_size):
        ends = part.target if table is None else table.run(denoiser, part.x, part.cond)
        missed.append(squares(exact(ends), exact(part.target))[:, None].cpu())
        seen.append(squares(ends, part.target, perceive)[:, None].cpu().double() if perceive else missed[-1])
        energies.append(bands.each(bands.turned(ends)).cpu())
    return _Measured(torch.cat(missed).numpy(), torch.cat(seen).numpy(), torch.cat(energies).numpy())


def _by_name(names: Sequence[str], entrants: Sequence[Entrant]) -> list[Entrant]:
    return [entrant for name in names for entrant in entrants if entrant.name == name]


def _spacing(entrant: Entrant) -> str:
    return entrant.spacing


def _first_level(entrant: Entrant) -> float:
    return round(_family(entrant).lams[0], 6)


def _family(entrant: Entrant) -> Family:
    assert entrant.family is not None
    return entrant.family


def _tuple(values: Numbers) -> tuple[float, ...]:
    return tuple(values.tolist())


def _hash(*parts: Any) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


def _variance(target: Tensor) -> float:
    return float((target - target.mean(0)).square().mean())


def _training(module: nn.Module) -> bool:
    """A container that nobody put into eval mode does no harm, if all that it holds is."""
    return any(part.training for part in module.modules() if not list(part.children()))
