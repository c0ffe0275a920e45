"use strict";
// Figures as text. The same digits as harness/faceoff/report/text.py, which the rest of the page is written by.
const faceoffFigures = (() => {
  const UNITS = [[1, "s"], [1e-3, "ms"], [1e-6, "µs"], [1e-9, "ns"]];

  function fixed(value, decimals) {
    const [whole, rest] = Math.abs(value).toFixed(decimals).split(".");
    const grouped = whole.replace(/\B(?=(\d{3})+$)/g, ",");
    return (value < 0 ? "-" : "") + grouped + (rest ? `.${rest}` : "");
  }

  const decimalsOf = (value, digits) =>
    value ? Math.max(0, digits - 1 - Math.floor(Math.log10(Math.abs(value)))) : digits - 1;

  function significant(value, digits = 3) {
    if (!Number.isFinite(value)) return "not finite";
    if (value === 0) return "0";
    if (Math.abs(value) >= 1e-3 && Math.abs(value) < 1e6) return fixed(value, decimalsOf(value, digits));
    return value.toExponential(digits - 1).replace(/e([+-])(\d)$/, "e$10$2");
  }

  function withInterval(middle, low, high) {
    let decimals = decimalsOf(middle, 3);
    const half = (high - low) / 2;
    if (half > 0) decimals = Math.max(decimals, Math.min(decimalsOf(half, 1), decimals + 2));
    // A bound that is not 1 does not look like 1 where two more decimals show it.
    const looksLike1 = (value, more) => value !== 1 && Number(value.toFixed(more)) === 1;
    const enough = [0, 1, 2].map((more) => decimals + more).find((d) => !looksLike1(low, d) && !looksLike1(high, d));
    decimals = enough ?? decimals;
    const [figure, from, to] = [middle, low, high].map((value) => fixed(value, decimals));
    return `${figure} [${from}, ${to}]`;
  }

  // Half a second more is rounded to the even one, as Python does.
  function rounded(seconds) {
    const whole = Math.floor(seconds);
    const rest = seconds - whole;
    return rest > 0.5 || (rest === 0.5 && whole % 2) ? whole + 1 : whole;
  }

  function duration(seconds) {
    const whole = rounded(seconds);
    if (whole < 60) {
      const [size, unit] = UNITS.find(([one]) => seconds >= one) ?? UNITS.at(-1);
      return `${significant(seconds / size)} ${unit}`;
    }
    const [minutes, rest] = [Math.floor(whole / 60), String(whole % 60).padStart(2, "0")];
    if (minutes < 60) return `${minutes} min ${rest} s`;
    return `${Math.floor(minutes / 60)} h ${String(minutes % 60).padStart(2, "0")} min`;
  }

  const mebibytes = (bytes) => `${fixed(bytes / 2 ** 20, 0)} MiB`;

  return { significant, withInterval, duration, mebibytes };
})();
