"""The probes of every framework, run for real: what the fits find is what is certain of the framework."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest

from faceoff.core.errors import WorkerError
from faceoff.core.spec import Contender
from faceoff.defaults.asking import Asker, Observed, RefusalError
from faceoff.defaults.layers import CONVOLUTION, PRECISION_ON_GPU, PRODUCT
from faceoff.defaults.run import find_defaults, observe, observe_products, outcome_of
from faceoff.frameworks.configuration import Configuration, read_configuration
from faceoff.frameworks.installations import variable_name
from faceoff.frameworks.registry import FRAMEWORKS
from faceoff.pool.workers import Pool
from faceoff.run.progress import Reporter

pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module", params=FRAMEWORKS)
def framework(request: pytest.FixtureRequest) -> str:
    """Each framework in turn."""
    name: str = request.param
    return name


def bare_pool(framework: str, folder) -> tuple[Pool, Contender]:
    contender = Contender(framework, next(iter(FRAMEWORKS[framework].modes)))
    pool = Pool([contender], device="cpu", threads=2, seed=0, log_directory=folder, configuration=Configuration())
    if not pool.installations[framework].installed:
        pool.close()
        pytest.skip(pool.installations[framework].reason)
    return pool, contender


@pytest.fixture(scope="module")
def observed(framework, tmp_path_factory) -> Observed:
    """Everything that is measured of the framework in turn."""
    pool, contender = bare_pool(framework, tmp_path_factory.mktemp("defaults"))
    with pool:
        return observe(pool, contender, 0, Reporter(1, quiet=True))


NUMBERS = {
    ("recurrent", "lstm biases", "biases"): (2, 1, 1),
    ("recurrent", "gru biases", "biases"): (2, 2, 1),
    ("recurrent", "lstm forget-gate bias", "mean"): (0, 1, 0),
    ("normalisation", "batch-norm epsilon", "epsilon"): (1e-5, 1e-3, 1e-5),
    ("normalisation", "batch-norm momentum", "share"): (0.1, 0.01, 0.01),
    ("normalisation", "layer-norm epsilon", "epsilon"): (1e-5, 1e-3, 1e-6),
    ("optimiser", "adam beta1", "beta1"): (0.9, 0.9, 0.9),
    ("optimiser", "adam beta2", "beta2"): (0.999, 0.999, 0.999),
    ("optimiser", "adam epsilon", "epsilon"): (1e-8, 1e-7, 1e-8),
    ("optimiser", "adamw weight decay", "weight_decay"): (0.01, 0.004, 1e-4),
    ("optimiser", "rmsprop decay", "decay"): (0.99, 0.9, 0.9),
    ("optimiser", "rmsprop epsilon", "epsilon"): (1e-8, 1e-7, 1e-8),
    ("activation", "leaky_relu layer", "slope"): (0.01, 0.3, 0.01),
    ("dropout", "scaling at rate 0.25", "training_scale"): (4 / 3, 4 / 3, 4 / 3),
}
WORDS = {
    ("initialisation", "dense kernel"): (
        "uniform, ±sqrt(1 / fan_in)",
        "uniform, ±sqrt(6 / (fan_in + fan_out))",
        "normal cut at 2 std, std sqrt(1 / fan_in)",
    ),
    ("initialisation", "dense bias"): ("uniform, ±sqrt(1 / fan_in)", "all 0", "all 0"),
    ("initialisation", "lstm input kernel"): (
        "uniform, ±sqrt(1 / hidden)",
        "uniform, ±sqrt(6 / (inputs + 4 * hidden))",
        "normal cut at 2 std, std sqrt(1 / inputs)",
    ),
    ("initialisation", "lstm recurrent kernel"): (
        "uniform, ±sqrt(1 / hidden)",
        "orthogonal, all gates together",
        "orthogonal, each gate by itself",
    ),
    ("recurrent", "gru gate order"): ("r, z, n", "z, r, n", "r, z, n"),
    ("normalisation", "batch-norm running variance"): ("unbiased (over n - 1)", "biased (over n)", "biased (over n)"),
    ("padding", "number 1, stride 2, 3x3 on even size"): ("1 before, 0 after", None, "1 before, 0 after"),
    ("padding", "same, stride 2, 3x3 on even size"): (None, "0 before, 1 after", "0 before, 1 after"),
    ("activation", "gelu"): ("exact (erf)", "exact (erf)", "tanh approximation"),
    ("precision", "array made from float64"): ("gives float64", "gives float64", "gives float32"),
    ("precision", "float64 input to a new layer"): (None, "gives float32", "gives float32"),
    ("optimiser", "adam epsilon is added"): (
        "to the corrected root",
        "to the uncorrected root",
        "to the corrected root",
    ),
    ("optimiser", "sgd learning rate"): ("0.001", "0.01", None),
    ("loss", "cross-entropy takes"): ("logits", "probabilities", "logits"),
    ("loss", "cross-entropy reduction"): ("mean", "mean", "none"),
}


def of(framework: str, values: tuple):
    return values[("pytorch", "tensorflow", "jax").index(framework)]


@pytest.mark.parametrize("key", NUMBERS, ids=lambda key: f"{key[1]}, {key[2]}")
def test_the_fit_finds_the_constant_that_the_framework_documents(key, framework, observed):
    *where, name = key
    expected = of(framework, NUMBERS[key])
    finding = observed.findings[tuple(where)]
    # The mean of a thousand biases drawn around 0 is itself a draw.
    chance = 5 * finding.numbers["std"] / 1000**0.5 if name == "mean" else 0.0
    assert finding.numbers[name] == pytest.approx(expected, rel=5e-3, abs=chance), finding.words


@pytest.mark.parametrize("key", WORDS, ids=" ".join)
def test_the_words_are_those_of_the_framework_and_a_refusal_is_one(key, framework, observed):
    finding, expected = observed.findings[key], of(framework, WORDS[key])
    if expected is None:
        assert finding.outcome == "unsupported"
        assert finding.words.startswith("refuses: ")
    else:
        assert finding.words == expected


def test_everything_that_was_measured_is_understood(observed):
    assert {key: f.words for key, f in observed.findings.items() if f.outcome == "disagrees"} == {}


def test_draws_are_the_framework_s_own_and_differ_between_repetitions(observed):
    assert set(observed.draws) == {"dense", "residual", "rnn", "lstm"}
    for draws in observed.draws.values():
        name = next(name for name in draws[0] if "weight" in name)
        assert not np.array_equal(draws[0][name], draws[1][name])


def test_an_unknown_probe_is_refused_by_its_name_and_the_worker_lives_on(lightest, tmp_path):
    pool, contender = bare_pool(lightest.framework, tmp_path)
    with pool:
        worker = pool.start_untouched(contender)
        with pytest.raises(RefusalError, match="unknown probe"):
            Asker(worker, 0).ask("no_such_probe")
        # Nothing is configured, but of a machine with a card the CPU's defaults are asked for all the same.
        # Asked once it has answered: while a process is being started, the system shows its environment as empty.
        assert b"CUDA_VISIBLE_DEVICES=" in Path(f"/proc/{worker.process_id}/environ").read_bytes().split(b"\0")
        square = np.eye(4, dtype="float32")
        assert Asker(worker, 0).ask("layer_norm", x=square)["y"].shape == square.shape
        os.kill(worker.process_id, signal.SIGKILL)
        with pytest.raises(WorkerError, match="SIGKILL"):
            Asker(worker, 0).ask("layer_norm", x=square)


def test_a_missing_framework_is_a_column_and_ends_with_3(monkeypatch, tmp_path):
    monkeypatch.setenv(variable_name("jax"), str(tmp_path / "no-python"))
    atlas = find_defaults(["jax"], quiet=True)
    assert atlas.outcomes == {"jax": "missing"}
    assert atlas.exit_status == 3


def test_products_on_a_gpu_are_words_of_their_own(lightest, tmp_path):
    seen, unseen = Observed(), Observed()
    # Without a GPU the framework takes the CPU, as its users find it.
    settings = {"device": "gpu", "threads": 1, "seed": 0, "log_directory": tmp_path}
    with Pool([lightest], configuration=Configuration(), **settings) as pool:
        observe_products(pool, lightest, seen, "", 0)
        observe_products(pool, lightest, unseen, "sees no GPU", 0)
    words = {(PRECISION_ON_GPU, PRODUCT), (PRECISION_ON_GPU, CONVOLUTION)}
    assert seen.findings.keys() == unseen.findings.keys() == words
    for finding in seen.findings.values():
        assert finding.outcome == "ok"
        assert 8 <= finding.numbers["bits"] <= 24
    assert {(f.words, f.outcome) for f in unseen.findings.values()} == {("sees no GPU", "unsupported")}
    assert outcome_of(seen) == outcome_of(unseen) == "ok"


def test_a_worker_that_ends_on_a_gpu_is_a_finding_and_no_traceback(lightest, tmp_path, monkeypatch):
    monkeypatch.setenv(variable_name(lightest.framework), str(tmp_path / "no-python"))
    observed, settings = Observed(), {"device": "gpu", "threads": 1, "seed": 0, "log_directory": tmp_path}
    with Pool([lightest], configuration=read_configuration(), **settings) as pool:
        observe_products(pool, lightest, observed, "", 0)
    assert {finding.outcome for finding in observed.findings.values()} == {"missing"}
    assert outcome_of(observed) == "missing"
