"use strict";
// Scales, ticks, axes with a legend, and reading of values by mouse and keys.
const Axes = (() => {
  const FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif";
  const INK = "#1c2126",
    SOFT = "#59636e",
    GRID = "#e6e9ed";
  const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  let clips = 0;

  function add(parent, tag, attributes = {}, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }

  const power = exponent =>
    "10" +
    String(exponent)
      .replace("-", "⁻")
      .replace(/\d/g, d => SUPERSCRIPT[d]);

  function scientific(value, digits) {
    const exponent = Math.floor(Math.log10(Math.abs(value)) + 1e-12);
    return `${Number((value / 10 ** exponent).toPrecision(digits))} × ${power(exponent)}`;
  }

  function format(value, digits = 3) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    return value === 0 || (size >= 1e-3 && size < 1e5)
      ? String(Number(value.toPrecision(digits)))
      : scientific(value, digits);
  }

  function linearTicks([low, high], count) {
    const raw = (high - low) / count,
      base = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(m => m * base).find(s => s >= raw * 0.999);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); k++) ticks.push(k * step);
    return ticks;
  }

  // Decades carry labels; where fewer than two are in view, 1, 2 and 5 do.
  function logTicks([low, high], room) {
    const first = Math.ceil(Math.log10(low) - 1e-9),
      last = Math.floor(Math.log10(high) + 1e-9);
    const decades = [],
      minor = [];
    const every = Math.max(1, Math.ceil((last - first + 1) / room));
    for (let e = first; e <= last; e++) (e % every ? minor : decades).push(10 ** e);
    for (let e = first - 1; e <= last; e++)
      for (let m = 2; m < 10; m++) if (m * 10 ** e >= low && m * 10 ** e <= high) minor.push(m * 10 ** e);
    if (decades.length > 1) return {major: decades, minor, label: v => power(Math.round(Math.log10(v)))};
    const few = [...decades, ...minor].filter(v =>
      [1, 2, 5].includes(Number((v / 10 ** Math.floor(Math.log10(v) + 1e-9)).toPrecision(2))),
    );
    const small = low < 0.01 || high > 1e4;
    return {
      major: few.length > 1 ? few : [...decades, ...minor],
      minor,
      label: v => (small ? scientific(v, 2) : format(v, 2)),
    };
  }

  function scale({log, domain}, range) {
    const f = log ? Math.log10 : x => x,
      [a, b] = domain.map(f),
      [p, q] = range;
    return Object.assign(v => p + ((q - p) * (f(v) - a)) / (b - a), {
      inverse: pixel => {
        const v = a + ((b - a) * (pixel - p)) / (q - p);
        return log ? 10 ** v : v;
      },
    });
  }

  // A common factor keeps the labels of a linear axis short.
  function linearAxis(domain, count) {
    const top = Math.max(...domain.map(Math.abs)),
      exponent = top > 0 ? Math.floor(Math.log10(top)) : 0;
    const factor = exponent < -2 || exponent > 3 ? exponent : 0;
    return {
      major: linearTicks(domain, count),
      minor: [],
      factor,
      label: v => String(Number((v / 10 ** factor).toPrecision(6))),
    };
  }

  const ruler = document.createElement("canvas").getContext("2d");
  function textWidth(text, size) {
    ruler.font = `${size}px ${FONT}`;
    return ruler.measureText(text).width;
  }

  // Height that a legend of entries {label} takes, and the place of each.
  function legendLayout(entries, width) {
    let x = 0,
      row = 0;
    const places = entries.map(entry => {
      const w = 34 + textWidth(entry.label, 12.5);
      if (x > 0 && x + w > width) {
        x = 0;
        row++;
      }
      const place = [x, row * 19];
      x += w + 12;
      return place;
    });
    return {places, height: entries.length ? (row + 1) * 19 + 6 : 0};
  }

  // Axes and legend, which leaves room for the buttons; what is drawn into plot is clipped to the axes.
  function frame(holder, spec) {
    const width = Math.max(280, holder.clientWidth),
      narrow = width < 520;
    const left = narrow ? 52 : 66,
      right = 14,
      legend = legendLayout(spec.legend, width - left - right - 90);
    const top = 30 + legend.height,
      bottom = 48,
      height = top + bottom + (spec.inner || (narrow ? 250 : 360));
    const svg = add(null, "svg", {
      viewBox: `0 0 ${width} ${height}`,
      width,
      height,
      "font-family": FONT,
      "font-size": 12,
      fill: INK,
      tabindex: 0,
      role: "img",
      "aria-label": spec.title,
    });
    add(svg, "title", {}, spec.title);
    add(svg, "rect", {width, height, fill: "#fff"});
    const box = {left, top, right: width - right, bottom: height - bottom};
    const sx = scale(spec.x, [box.left, box.right]),
      sy = scale(spec.y, [box.bottom, box.top]);
    const ticks = (axis, pixels, each) =>
      axis.log ? logTicks(axis.domain, pixels / each) : linearAxis(axis.domain, pixels / each);
    const tx = ticks(spec.x, box.right - box.left, 70),
      ty = ticks(spec.y, box.bottom - box.top, 45);
    const back = add(svg, "g");
    if (spec.shade) {
      const [a, b] = spec.shade.map(v => Math.max(box.left, Math.min(box.right, sx(v))));
      add(back, "rect", {
        class: "window",
        x: a,
        y: box.top,
        width: b - a,
        height: box.bottom - box.top,
        fill: "#fdf3d8",
      });
    }
    for (const v of tx.major) {
      add(back, "line", {x1: sx(v), x2: sx(v), y1: box.top, y2: box.bottom, stroke: GRID});
      add(back, "text", {x: sx(v), y: box.bottom + 18, "text-anchor": "middle"}, tx.label(v));
    }
    for (const v of ty.major) {
      add(back, "line", {x1: box.left, x2: box.right, y1: sy(v), y2: sy(v), stroke: GRID});
      add(back, "text", {x: box.left - 8, y: sy(v) + 4, "text-anchor": "end"}, ty.label(v));
    }
    for (const v of tx.minor)
      add(back, "line", {x1: sx(v), x2: sx(v), y1: box.bottom, y2: box.bottom + 4, stroke: SOFT});
    for (const v of ty.minor)
      add(back, "line", {x1: box.left - 4, x2: box.left, y1: sy(v), y2: sy(v), stroke: SOFT});
    // "I_low" with a subscript.
    const label = (attributes, text) => {
      const node = add(svg, "text", {...attributes, "font-size": 13}),
        [before, after] = text.split("_low");
      add(node, "tspan", {}, before);
      if (after === undefined) return;
      add(node, "tspan", {"font-size": 9.5, dy: 3}, "low");
      add(node, "tspan", {dy: -3}, after);
    };
    const factor = t => (t.factor ? ` × ${power(-t.factor)}` : "");
    label(
      {x: (box.left + box.right) / 2, y: height - 10, "text-anchor": "middle"},
      spec.x.label + factor(tx),
    );
    label({x: 2, y: top - 12}, spec.y.label + factor(ty));
    const clip = `clip${clips++}`;
    add(add(svg, "clipPath", {id: clip}), "rect", {
      x: box.left,
      y: box.top,
      width: box.right - box.left,
      height: box.bottom - box.top,
    });
    const plot = add(svg, "g", {"clip-path": `url(#${clip})`});
    add(svg, "path", {d: `M${box.left},${box.top}V${box.bottom}H${box.right}`, fill: "none", stroke: INK});
    const key = add(svg, "g", {transform: `translate(${left},4)`, "font-size": 12.5});
    spec.legend.forEach((entry, i) => {
      const g = add(key, "g", {transform: `translate(${legend.places[i]})`});
      entry.draw(g);
      add(g, "text", {x: 30, y: 14}, entry.label);
    });
    holder.replaceChildren(svg);
    return {svg, plot, box, sx, sy, width, height};
  }

  function path(points) {
    let d = "",
      pen = false;
    for (const [x, y] of points) {
      if (!Number.isFinite(x) || !Number.isFinite(y)) {
        pen = false;
        continue;
      }
      d += `${pen ? "L" : "M"}${x.toFixed(1)},${y.toFixed(1)}`;
      pen = true;
    }
    return d;
  }

  function tip(holder) {
    const node = document.createElement("div");
    node.className = "tip";
    node.setAttribute("role", "status");
    holder.append(node);
    return {
      show(text, x, y) {
        node.textContent = text;
        const room = holder.clientWidth - node.offsetWidth - 4;
        node.style.left = `${Math.max(0, Math.min(room, x + 14 < room ? x + 14 : x - node.offsetWidth - 14))}px`;
        node.style.top = `${Math.max(0, y - node.offsetHeight / 2)}px`;
      },
      hide() {
        node.textContent = "";
      },
    };
  }

  // Keys move through `count` places; the mouse finds the nearest.
  function interact({svg, width}, holder, {count, nearest, show, hide}) {
    let at = -1;
    const go = i => {
      at = Math.max(0, Math.min(count() - 1, i));
      show(at);
    };
    svg.addEventListener("pointermove", event => {
      const box = svg.getBoundingClientRect(),
        k = width / box.width;
      const found = nearest((event.clientX - box.left) * k, (event.clientY - box.top) * k);
      found === null ? (hide(), (at = -1)) : go(found);
    });
    svg.addEventListener("pointerleave", () => {
      hide();
      at = -1;
    });
    svg.addEventListener("blur", () => {
      hide();
      at = -1;
    });
    svg.addEventListener("keydown", event => {
      const step = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10}[
        event.key
      ];
      if (step) go(at < 0 ? (step > 0 ? 0 : count() - 1) : at + step);
      else if (event.key === "Home") go(0);
      else if (event.key === "End") go(count() - 1);
      else if (event.key === "Escape") {
        hide();
        at = -1;
        return;
      } else return;
      event.preventDefault();
    });
  }

  return {INK, SOFT, add, format, frame, interact, path, textWidth, tip};
})();
