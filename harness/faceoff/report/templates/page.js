"use strict";
(() => {
  const source = document.getElementById("charts");

  // A saved drawing stands alone, so the page's variables are written out in it.
  function save(chart) {
    const style = getComputedStyle(document.documentElement);
    const text = new XMLSerializer()
      .serializeToString(chart.querySelector("svg"))
      .replace(/var\((--[\w-]+)\)/g, (_, name) => style.getPropertyValue(name).trim());
    download(new Blob([text], { type: "image/svg+xml" }), `faceoff-${chart.id}.svg`);
  }

  const begun = new Set();
  async function draw(chart, spec, config) {
    if (begun.has(chart)) return;
    begun.add(chart);
    await window.vegaEmbed(chart, spec, { config, renderer: "svg", actions: false });
    // Vega's own labels inside would be read a second time after the label of the chart.
    chart.querySelector("svg").setAttribute("aria-hidden", "true");
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = "Save as SVG";
    button.addEventListener("click", () => save(chart));
    chart.parentElement.querySelector("figcaption").append(" ", button);
  }

  function download(content, name) {
    const link = document.createElement("a");
    link.href = URL.createObjectURL(content);
    link.download = name;
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  }

  // The result is embedded as gzip in base64.
  async function giveBack(packed, name) {
    const bytes = Uint8Array.from(atob(packed.textContent), (letter) => letter.charCodeAt(0));
    const unpacked = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
    download(new Blob([await new Response(unpacked).blob()], { type: "application/json" }), name);
  }

  for (const line of document.querySelectorAll(".raw")) {
    const button = line.querySelector("button");
    const packed = line.parentElement.querySelector("script[id$=-packed]");
    button.addEventListener("click", () => giveBack(packed, button.dataset.name));
    line.hidden = false;
  }

  // A page can have hundreds of charts, so each is drawn when it comes near the window. Inside closed details it has no
  // width; opening them brings it into view.
  function drawAsSeen() {
    const { config, charts } = JSON.parse(source.textContent);
    const observer = new IntersectionObserver(
      (entries) => drawThese(entries.filter((entry) => entry.isIntersecting).map((entry) => entry.target)),
      { rootMargin: "100% 0px" },
    );
    async function drawThese(seen) {
      for (const chart of seen) await draw(chart, charts[chart.id], config);
      document.documentElement.dataset.charts = "drawn";
    }
    // A section that has nothing to say leaves out its charts too.
    const elements = Object.keys(charts).map((id) => document.getElementById(id)).filter(Boolean);
    for (const chart of elements) observer.observe(chart);
    window.addEventListener("beforeprint", () => drawThese(elements.filter((chart) => chart.checkVisibility())));
  }

  // A link to a part inside closed details opens them.
  function reveal() {
    const target = location.hash.length > 1 && document.getElementById(decodeURIComponent(location.hash.slice(1).split("?")[0]));
    if (!target) return;
    for (let node = target; node; node = node.parentElement) {
      if (node instanceof HTMLDetailsElement) node.open = true;
    }
    target.scrollIntoView();
  }

  window.addEventListener("hashchange", reveal);
  reveal();
  if (source) drawAsSeen();
})();
