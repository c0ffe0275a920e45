"""Intervals cover what they say, equals are seldom told apart, differences are found, and verdicts follow."""

import math

import numpy as np
import pytest

from faceoff.speed.statistics import Precision, Sample, adjusted, drift, verdict

PASSES = 12
TRIALS = 120


def rounds(rng, contenders, processes=2, between=0.01, within=0.03, passes=PASSES):
    """Samples of contenders by their true ratio: processes differ, and so do the rounds of each."""
    samples = {}
    for name, ratio in contenders.items():
        level = np.log(ratio) + between * rng.standard_normal((processes, 1))
        logs = level + within * rng.standard_normal((processes, passes))
        samples[name] = Sample(np.exp(logs), np.zeros(logs.shape, dtype=bool))
    return samples


@pytest.mark.parametrize(("between", "within"), [(0.02, 0.02), (0.0, 0.05), (0.03, 0.005)])
def test_the_interval_of_a_ratio_covers_the_true_one_as_often_as_it_says(between, within):
    rng = np.random.default_rng(0)
    trials, covered = 500, 0
    for _ in range(trials):
        ratio = Precision(rounds(rng, dict(zip("abcd", (1.1, 1.0, 1.3, 2.0), strict=True)), 2, between, within)).ratio(
            "a", "b"
        )
        covered += ratio.low <= 1.1 <= ratio.high
    assert covered / trials > 0.93


def in_two_kinds(rng, shape):
    """Rounds of which half are slower by a third, as of threads that fell asleep; logarithms."""
    return np.where(rng.random(shape) < 0.5, 0.0, 0.3) + 0.01 * rng.standard_normal(shape)


DRAWS = {
    "normal": lambda rng, shape: 0.05 * rng.standard_normal(shape),
    "heavy-tailed": lambda rng, shape: 0.05 * rng.standard_t(3, shape),
    "only ever slower": lambda rng, shape: rng.exponential(0.05, shape),
    "in two kinds": in_two_kinds,
}


@pytest.mark.parametrize("draw", DRAWS.values(), ids=DRAWS)
@pytest.mark.parametrize("passes", [6, 12, 24])
def test_the_sampling_variance_of_few_rounds_is_what_times_of_as_many_vary_by(draw, passes):
    samples = [
        Sample(np.exp(logs), np.zeros((2, passes), dtype=bool))
        for logs in draw(np.random.default_rng(2), (600, 2, passes))
    ]
    estimates = [sample.sampling_variance(sample.left_out()) for sample in samples]
    times = [sample.log_times(sample.left_out()) for sample in samples]
    # Where rounds come in two kinds it errs to the safe side.
    assert 0.85 < np.mean(estimates) / np.var(times) < (1.5 if draw is in_two_kinds else 1.2)


def test_a_time_is_sure_where_rounds_come_in_two_kinds_and_a_median_is_not():
    logs = in_two_kinds(np.random.default_rng(5), (300, 2, 24))
    times = [
        Sample(np.exp(rows), np.zeros(rows.shape, dtype=bool)).log_times(np.zeros(rows.shape, bool)) for rows in logs
    ]
    assert np.std(times) < 0.4 * np.std(np.median(logs, axis=2))


def test_the_time_of_a_process_is_the_mean_of_the_faster_half_of_its_rounds():
    rows = np.array([[3.0, 1.0, 9.0, 2.0, 8.0], [4.0, 4.0, 4.0, 4.0, 1.0]])
    sample = Sample(rows, np.zeros(rows.shape, dtype=bool))
    assert np.exp(sample.log_times(sample.left_out())) == pytest.approx([6 ** (1 / 3), 16 ** (1 / 3)])


@pytest.mark.parametrize(("correlation", "least", "most"), [(0.0, 0.8, 1.25), (0.7, 2.0, 6.0)])
def test_rounds_that_are_slow_for_a_while_differ_by_more_from_block_to_block(correlation, least, most):
    rng = np.random.default_rng(4)
    logs = np.zeros((400, 25))
    for column in range(1, 25):
        logs[:, column] = correlation * logs[:, column - 1] + 0.05 * rng.standard_normal(400)
    sample = Sample(np.exp(logs[:, 1:]), np.zeros((400, 24), dtype=bool))
    assert least < sample.likeness(sample.left_out()) < most


