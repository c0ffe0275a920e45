"use strict";
// Ranks contenders for the reader's situation. The same computation as harness/faceoff/speed/ranking.py, which explains it.
const faceoffRanking = (() => {
  const CRITERIA = ["latency", "throughput", "start", "memory", "error"];
  const LEAST_DEVIATION = 1e-9;
  const POINTS = 2001;
  const REACH = 8;

  // Abramowitz and Stegun 7.1.26: within 1.5e-7 of the error function.
  const TERMS = [0.254829592, -0.284496736, 1.421413741, -1.453152027, 1.061405429];
  function normalCdf(z) {
    const x = Math.abs(z) / Math.SQRT2;
    const t = 1 / (1 + 0.3275911 * x);
    const tail = 0.5 * Math.exp(-x * x) * TERMS.reduceRight((sum, term) => (sum + term) * t, 0);
    return z > 0 ? 1 - tail : tail;
  }

  const grid = Array.from({ length: POINTS }, (_, i) => -REACH + (2 * REACH * i) / (POINTS - 1));
  const heights = grid.map((z) => Math.exp((-z * z) / 2));
  const area = heights.reduce((sum, height) => sum + height, 0);

  function probability(at, places, margin, widening) {
    const own = places[at];
    // Deviations are as wide as a machine that was busy makes them.
    const reach = (place) => place.deviation * widening;
    let sum = 0;
    for (let i = 0; i < POINTS; i++) {
      const score = own.score + reach(own) * grid[i];
      let chance = heights[i];
      for (let other = 0; other < places.length && chance > 0; other++) {
        if (other !== at) chance *= normalCdf((places[other].score + margin - score) / reach(places[other]));
      }
      sum += chance;
    }
    return sum / area;
  }

  function fitting(facts, situation) {
    return facts.workloads.filter(
      (w) =>
        situation.models.includes(w.kind) &&
        w.step === situation.step &&
        w.dtype === situation.dtype &&
        w.device === situation.device &&
        situation.batch[0] <= w.batch &&
        w.batch <= situation.batch[1],
    );
  }

  const isMeasured = (workloads, criterion) =>
    workloads.some((w) => Object.values(w.costs).some((costs) => costs[criterion] !== null));

  function whyNot(contender, workloads, names) {
    for (const w of workloads) {
      const costs = w.costs[contender];
      if (!costs) return `${w.absent[contender] ?? "not asked"} on ${w.name}`;
      const unknown = names.find((name) => costs[name] === null);
      if (unknown) return `no ${unknown} measured on ${w.name}`;
    }
    return "";
  }

  const mean = (workloads, contender, name) =>
    workloads.reduce((sum, w) => sum + w.costs[contender][name], 0) / workloads.length;

  function scored(facts, situation) {
    const workloads = fitting(facts, situation);
    const weights = Object.fromEntries(
      CRITERIA.filter((name) => situation.weights[name] > 0 && isMeasured(workloads, name)).map((name) => [
        name,
        situation.weights[name],
      ]),
    );
    const names = Object.keys(weights);
    const total = names.reduce((sum, name) => sum + weights[name], 0);
    const [latency, throughput] = ["latency", "throughput"].map((name) => (weights[name] ?? 0) / total);
    const contenders = new Set(workloads.flatMap((w) => [...Object.keys(w.costs), ...Object.keys(w.absent)]));
    const places = [];
    const leftOut = {};
    for (const contender of contenders) {
      const reason = whyNot(contender, workloads, names);
      if (reason) leftOut[contender] = reason;
      else if (names.length) {
        const score = names.reduce((sum, name) => sum + weights[name] * mean(workloads, contender, name), 0) / total;
        const squares = workloads.reduce((sum, w) => {
          const costs = w.costs[contender];
          return sum + (latency * costs.deviation + throughput * costs.throughputDeviation) ** 2;
        }, 0);
        // Of what was measured without an interval nothing says how sure it is, so nothing does of a cost it is part of.
        const timed = names.every((name) => ["latency", "throughput"].includes(name));
        const known = !names.includes("throughput") || workloads.every((w) => w.costs[contender].throughputDeviation !== null);
        const deviation = timed && known ? Math.max(Math.sqrt(squares) / workloads.length, LEAST_DEVIATION) : 0;
        places.push({ contender, score, deviation });
      }
    }
    places.sort((a, b) => a.score - b.score);
    return { workloads, weights, places, leftOut };
  }

  function rank(facts, situation) {
    const { workloads, weights, places, leftOut } = scored(facts, situation);
    const lowest = places.length ? places[0].score : 0;
    for (const place of places) place.score -= lowest;
    const busy = workloads.some((w) => w.busy);
    const [widening, most] = busy ? [facts.busyWidening, facts.mostIfBusy] : [1, 1];
    const stated = places.every((place) => place.deviation);
    places.forEach((place, at) => {
      place.best = stated ? Math.min(most, probability(at, places, 0, widening)) : null;
      place.near = stated ? Math.min(most, probability(at, places, Math.log1p(facts.margin), widening)) : null;
    });
    const near = places.filter((place) => place.near !== null && place.near >= facts.confidence);
    let [answer, leaders] = ["nothing", []];
    if (places.length === 1) [answer, leaders] = ["only", places];
    else if (places.length && places[0].best === null) [answer, leaders] = ["least", places.filter((place) => place.score <= LEAST_DEVIATION)];
    else if (near.length > 1) [answer, leaders] = ["alike", near];
    else if (places.length && places[0].best >= facts.confidence) [answer, leaders] = ["best", places.slice(0, 1)];
    else if (places.length) [answer, leaders] = ["open", places.filter((place) => place.best > 1 - facts.confidence)];
    return { answer, leaders: leaders.map((place) => place.contender), places, workloads, weights, leftOut };
  }

  function leadersByWeight(facts, situation, most) {
    const found = {};
    for (const criterion of CRITERIA) {
      found[criterion] = Array.from({ length: most + 1 }, (_, weight) => {
        const changed = { ...situation, weights: { ...situation.weights, [criterion]: weight } };
        return scored(facts, changed).places[0]?.contender ?? "";
      });
    }
    return found;
  }

  // Facts as they are embedded: short rows instead of a name beside every number.
  function unpack(packed) {
    const workloads = packed.workloads.map(({ rows, absent, ...rest }) => ({
      ...rest,
      costs: Object.fromEntries(
        rows.map(([who, latency, deviation, throughput, throughputDeviation, start, memory, error, time, rowTime]) => [
          packed.contenders[who],
          { latency, deviation, throughput, throughputDeviation, start, memory, error, time, rowTime },
        ]),
      ),
      absent: Object.fromEntries(absent.map(([who, outcome]) => [packed.contenders[who], outcome])),
    }));
    return { ...packed, workloads };
  }

  return { CRITERIA, rank, leadersByWeight, isMeasured, fitting, mean, unpack };
})();
