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

  async function draw(id, spec, config) {
    const chart = document.getElementById(id);
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

  async function drawAll() {
    const { config, charts } = JSON.parse(source.textContent);
    for (const [id, spec] of Object.entries(charts)) {
      // Inside closed details a chart has no width; it is drawn when they are opened first.
      const closed = document.getElementById(id).closest("details:not([open])");
      if (closed) closed.addEventListener("toggle", () => draw(id, spec, config), { once: true });
      else await draw(id, spec, config);
    }
    document.documentElement.dataset.charts = "drawn";
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
  if (source) drawAll();
})();