@pytest.mark.parametrize("processes", [2, 3, 6])
def test_rounds_that_follow_no_pattern_look_alike_as_often_as_unlike(processes):
    rng = np.random.default_rng(7)
    nothing_out = np.zeros((processes, 24), dtype=bool)
    found = [
        Sample(np.exp(0.05 * rng.standard_normal((processes, 24))), nothing_out).likeness(nothing_out)
        for _ in range(1000)
    ]
    assert np.median(found) == pytest.approx(1.0, abs=0.15)


def test_an_interval_allows_for_rounds_that_are_slow_for_a_while():
    mixed = rounds(np.random.default_rng(6), {"a": 1, "b": 1, "c": 1}, between=0.0, within=0.05)
    in_turn = {name: Sample(np.sort(sample.rounds_s, axis=1), sample.disturbed) for name, sample in mixed.items()}
    # Some go up while others go down, or it would be the machine's and in all alike.
    in_turn = {
        name: Sample(np.stack([sample.rounds_s[0], *sample.rounds_s[1:, ::-1]]), sample.disturbed)
        for name, sample in in_turn.items()
    }
    assert Precision(in_turn).noise_floor() - 1 > 1.5 * (Precision(mixed).noise_floor() - 1)


def test_five_rounds_are_too_few_to_tell_whether_successive_ones_are_alike():
    sample = Sample(np.array([[1.0, 1.1, 1.2, 1.3, 1.4]]), np.zeros((1, 5), dtype=bool))
    assert sample.likeness(sample.left_out()) == 1.0


def test_the_interval_widens_with_the_spread_between_processes_that_rounds_cannot_show():
    quiet = Precision(rounds(np.random.default_rng(1), {"a": 1, "b": 1, "c": 1}, between=0.0, within=0.001))
    spread = Precision(rounds(np.random.default_rng(1), {"a": 1, "b": 1, "c": 1}, between=0.05, within=0.001))
    assert spread.noise_floor() - 1 > 10 * (quiet.noise_floor() - 1)
    assert spread.twin_ratio("a") > quiet.twin_ratio("a")


def verdicts(samples, baseline, picked_from):
    precision = Precision(samples)
    ratios = [precision.ratio(name, baseline, picked_from) for name in samples if name != baseline]
    return [
        verdict((ratio.low, ratio.high), ratio.ratio, p)
        for ratio, p in zip(ratios, adjusted([ratio.p_value for ratio in ratios]), strict=True)
    ]


def fastest(samples):
    precision = Precision(samples)
    return min(samples, key=lambda name: precision.interval(name)[0])


def test_equals_are_seldom_told_apart_also_when_the_baseline_was_picked_as_the_fastest():
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(TRIALS):
        samples = rounds(rng, dict.fromkeys("abcdefg", 1.0), between=0.02)
        false += any(word in ("faster", "slower") for word in verdicts(samples, fastest(samples), len(samples)))
    assert false / TRIALS <= 0.06


def test_without_the_studentized_range_the_fastest_makes_equals_look_slow():
    rng = np.random.default_rng(2)
    false = 0
    for _ in range(TRIALS):
        samples = rounds(rng, dict.fromkeys("abcdefg", 1.0), between=0.02)
        false += any(word in ("faster", "slower") for word in verdicts(samples, fastest(samples), 1))
    assert false / TRIALS > 0.10


def test_a_tenth_more_is_called_slower_and_never_faster():
    rng = np.random.default_rng(3)
    words = [
        verdicts(rounds(rng, {"a": 1.0, "b": 1.1, "c": 3.0, "d": 5.0}, processes=3), "a", 1)[0] for _ in range(200)
    ]
    assert words.count("slower") >= 0.95 * 200
    assert "faster" not in words


def test_drift_that_hits_a_pass_alike_does_not_widen_the_ratio():
    rng = np.random.default_rng(4)
    steady = rounds(rng, {"a": 1.0, "b": 1.2, "c": 2.0}, between=0.0, within=0.002)
    slowing = np.linspace(1.0, 2.0, PASSES)
    drifting = {name: Sample(sample.rounds_s * slowing, sample.disturbed) for name, sample in steady.items()}
    ratio = Precision(drifting).ratio("b", "a")
    assert ratio.ratio == pytest.approx(1.2, rel=0.005)
    assert ratio.high - ratio.low < 0.02


