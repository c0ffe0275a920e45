"""The parts, in order, each with its own time limit, and the small sizes by which they are rehearsed without a card."""

from __future__ import annotations

from dataclasses import dataclass

DEVICE, FOLDER, PUBLISHED = "{device}", "{folder}", "{published}"
# One mode of each framework; those that compile for long come later. A framework that is not there is `missing`.
FRAMEWORKS = ("pytorch:eager", "tensorflow:graph", "jax:jit")
USUAL = ("--contenders", ",".join(FRAMEWORKS))
# Those whose recurrent layers are one kernel.
FUSED = ("--contenders", "pytorch:eager,tensorflow:graph,jax:cudnn")
KERNELS = ("--contenders", ",".join((*FRAMEWORKS, "cuda", "opencl", "triton")))
# The largest first: however little time there is, it is known how near each comes to the card's best.
SQUARES = ",".join(f"dense-{size}-{size}-b{size}" for size in (4096, 1024, 256, 2048, 512, 128, 64))
SLIDES = "dense-5-5-b4"
LSTMS = "lstm-t25-i1024-h1024-o10-b128,lstm-t25-i4096-h4096-o10-b128"
INFERENCE, QUICK = ("--steps", "inference"), ("--budget", "quick")
PRODUCTS = ("--preset", "products", *INFERENCE, *QUICK, "--workload", f"{SQUARES},{SLIDES}")
BIG_PRODUCT = ("--preset", "deepbench", *INFERENCE, "--workload", "dense-4096-4096-b7000")
SMALL_PRODUCTS = ("--preset", "kernels", *INFERENCE, *QUICK, "--workload", f"dense-256-256-b256,{SLIDES}")
# A card that goes after so long has done the first six.
FIRST_SIX_S = 360.0


@dataclass(frozen=True)
class Part:
    """One of them.

    Args:
        name: of its folder.
        limit_s: how long it may take, in seconds. It is interrupted a little earlier.
        arguments: of the interpreter. `{device}`, `{folder}` and `{published}` are filled in.
        resumes: its folder holds a journal, from which it goes on.
    """

    name: str
    limit_s: float
    arguments: tuple[str, ...]
    resumes: bool = True


def plan(rehearse: bool = False) -> list[Part]:
    """All parts, the most worthwhile first.

    Args:
        rehearse: the same order and limits with small sizes, and nothing that only a card has.
    """

    def sized(full: tuple[str, ...], small: tuple[str, ...]) -> tuple[str, ...]:
        return small if rehearse else full

    def run(name: str, limit_s: float, command: str, *arguments: str, device: str = DEVICE) -> Part:
        return Part(name, limit_s, ("-m", "faceoff", command, "--device", device, *arguments))

    def study(name: str, limit_s: float, *arguments: str) -> Part:
        return Part(name, limit_s, ("-m", *arguments), resumes=False)

    models = ("--preset", *sized(("default",), ("small",)))
    timed = (*models, *sized((), QUICK))
    verdicts = ("--contenders", *FRAMEWORKS, "--conditions", "quiet", "--equals", "1", "--out", f"{FOLDER}/verdicts")
    return [
        study("doctor", 60, "faceoff", "doctor"),
        run("agreement", 75, "agree", *USUAL, *models, "--dtype", "float32,bfloat16"),
        run("bench", 85, "bench", *USUAL, *timed),
        run("products", 55, "bench", *sized((*KERNELS, *PRODUCTS), (USUAL[0], f"{USUAL[1]},opencl", *SMALL_PRODUCTS))),
        run("product-bfloat16", 35, "bench", *USUAL, "--dtype", "bfloat16", *sized(BIG_PRODUCT, SMALL_PRODUCTS)),
        run("lstm", 50, "bench", *INFERENCE, *sized(
            (*FUSED, "--preset", "deepbench", "--workload", LSTMS), (*USUAL, *timed, "--models", "lstm"))),
        run("sweep", 90, "bench", *USUAL, *models, "--models", "residual", *INFERENCE, *QUICK,
            "--batch-size", *sized(("1,2,4,...",), ("1,2,4,...,8",))),
        study("by-hand", 110, "tests.benchmarks.handwritten", "--device", DEVICE, *models,
              "--passes", *sized(("20",), ("5",)), "--json", f"{FOLDER}/ratios.json"),
        run("agreement-narrow", 60, "agree", *USUAL, *models, "--dtype", *sized(("float16,tf32",), ("float16",))),
        # Nothing is slowed down: how often is a contender called slower or faster than itself?
        study("verdicts", 90, "tests.calibration.verdicts", "--device", DEVICE, *verdicts,
              "--models", *sized(("dense", "lstm"), ("dense",)), "--minutes", *sized(("0.8",), ("0.1",))),
        # What is left of the time is for these.
        run("bench-all-modes", 150, "bench", *timed),
        # A mode that only a card has is not known on the processor.
        run("products-cpu", 60, "bench", *USUAL, *sized(PRODUCTS, SMALL_PRODUCTS), device="cpu"),
        run("published", 120, "bench", *INFERENCE, *sized(
            (FUSED[0], f"{FUSED[1]},jax:jit", "--preset", "deepbench", "--workload", PUBLISHED),
            (*USUAL, *timed, "--models", "rnn"))),
        study("defaults", 60, "faceoff", "defaults", "--device", DEVICE, "--out", f"{FOLDER}/atlas.json"),
        run("bench-bfloat16", 120, "bench", *timed, "--dtype", "bfloat16"),
        run("agreement-all-modes", 150, "agree", *models,
            "--dtype", *sized(("float32,bfloat16,float16,tf32",), ("float32,bfloat16",))),
    ]  # fmt: skip
