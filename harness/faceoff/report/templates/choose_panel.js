"use strict";
// The panel in which a reader states their situation. It shows what `faceoffRanking` finds and keeps the situation in the
// address, so that it can be shared.
(() => {
  const { CRITERIA, rank, leadersByWeight, isMeasured, fitting, mean, unpack } = faceoffRanking;
  const PICKS = ["step", "device", "dtype", "least", "most"];
  const HEADINGS = {
    latency: "Latency",
    throughput: "Throughput, per call",
    start: "Start-up",
    memory: "Memory",
    error: "Error, noise units",
  };

  const { significant, withInterval, duration, mebibytes } = faceoffFigures;
  // Of one workload the tables and cards show the contender's own times, of several their geometric mean is the page's only.
  const OWN = { latency: "time", throughput: "rowTime" };

  function percent(share) {
    if (share > 0.999) return "> 99.9 %";
    if (share < 0.001) return "< 0.1 %";
    return `${(100 * share).toFixed(1)} %`;
  }

  function element(tag, attributes = {}, ...children) {
    const made = document.createElement(tag);
    for (const [name, value] of Object.entries(attributes)) made.setAttribute(name, value);
    made.append(...children);
    return made;
  }

  function panel(section) {
    const facts = unpack(JSON.parse(section.querySelector(".facts").textContent));
    const form = section.querySelector("form");
    const [words, ranking, over] = [".verdict-words", ".choice > .scroll", ".over"].map((s) => section.querySelector(s));
    const measured = new Set(CRITERIA.filter((name) => isMeasured(facts.workloads, name)));
    const sensitivity = section.querySelector(".choice details .scroll");

    function who(contender) {
      const [label, colour, shape] = facts.looks[facts.contenders.indexOf(contender)];
      const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
      svg.setAttribute("class", "mark");
      svg.setAttribute("aria-hidden", "true");
      svg.style.color = colour;
      const use = document.createElementNS("http://www.w3.org/2000/svg", "use");
      use.setAttribute("href", `#shape-${shape}`);
      svg.append(use);
      return element("span", { class: "who" }, svg, element("bdi", {}, label));
    }

    function named(contenders) {
      const parts = [];
      contenders.forEach((contender, at) => {
        if (at) parts.push(at === contenders.length - 1 ? " and " : ", ");
        parts.push(who(contender));
      });
      return parts;
    }

    function situation() {
      const value = (name) => form.elements[name].value;
      return {
        models: [...form.querySelectorAll("[name=models]:checked")].map((box) => box.value),
        step: value("step"),
        dtype: value("dtype"),
        device: value("device"),
        batch: [Number(value("least")), Number(value("most"))],
        weights: Object.fromEntries(CRITERIA.map((name) => [name, Number(value(name))])),
      };
    }

    function address(asked) {
      const query = new URLSearchParams({ models: asked.models.join(",") });
      for (const name of PICKS) query.set(name, form.elements[name].value);
      for (const name of CRITERIA) if (asked.weights[name]) query.set(name, asked.weights[name]);
      return `#${section.id}?${query.toString().replaceAll("%2C", ",")}`;
    }

    // Whatever an address holds that this result does not have is left as it is.
    function restore() {
      const [id, text] = location.hash.slice(1).split("?");
      if (id !== section.id || !text) return;
      const query = new URLSearchParams(text);
      const models = (query.get("models") ?? "").split(",");
      if (query.has("models")) {
        for (const box of form.querySelectorAll("[name=models]")) box.checked = models.includes(box.value);
      }
      for (const name of PICKS) {
        const option = [...form.elements[name].options].find((o) => o.value === query.get(name));
        if (option) form.elements[name].value = option.value;
      }
      for (const name of CRITERIA) if (measured.has(name)) form.elements[name].value = query.get(name) ?? 0;
    }

    function factorText(first, other) {
      const spread = 1.959963984540054 * Math.hypot(first.deviation, other.deviation);
      const middle = other.score - first.score;
      const [ratio, low, high] = [middle, middle - spread, middle + spread].map((log) => Math.exp(log));
      return first.deviation && other.deviation ? withInterval(ratio, low, high) : significant(ratio);
    }

    function valueText(found, contender, name) {
      const workloads = found.workloads;
      if (!workloads.every((w) => w.costs[contender][name] !== null)) return "–";
      const [only] = workloads;
      const texts = only.times[facts.contenders.indexOf(contender)] ?? [];
      if (workloads.length === 1 && name === "latency") return texts[0];
      if (workloads.length === 1 && name === "throughput") return texts[1];
      const value = Math.exp(mean(workloads, contender, OWN[name] ?? name));
      if (name === "memory") return mebibytes(value);
      if (name !== "error") return duration(value);
      return value > facts.leastError * 1.000001 ? significant(value, 2) : `≤ ${significant(facts.leastError, 2)}`;
    }

    // What lowers trust stands beside what asks for it.
    function distrust(found) {
      const workloads = found.workloads;
      if (!workloads.length) return [];
      const share = workloads.reduce((sum, w) => sum + w.disturbed, 0) / workloads.length;
      const rounds = `${(100 * share).toFixed(1)} % of the rounds`;
      const busy = workloads.filter((w) => w.busy).length;
      const said = [];
      if (busy) {
        const several = busy === workloads.length ? "these workloads were" : `${busy} of these ${workloads.length} workloads were`;
        const when = `${workloads.length === 1 ? "this was" : several} timed`;
        const lowered = found.places.some((place) => place.best !== null)
          ? ` So for probabilities intervals are taken ${facts.busyWidening} times as wide, and none above ${percent(facts.mostIfBusy)} is stated.`
          : "";
        said.push(element("b", {}, "This machine was busy"), ` while ${when}: ${rounds} were disturbed by other work.${lowered} `);
      } else if (share >= facts.manyDisturbed) said.push(`${rounds} behind this were disturbed by other work. `);
      const tell = (words, numbers) => {
        const contenders = [...new Set(numbers)].map((number) => facts.contenders[number]);
        if (contenders.length) said.push(words, ...named(contenders), ". ");
      };
      tell("No steady state was reached by ", workloads.flatMap((w) => w.unsteady));
      if (found.weights.throughput) {
        tell("Too few calls followed each other for the last wait not to count with ", workloads.flatMap((w) => w.fewCalls));
      }
      return said.length ? [element("p", { class: "distrust" }, ...said)] : [];
    }

    // Throughput has no interval in older files alone.
    function once(found) {
      const names = Object.keys(found.weights).filter((name) => name !== "latency");
      const words = { start: "start-up", memory: "memory", error: "error", throughput: "throughput" };
      const last = names.length > 1 ? ` and ${words[names.at(-1)]}` : "";
      return `${names.slice(0, names.length > 1 ? -1 : 1).map((name) => words[name]).join(", ")}${last}`;
    }

    function answer(found, asked) {
      const [first] = found.places;
      const alone = Object.keys(found.weights);
      const takes = alone.length === 1 && ["latency", "throughput"].includes(alone[0]) ? "takes" : "costs";
      const times = takes === "takes" ? "times as long" : "times as much";
      const next = found.places.find((place) => !found.leaders.includes(place.contender));
      const rest = next
        ? [" Next, ", who(next.contender), ` ${takes} `, element("b", {}, factorText(first, next)), ` ${times}.`]
        : [];
      switch (found.answer) {
        case "best":
          return [who(first.contender), " is ", element("b", {}, "best"), `, with probability ${percent(first.best)}.`, ...rest];
        case "alike": {
          const least = Math.min(...found.places.filter((p) => found.leaders.includes(p.contender)).map((p) => p.near));
          return [
            element("b", {}, "No difference that matters"), " between ", ...named(found.leaders),
            `: each is within ${percent(facts.margin)} of the best, with probability ${least > 0.999 ? "" : "at least "}${percent(least)}.`, ...rest,
          ];
        }
        case "open":
          return [
            element("b", {}, "Not certain"), ": ",
            ...found.places
              .filter((place) => found.leaders.includes(place.contender))
              .flatMap((place, at) => [at ? ", " : "", who(place.contender), ` is best with probability ${percent(place.best)}`]),
            ".", ...rest,
          ];
        case "least":
          return [
            ...named(found.leaders), found.leaders.length > 1 ? " cost " : " costs ", element("b", {}, "least"),
            `, as measured: ${once(found)} without an interval, so nothing says how surely.`, ...rest,
          ];
        case "only":
          return ["Only ", who(first.contender), " can be compared here."];
        default:
          if (!asked.models.length) return ["Tick a model to rank the contenders."];
          if (!found.workloads.length) return ["Nothing that fits was measured."];
          if (!alone.length) return ["Say what matters to rank the contenders."];
          return ["No contender can be compared on all that fits."];
      }
    }

    // A place in the ranking says how far "agrees" reaches.
    function placed(contender) {
      const dtype = facts.meaning[facts.contenders.indexOf(contender)];
      if (!dtype) return [who(contender)];
      return [who(contender), " ", element("small", { class: "muted" }, `meaning checked in ${dtype} only`)];
    }

    function rankingTable(found) {
      const measured = CRITERIA.filter((name) => isMeasured(found.workloads, name));
      const head = ["Contender", "Cost, times the first's", "Best", `Within ${percent(facts.margin)}`];
      const several = found.workloads.length > 1 ? ", mean" : "";
      const columns = [...head, ...measured.map((name) => HEADINGS[name] + several)];
      const rows = found.places.map((place, at) => {
        const cells = [at ? factorText(found.places[0], place) : "1", ...[place.best, place.near].map((p) => (p === null ? "–" : percent(p)))];
        for (const name of measured) cells.push(valueText(found, place.contender, name));
        return element(
          "tr", {}, element("th", { scope: "row" }, ...placed(place.contender)),
          ...cells.map((text) => element("td", { class: "num" }, text)),
        );
      });
      const leftOut = Object.entries(found.leftOut).map(([contender, reason]) =>
        element(
          "tr", { class: "left-out" }, element("th", { scope: "row" }, who(contender)),
          element("td", { colspan: columns.length - 1 }, `no place: ${reason.replaceAll("_", " ")}`),
        ),
      );
      return table(columns, [...rows, ...leftOut]);
    }

    function table(columns, rows) {
      const heads = columns.map((text, at) => element("th", at ? { scope: "col", class: "num" } : { scope: "col" }, text));
      return element(
        "table", {}, element("thead", {}, element("tr", {}, ...heads)), element("tbody", {}, ...rows),
      );
    }

    function sensitivityTable(found, asked) {
      const leaders = leadersByWeight(facts, asked, facts.levels.length - 1);
      const rows = CRITERIA.filter((name) => isMeasured(found.workloads, name)).map((name) =>
        element(
          "tr", {}, element("th", { scope: "row" }, HEADINGS[name]),
          ...leaders[name].map((contender, weight) =>
            element("td", weight === asked.weights[name] ? { class: "now" } : {}, contender ? who(contender) : "–"),
          ),
        ),
      );
      return table(["If it matters", ...facts.levels], rows);
    }

    function update() {
      const asked = situation();
      const found = rank(facts, asked);
      for (const input of form.querySelectorAll("[type=range]")) {
        // What was not measured of this step cannot be chosen by; the weight is kept for a step of which it was.
        const known = isMeasured(found.workloads, input.name);
        const level = known || !found.workloads.length ? facts.levels[input.value] : `not measured of ${asked.step}`;
        input.disabled = !known && found.workloads.length > 0;
        input.nextElementSibling.textContent = level;
        input.setAttribute("aria-valuetext", level);
      }
      words.replaceChildren(element("p", {}, ...answer(found, asked)), ...distrust(found));
      ranking.replaceChildren(...(found.places.length || Object.keys(found.leftOut).length ? [rankingTable(found)] : []));
      const fit = fitting(facts, asked);
      const titles = fit.slice(0, 6).map((w) => w.title).join("; ");
      over.textContent = fit.length
        ? `Over ${fit.length} workload${fit.length > 1 ? "s" : ""}: ${titles}${fit.length > 6 ? `; and ${fit.length - 6} more` : ""}.`
        : "";
      sensitivity.replaceChildren(sensitivityTable(found, asked));
      return asked;
    }

    form.addEventListener("input", () => history.replaceState(null, "", address(update())));
    form.addEventListener("reset", () => setTimeout(() => history.replaceState(null, "", address(update()))));
    form.addEventListener("submit", (event) => event.preventDefault());
    window.addEventListener("hashchange", () => {
      restore();
      update();
    });
    section.hidden = false;
    restore();
    update();
  }

  for (const section of document.querySelectorAll(".choose")) panel(section);
})();
