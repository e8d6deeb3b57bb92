"use strict";
// The three figures of the report and the two of each candidate.
const Figures = (() => {
  const {rows} = JSON.parse(document.getElementById("data").textContent);
  const {format} = Axes;
  // Okabe and Ito (2008), without yellow; dashes tell repeats apart.
  const COLORS = ["#0072b2", "#d55e00", "#009e73", "#cc79a7", "#1c2126", "#e69f00", "#56b4e9"];
  const DASHES = ["", "6 3", "2 3"];
  const KINDS = {
    diffusing: {color: "#0072b2", symbol: "circle", label: "diffusing"},
    "few jumps": {color: "#d55e00", symbol: "diamond", open: true, label: "few jumps"},
    "not diffusing": {color: "#59636e", symbol: "bar", label: "not diffusing: upper bound"},
  };

  // Undo the compact form that the page carries.
  for (const row of rows) {
    const s = row.curves && row.curves.spectrum;
    if (!s) continue;
    s.I = s.logI.map(v => (v === null ? null : 10 ** (v / 1000)));
    const times = list => list.map((v, i) => (v === null ? null : (s.I[i] * v) / 1000));
    s.error = times(s.se);
    s.members = s.members.map(times);
  }

  const title = row => `${row.rank ? `${row.rank} ` : ""}${row.name}, ${row.T} K`;
  const style = i => ({
    color: COLORS[i % COLORS.length],
    dash: DASHES[Math.floor(i / COLORS.length) % DASHES.length],
  });
  const withCurves = rows.map((row, i) => i).filter(i => rows[i].curves);

  function padded(values, factor) {
    const found = values.filter(v => v > 0 && Number.isFinite(v));
    return [Math.min(...found) / factor, Math.max(...found) * factor];
  }

  function empty(holder, text) {
    const p = document.createElement("p");
    p.className = "empty";
    p.textContent = text;
    holder.replaceChildren(p);
  }

  function map(holder) {
    const ranked = rows.find(row => row.rank && row.nu1);
    const shown = !ranked
      ? []
      : rows.filter(
          row =>
            row.T === ranked.T &&
            row.nu1 === ranked.nu1 &&
            row.I > 0 &&
            KINDS[row.verdict] &&
            (row.D > 0 || row.D_high > 0),
        );
    if (!shown.length) return empty(holder, "No ranked row has both an intensity and a diffusivity yet.");
    const few = shown.length <= 15;
    const points = shown.map(row => {
      const bound = row.verdict === "not diffusing",
        y = bound ? row.D_high : row.D;
      const D = bound
        ? `D below ${format(row.D_high, 2)} cm²/s`
        : row.verdict === "few jumps"
          ? `D from ${format(row.D_low, 2)} to ${format(row.D_high, 2)} cm²/s`
          : `D ${format(row.D)} (${format(row.D_low, 2)} to ${format(row.D_high, 2)}) cm²/s`;
      const I =
        `I_low ${format(row.I)}` +
        (row.I_low ? ` (${format(row.I_low)} to ${format(row.I_high)})` : "") +
        " Å³";
      return {
        x: row.I,
        xLow: row.I_low,
        xHigh: row.I_high,
        y,
        yLow: row.D_low,
        yHigh: row.D_high,
        bound,
        kind: row.verdict,
        name: few ? title(row).replace(/,[^,]*$/, "") : row.rank && row.rank <= 30 ? String(row.rank) : "",
        text: [title(row), row.verdict, I, D].join("\n"),
      };
    });
    Charts.points(holder, {
      title: "Diffusivity against low-frequency Raman intensity",
      points,
      kinds: KINDS,
      inner: holder.clientWidth < 520 ? 280 : 420,
      x: {
        log: true,
        domain: padded(
          points.flatMap(p => [p.x, p.xLow, p.xHigh]),
          1.25,
        ),
        label: "I_low, Å³",
      },
      y: {
        log: true,
        domain: padded(
          points.flatMap(p => [p.y / (p.bound ? 2 : 1), p.bound ? null : p.yLow, p.yHigh]),
          1.5,
        ),
        label: "D, cm²/s",
      },
    });
  }

  function spectra(holder, chosen, {log, top}) {
    const shown = chosen.filter(i => rows[i].curves.spectrum);
    if (!shown.length) return empty(holder, "No run with a spectrum is chosen.");
    const series = shown.map(i => {
      const s = rows[i].curves.spectrum;
      return {
        ...style(chosen.indexOf(i)),
        label: title(rows[i]),
        x: s.nu,
        y: s.I,
        from: rows[i].nu1,
        low: s.I.map((v, k) => (s.error[k] === null ? null : Math.max(v - s.error[k], v / 20))),
        high: s.I.map((v, k) => (s.error[k] === null ? null : v + s.error[k])),
      };
    });
    const end = top || Math.max(...series.flatMap(s => s.x.at(-1)));
    const visible = series.flatMap(s => s.y.filter((v, k) => v > 0 && s.x[k] <= end && s.x[k] >= s.from));
    const first = rows[shown[0]];
    Charts.lines(holder, {
      title: "Raman spectra",
      series,
      shade: [first.nu1, first.nu2],
      x: {domain: [0, end], label: "Wavenumber, cm⁻¹", unit: "cm⁻¹"},
      y: {
        log,
        domain: log ? padded(visible, 1.6) : [0, 1.1 * Math.max(...visible)],
        label: "I(ν), Å³ per cm⁻¹",
      },
    });
  }

  function displacement(holder, chosen, inner) {
    const shown = chosen.filter(i => rows[i].curves.msd);
    if (!shown.length) return empty(holder, "No run with a mean squared displacement is chosen.");
    const series = shown.map(i => {
      const m = rows[i].curves.msd;
      return {
        ...style(chosen.indexOf(i)),
        label: `${title(rows[i])}: ${rows[i].verdict}`,
        x: m.lag,
        y: m.msd,
        low: m.msd.map((v, k) => (m.se[k] === null ? null : Math.max(v - m.se[k], v / 20))),
        high: m.msd.map((v, k) => (m.se[k] === null ? null : v + m.se[k])),
      };
    });
    const x = padded(
        series.flatMap(s => s.x),
        1,
      ),
      y = padded(
        series.flatMap(s => s.y),
        1.5,
      );
    const end = Math.max(...series.map(s => s.y.at(-1)));
    const slope = {
      x: [x[1] / 10, x[1]],
      y: [(end * 1.25) / 10, end * 1.25],
      color: "#59636e",
      dash: "2 4",
      width: 1.5,
    };
    Charts.lines(holder, {
      title: "Mean squared displacement",
      series: [...series, slope],
      inner,
      x: {log: true, domain: x, label: "Lag time, ps", unit: "ps"},
      y: {log: true, domain: y, label: "MSD, Å²"},
    });
  }

  // Spectra of the single members of the polarizability model, and the displacements at all temperatures.
  function candidate(holder, numbers) {
    const found = numbers.filter(i => rows[i].curves),
      boxes = [];
    const box = caption => {
      const figure = document.createElement("figure"),
        chart = document.createElement("div"),
        text = document.createElement("figcaption");
      chart.className = "chart";
      text.textContent = caption;
      figure.append(chart, text);
      holder.append(figure);
      return chart;
    };
    const best = found.filter(i => rows[i].curves.spectrum).sort((a, b) => a - b)[0];
    if (best !== undefined) {
      const row = rows[best],
        s = row.curves.spectrum,
        many = s.members.length > 1;
      boxes.push([
        box(
          `Raman spectrum at ${row.T} K${many ? `, mean and the ${s.members.length} members of the polarizability model` : ""}.`,
        ),
        chart =>
          Charts.lines(chart, {
            title: `Raman spectrum of ${row.name}`,
            shade: [row.nu1, row.nu2],
            inner: 220,
            series: [
              ...(many
                ? s.members.map((y, m) => ({
                    ...style(m + 1),
                    label: `member ${m + 1}`,
                    width: 1.2,
                    x: s.nu,
                    y,
                    from: row.nu1,
                  }))
                : []),
              {...style(0), label: "mean", x: s.nu, y: s.I, from: row.nu1},
            ],
            x: {domain: [0, s.nu.at(-1)], label: "Wavenumber, cm⁻¹", unit: "cm⁻¹"},
            y: {
              log: true,
              domain: padded(
                s.I.filter((v, k) => s.nu[k] >= row.nu1),
                1.6,
              ),
              label: "I(ν), Å³ per cm⁻¹",
            },
          }),
      ]);
    }
    const moving = found.filter(i => rows[i].curves.msd);
    if (moving.length)
      boxes.push([
        box("Mean squared displacement of the mobile ion."),
        chart => displacement(chart, moving, 220),
      ]);
    for (const [chart, draw] of boxes) draw(chart);
  }

  return {rows, withCurves, title, style, map, spectra, displacement, candidate};
})();
