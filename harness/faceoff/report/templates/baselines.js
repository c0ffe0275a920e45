"use strict";
// The reader picks what ratios are taken to; without a pick, the table says what was recorded.
(() => {
  const WORDS = { unresolved: "not resolved" };

  function span(className, text) {
    const element = document.createElement("span");
    element.className = className;
    element.textContent = text;
    return element;
  }

  function show(row, baseline, found) {
    const [ratio, verdict] = [row.querySelector(".ratio"), row.querySelector(".verdict-cell")];
    const contender = row.dataset.contender;
    if (contender === baseline) {
      ratio.replaceChildren("1");
      verdict.replaceChildren("baseline");
    } else if (found && Object.hasOwn(found, contender)) {
      const [figure, interval, word] = found[contender];
      ratio.replaceChildren(figure, " ", span("muted", interval));
      verdict.replaceChildren(span(`verdict verdict-${word}`, WORDS[word] ?? word));
    } else {
      ratio.replaceChildren(span("muted", "the baseline was not timed here"));
      verdict.replaceChildren();
    }
  }

  for (const picker of document.querySelectorAll(".against")) {
    const section = picker.closest("section");
    const ratios = JSON.parse(section.querySelector(".ratios").textContent);
    const rows = [...section.querySelectorAll("tr[data-contender]")];
    const recorded = rows.map((row) => [".ratio", ".verdict-cell"].map((cell) => [...row.querySelector(cell).childNodes]));
    const select = picker.querySelector("select");
    const pick = () => {
      rows.forEach((row, at) => {
        if (select.value === "") {
          row.querySelector(".ratio").replaceChildren(...recorded[at][0]);
          row.querySelector(".verdict-cell").replaceChildren(...recorded[at][1]);
        } else {
          const { baseline, workloads } = ratios[select.value];
          show(row, baseline, workloads[row.dataset.workload]);
        }
      });
      picker.querySelector("[role=status]").textContent = select.value === "" ? "" : picker.dataset.note;
    };
    select.addEventListener("change", pick);
    picker.hidden = false;
    // A browser that goes back to the page keeps what was picked.
    pick();
  }
})();
