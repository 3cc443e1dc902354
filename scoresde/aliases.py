"""Names of other libraries and of papers for the entries of the registries.

They are not accepted, because the entries may differ in detail: an error gives the name used here.
"""

import re

# By kind of registry. The keys are in the form of :func:`plain`.
ALIASES: dict[str, dict[str, str]] = {
    "solver": {
        # Euler of k-diffusion is Euler in sigma / alpha, which is DDIM; the entry "euler" is Euler in t.
        **dict.fromkeys(
            ["keuler", "sampleeuler", "eulerdiscrete", "edmeuler", "flowmatcheulerdiscrete"], "ddim"
        ),
        **dict.fromkeys(["eulera", "eulerancestral", "eulerancestraldiscrete", "ddpm"], "ancestral"),
        **dict.fromkeys(["heundiscrete", "heunpp2", "edm"], "heun"),
        **dict.fromkeys(["dpm2discrete", "dpmsolver2"], "dpm2"),
        **dict.fromkeys(["dpm2a", "dpm2ancestral", "dpm2ancestraldiscrete", "dpmsolversde"], "dpmpp-sde"),
        **dict.fromkeys(["dpmpp2sa", "dpmpp2sancestral"], "dpmpp-sde"),
        **dict.fromkeys(
            ["dpmpp", "dpmsolver", "dpmsolverpp", "dpmsolvermultistep", "dpmsolverpp2m"], "dpmpp-2m"
        ),
        **dict.fromkeys(["edmdpmsolvermultistep"], "dpmpp-2m"),
        **dict.fromkeys(["dpmsolversinglestep", "dpmsolverpp2s"], "dpmpp-2s"),
        **dict.fromkeys(["unipcbh2", "unipcmultistep"], "unipc"),
        **dict.fromkeys(["plms"], "pndm"),
        "lmsdiscrete": "lms",
        "deismultistep": "deis",
        "dpmsolver3": "dpm3",
        "dpmadaptive": "dpm-adaptive-23",
        "ersde": "er-sde-3",
        "eulermaruyama": "em",
        "predictorcorrector": "pc",
        "scoresdeve": "pc",
        "scoresdevp": "em",
        "rk45": "scipy:method=RK45",
        "dopri5": "ode:method=dopri5",
        **dict.fromkeys(["default", "automatic", "best"], "auto"),
    },
    "spacing": {
        **dict.fromkeys(["exponential", "logsnr", "uniformlogsnr", "uniformlam", "lambda"], "uniform-lambda"),
        **dict.fromkeys(["uniform", "uniformtime", "timeuniform", "linear", "linspace", "time"], "uniform-t"),
        **dict.fromkeys(
            ["trailing", "leading", "simple", "normal", "sgmuniform", "ddimuniform"], "uniform-t"
        ),
        **dict.fromkeys(["quad", "quadratic", "quadratictime", "timequadratic"], "quadratic-t"),
        **dict.fromkeys(["edm", "rho"], "karras"),
        "powertime": "power-t",
        **dict.fromkeys(["flow", "default"], "flow-time"),
        "levels": "measured",
        "ays": "align-your-steps",
        "listed": "at-times",
        **dict.fromkeys(["listedlams", "listedlambda"], "at-lambdas"),
        **dict.fromkeys(["listedsigmas", "listedsigma"], "at-sigmas"),
        "gits": "gits(denoiser, x, sde) in Python, for it is fitted to a network",
    },
    "SDE": {
        **dict.fromkeys(["vpsde", "variancepreserving"], "vp"),
        **dict.fromkeys(["vesde", "varianceexploding"], "ve"),
        **dict.fromkeys(["flow", "rf", "flowmatching", "fm", "ot"], "rectified-flow"),
        "subvpsde": "sub-vp",
        "discretevpsde": "ddpm",
    },
    "prediction": {
        **dict.fromkeys(["eps", "epsilon"], "noise"),
        **dict.fromkeys(["x0", "xstart", "sample", "start"], "data"),
        **dict.fromkeys(["flow", "flowmatching"], "velocity"),
        "karras": "edm",
    },
}

# Earlier names of options, in the form of :func:`plain`.
RENAMED_OPTIONS = {"on": "prediction", "two": "two_point_rule"}


def plain(name: str) -> str:
    """Only small letters and digits: ``"DPM++ 2M"`` and ``"dpmpp_2m"`` both become ``"dpmpp2m"``."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))


def bare(name: str) -> str:
    """Without prefixes and suffixes of other libraries: ``k_``, ``sample_``, ``Scheduler``, ``Karras``."""
    without = re.sub(r"^(sample|k)|(scheduler|sampler|prediction|karras|exponential|gpu)$", "", name)
    return bare(without) if without != name else name
