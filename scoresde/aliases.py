"""What other libraries, and papers, call the things that have a name here.

They are not accepted as names, because the solvers may differ in detail. The error gives the right name.
"""

import re

# By kind; names in small letters and digits alone, as :func:`plain` makes them.
ALIASES: dict[str, dict[str, str]] = {
    "solver": {
        # k-diffusion's Euler is Euler in sigma / alpha, which is DDIM; ours of this name is Euler in t.
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


def plain(name: str) -> str:
    """Small letters and digits alone: ``"DPM++ 2M"`` and ``"dpmpp_2m"`` are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower().replace("++", "pp"))


def bare(name: str) -> str:
    """Without what other libraries put before and after: ``k_``, ``sample_``, ``Scheduler``, ``Karras``."""
    without = re.sub(r"^(sample|k)|(scheduler|sampler|prediction|karras|exponential|gpu)$", "", name)
    return bare(without) if without != name else name