def test_disturbed_rounds_are_left_out_of_both_sides():
    rng = np.random.default_rng(5)
    samples = rounds(rng, {"a": 1.0, "b": 1.0, "c": 1.0}, between=0.0, within=0.001)
    samples["a"].rounds_s[:, :4] *= 3
    samples["a"].disturbed[:, :4] = True
    # Nobody disturbed b in these passes, and yet they count for neither.
    samples["b"].rounds_s[:, :4] /= 3
    assert Precision(samples).ratio("a", "b").ratio == pytest.approx(1.0, abs=0.01)


def disturbed_at_first(passes, slowdown):
    """Three contenders of 40 passes: a was disturbed in the first ones, b ended after six."""
    samples = rounds(np.random.default_rng(5), {"a": 1.0, "b": 1.2, "c": 1.5}, between=0.0, within=0.001, passes=40)
    samples["a"].rounds_s[:, :passes] *= slowdown
    samples["a"].disturbed[:, :passes] = True
    samples["b"] = samples["b"].first(6)
    return Precision(samples)


def test_disturbed_rounds_are_no_drift_of_the_machine_even_where_one_had_no_others_before():
    precision = disturbed_at_first(6, slowdown=5)
    times_s = [precision.interval(name)[0] for name in "abc"]
    assert times_s == pytest.approx([1.0, 1.2, 1.5], rel=0.01)


def test_where_too_few_passes_disturbed_neither_each_is_taken_in_its_own_undisturbed_ones():
    precision = disturbed_at_first(4, slowdown=3)
    ratio = precision.ratio("b", "a")
    assert ratio.ratio == pytest.approx(1.2, abs=0.01)
    assert ratio.ratio == pytest.approx(precision.interval("b")[0] / precision.interval("a")[0])
    assert ratio.low < 1.2 < ratio.high


def test_a_machine_that_disturbs_most_rounds_has_all_of_them_kept():
    samples = rounds(np.random.default_rng(6), {"a": 1.0, "b": 1.0})
    samples["a"].disturbed[:, :9] = True
    assert not samples["a"].left_out().any()


def test_who_was_measured_for_fewer_passes_is_compared_in_those_that_both_ran_in():
    rng = np.random.default_rng(11)
    samples = rounds(rng, {"a": 1.0, "b": 1.3, "c": 1.0}, between=0.0, within=0.01, passes=40)
    # From the tenth pass on the machine is twice as slow, which the one that ended before never saw.
    for sample in samples.values():
        sample.rounds_s[:, 10:] *= 2
    samples["b"] = samples["b"].first(10)
    precision = Precision(samples)
    ratio = precision.ratio("b", "a")
    assert ratio.ratio == pytest.approx(1.3, rel=0.02)
    assert ratio.low < 1.3 < ratio.high
    # And its time is told as if it had run in all of them.
    assert precision.interval("b")[0] / precision.interval("a")[0] == pytest.approx(1.3, rel=0.02)
    assert precision.fastest() != "b"
    long = precision.ratio("c", "a")
    assert long.high - long.low < ratio.high - ratio.low


def test_a_machine_that_slows_down_after_most_have_ended_changes_nobody_s_place():
    rng = np.random.default_rng(13)
    samples = rounds(rng, {"a": 1.0, "b": 1.3, "c": 1.1, "d": 2.0, "e": 3.0}, between=0.0, within=0.01, passes=40)
    for sample in samples.values():
        sample.rounds_s[:, 10:] *= 2
    for ended in "bde":
        samples[ended] = samples[ended].first(10)
    precision = Precision(samples)
    assert precision.fastest() == "a"
    # Told as in the typical pass, which is a slow one.
    for name, expected in (("a", 2.0), ("b", 2.6), ("c", 2.2), ("d", 4.0), ("e", 6.0)):
        assert precision.interval(name)[0] == pytest.approx(expected, rel=0.03)


def test_the_interval_of_one_contender_alone_holds_its_time():
    rng = np.random.default_rng(14)
    held = 0
    for _ in range(200):
        logs = 0.1 * rng.standard_normal((2, 24))
        _, low, high = Precision({"a": Sample(np.exp(logs), np.zeros(logs.shape, dtype=bool))}).interval("a")
        # The mean of the faster half of a normal distribution lies 0.8 standard deviations below its middle.
        held += low < math.exp(-0.0798) < high
    assert held >= 0.93 * 200


