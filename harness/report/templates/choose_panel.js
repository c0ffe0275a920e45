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

  const digits = (value) =>
    value >= 1e6 || value < 1e-3 ? value.toExponential(2) : Number(value.toPrecision(3)).toString();

  function duration(seconds) {
    for (const [size, unit] of [[1, "s"], [1e-3, "ms"], [1e-6, "µs"]]) if (seconds >= size) return `${digits(seconds / size)} ${unit}`;
    return `${digits(seconds / 1e-9)} ns`;
  }

  const shown = {
    latency: duration,
    throughput: duration,
    start: duration,
    memory: (bytes) => `${digits(bytes / 2 ** 20)} MiB`,
    error: digits,
  };

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
      for (const name of CRITERIA) if (!form.elements[name].disabled) form.elements[name].value = query.get(name) ?? 0;
    }

    function factor(first, other) {
      const spread = 1.959963984540054 * Math.hypot(first.deviation, other.deviation);
      const middle = other.score - first.score;
      return [middle, middle - spread, middle + spread].map((log) => Math.exp(log));
    }

    function factorText(first, other) {
      const [middle, low, high] = factor(first, other);
      // As many digits as the interval allows, at most four.
      const places = Math.max(1, Math.min(3, Math.ceil(-Math.log10(Math.max(high - low, 1e-9))) + 1));
      const text = (value) => (value < 100 ? value.toFixed(places) : digits(value));
      return first.deviation + other.deviation > 1e-6
        ? `${text(middle)} [${text(low)}, ${text(high)}]`
        : digits(middle);
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
            ", as measured: once and without an interval, so nothing says how surely.", ...rest,
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

    function rankingTable(found) {
      const measured = CRITERIA.filter((name) => isMeasured(found.workloads, name));
      const head = ["Contender", "Cost, times the first's", "Best", `Within ${percent(facts.margin)}`];
      const columns = [...head, ...measured.map((name) => HEADINGS[name])];
      const rows = found.places.map((place, at) => {
        const cells = [at ? factorText(found.places[0], place) : "1", ...[place.best, place.near].map((p) => (p === null ? "–" : percent(p)))];
        for (const name of measured) {
          const value = found.workloads.every((w) => w.costs[place.contender][name] !== null)
            ? shown[name](Math.exp(mean(found.workloads, place.contender, name)))
            : "–";
          cells.push(value);
        }
        return element(
          "tr", {}, element("th", { scope: "row" }, who(place.contender)),
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
      for (const input of form.querySelectorAll("[type=range]")) {
        input.nextElementSibling.textContent = facts.levels[input.value];
        input.setAttribute("aria-valuetext", facts.levels[input.value]);
      }
      const asked = situation();
      const found = rank(facts, asked);
      words.replaceChildren(element("p", {}, ...answer(found, asked)));
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