def test_a_process_that_is_far_off_leaves_an_interval_wide_and_finite():
    rng = np.random.default_rng(12)
    samples = rounds(rng, dict.fromkeys("abcdef", 1.0), between=0.005, within=0.02)
    samples["a"].rounds_s[0] *= np.exp(rng.uniform(0, 40, PASSES))
    samples["b"].rounds_s[1] *= 1e9
    precision = Precision(samples)
    for name, picked_from in (("a", 6), ("b", 1), ("c", 6)):
        ratio = precision.ratio(name, "d", picked_from)
        assert 0 < ratio.low <= ratio.ratio <= ratio.high < math.inf
        assert verdict((ratio.low, ratio.high), ratio.ratio, ratio.p_value) in ("unresolved", "tie")


def test_one_process_of_each_contender_is_refused():
    with pytest.raises(ValueError, match="spread between processes"):
        Precision(rounds(np.random.default_rng(0), {"a": 1.0, "b": 1.0}, processes=1))


def test_a_process_that_gets_slower_drifts_and_one_that_follows_the_machine_does_not():
    rng = np.random.default_rng(7)
    machine = np.linspace(1.0, 1.5, 18)
    others = machine * np.exp(0.01 * rng.standard_normal((5, 18)))
    assert drift(others[0] * np.linspace(1.0, 1.4, 18), others[1:]) > 0.15
    assert drift(others[0], others[1:]) == 0.0


def with_passes_in_common(rng, samples, spread):
    """The samples as a machine makes them whose speed differs from pass to pass."""
    passes = next(iter(samples.values())).rounds_s.shape[1]
    common = np.exp(spread * rng.standard_normal(passes))
    return {name: Sample(sample.rounds_s * common, sample.disturbed) for name, sample in samples.items()}


@pytest.mark.parametrize("between", [0.02, 0.005, 0.0])
def test_the_change_between_two_runs_covers_the_true_one_as_often_as_it_says(between):
    rng = np.random.default_rng(8)
    trials, covered = 800, 0
    for _ in range(trials):
        earlier, later = (
            Precision(rounds(rng, {"a": a, "b": 1.0, "c": 3.0}, 2, between, 0.02, passes))
            for a, passes in ((1.0, 12), (1.1, 20))
        )
        difference, error = later.change_since(earlier, "a")
        covered += abs(difference - math.log(1.1)) <= error.half_width(0.95)
    assert covered / trials > 0.93


def test_what_passes_have_in_common_widens_no_change_between_two_runs():
    # It is the same for all contenders of the workload, and told by those that stayed the same.
    def variances(common):
        rng = np.random.default_rng(9)
        runs = [
            Precision(with_passes_in_common(rng, rounds(rng, {"a": 1.0, "b": 1.2, "c": 2.0}, 2, 0.0, 0.002), common))
            for _ in range(2)
        ]
        return [runs[1].change_since(runs[0], name)[1].variance for name in ("a", "b")]

    for still, moving in zip(variances(0.0), variances(0.1), strict=True):
        assert moving < 2 * still


def test_a_run_against_itself_has_not_changed():
    precision = Precision(rounds(np.random.default_rng(10), {"a": 1.0, "b": 1.2}))
    difference, error = precision.change_since(precision, "a")
    assert difference == 0.0
    assert 0 < error.half_width(0.95) < 0.1


def test_rounds_without_any_spread_leave_next_to_nothing_unsure():
    constant = Precision({"a": Sample(np.ones((2, 5)), np.zeros((2, 5), dtype=bool))})
    assert 0 < constant.change_since(constant, "a")[1].half_width(0.95) < 0.002


@pytest.mark.parametrize(
    ("low", "high", "p_value", "said"),
    [
        (1.2, 1.3, 0.01, "slower"),
        (0.7, 0.8, 0.01, "faster"),
        (1.2, 1.3, 0.06, "unresolved"),
        (0.99, 1.02, 0.5, "tie"),
        (1.01, 1.03, 0.001, "tie"),
        (0.9, 1.2, 0.5, "unresolved"),
        (0.99, 1.06, 0.5, "unresolved"),
    ],
)
def test_the_verdict_follows_from_the_interval_and_all_p_values(low, high, p_value, said):
    assert verdict((low, high), math.sqrt(low * high), p_value) == said


def test_the_more_verdicts_the_smaller_each_p_value_must_be():
    assert adjusted([0.04]) == [0.04]
    assert adjusted([0.04, 0.5, 0.6, 0.7])[0] > 0.05
    assert adjusted([]) == []
