"use strict";
// Charts drawn as SVG: scales, axes, lines with error bands, points with intervals, reading of values by mouse and keys.
const Charts = (() => {
  const FONT = "system-ui, 'Segoe UI', 'Helvetica Neue', Arial, 'Liberation Sans', sans-serif";
  const INK = "#1c2126", SOFT = "#59636e", GRID = "#e6e9ed";
  const SUPERSCRIPT = "⁰¹²³⁴⁵⁶⁷⁸⁹";
  let clips = 0;

  function add(parent, tag, attributes = {}, text) {
    const node = document.createElementNS("http://www.w3.org/2000/svg", tag);
    for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
    if (text !== undefined) node.textContent = text;
    if (parent) parent.append(node);
    return node;
  }

  const power = exponent => "10" + String(exponent).replace("-", "⁻").replace(/\d/g, d => SUPERSCRIPT[d]);

  function scientific(value, digits) {
    const exponent = Math.floor(Math.log10(Math.abs(value)) + 1e-12);
    return `${Number((value / 10 ** exponent).toPrecision(digits))} × ${power(exponent)}`;
  }

  function format(value, digits = 3) {
    if (value === null || value === undefined) return "–";
    const size = Math.abs(value);
    return value === 0 || size >= 1e-3 && size < 1e5 ? String(Number(value.toPrecision(digits))) : scientific(value, digits);
  }

  function linearTicks([low, high], count) {
    const raw = (high - low) / count, base = 10 ** Math.floor(Math.log10(raw));
    const step = [1, 2, 5, 10].map(m => m * base).find(s => s >= raw * 0.999);
    const ticks = [];
    for (let k = Math.ceil(low / step - 1e-9); k * step <= high * (1 + 1e-9); k++) ticks.push(k * step);
    return ticks;
  }

  // Decades carry labels; where fewer than two are in view, 1, 2 and 5 do.
  function logTicks([low, high], room) {
    const first = Math.ceil(Math.log10(low) - 1e-9), last = Math.floor(Math.log10(high) + 1e-9);
    const decades = [], minor = [];
    const every = Math.max(1, Math.ceil((last - first + 1) / room));
    for (let e = first; e <= last; e++) (e % every ? minor : decades).push(10 ** e);
    for (let e = first - 1; e <= last; e++)
      for (let m = 2; m < 10; m++) if (m * 10 ** e >= low && m * 10 ** e <= high) minor.push(m * 10 ** e);
    if (decades.length > 1) return {major: decades, minor, label: v => power(Math.round(Math.log10(v)))};
    const few = [...decades, ...minor].filter(v => [1, 2, 5].includes(Number((v / 10 ** Math.floor(Math.log10(v) + 1e-9)).toPrecision(2))));
    const small = low < 0.01 || high > 1e4;
    return {major: few.length > 1 ? few : [...decades, ...minor], minor, label: v => small ? scientific(v, 2) : format(v, 2)};
  }

  function scale({log, domain}, range) {
    const f = log ? Math.log10 : x => x, [a, b] = domain.map(f), [p, q] = range;
    return Object.assign(v => p + (q - p) * (f(v) - a) / (b - a), {
      inverse: pixel => { const v = a + (b - a) * (pixel - p) / (q - p); return log ? 10 ** v : v; },
    });
  }

  // A common factor keeps the labels of a linear axis short.
  function linearAxis(domain, count) {
    const top = Math.max(...domain.map(Math.abs)), exponent = top > 0 ? Math.floor(Math.log10(top)) : 0;
    const factor = exponent < -2 || exponent > 3 ? exponent : 0;
    return {major: linearTicks(domain, count), minor: [], factor, label: v => String(Number((v / 10 ** factor).toPrecision(6)))};
  }

  const ruler = document.createElement("canvas").getContext("2d");
  function textWidth(text, size) {
    ruler.font = `${size}px ${FONT}`;
    return ruler.measureText(text).width;
  }

  // Height that a legend of entries {label} takes, and the place of each.
  function legendLayout(entries, width) {
    let x = 0, row = 0;
    const places = entries.map(entry => {
      const w = 34 + textWidth(entry.label, 12.5);
      if (x > 0 && x + w > width) { x = 0; row++; }
      const place = [x, row * 19];
      x += w + 12;
      return place;
    });
    return {places, height: entries.length ? (row + 1) * 19 + 6 : 0};
  }

  // Axes and legend; what is drawn into plot is clipped to the axes.
  function frame(holder, spec) {
    const width = Math.max(280, holder.clientWidth), narrow = width < 520;
    const left = narrow ? 52 : 66, right = 14, legend = legendLayout(spec.legend, width - left - right);
    const top = 30 + legend.height, bottom = 48, height = top + bottom + (spec.inner || (narrow ? 250 : 360));
    const svg = add(null, "svg", {
      viewBox: `0 0 ${width} ${height}`, width, height, "font-family": FONT, "font-size": 12, fill: INK, tabindex: 0,
      role: "img", "aria-label": spec.title,
    });
    add(svg, "title", {}, spec.title);
    add(svg, "rect", {width, height, fill: "#fff"});
    const box = {left, top, right: width - right, bottom: height - bottom};
    const sx = scale(spec.x, [box.left, box.right]), sy = scale(spec.y, [box.bottom, box.top]);
    const ticks = (axis, pixels, each) => axis.log ? logTicks(axis.domain, pixels / each) : linearAxis(axis.domain, pixels / each);
    const tx = ticks(spec.x, box.right - box.left, 70), ty = ticks(spec.y, box.bottom - box.top, 45);
    const back = add(svg, "g");
    if (spec.shade) {
      const [a, b] = spec.shade.map(v => Math.max(box.left, Math.min(box.right, sx(v))));
      add(back, "rect", {class: "window", x: a, y: box.top, width: b - a, height: box.bottom - box.top, fill: "#fdf3d8"});
    }
    for (const v of tx.major) {
      add(back, "line", {x1: sx(v), x2: sx(v), y1: box.top, y2: box.bottom, stroke: GRID});
      add(back, "text", {x: sx(v), y: box.bottom + 18, "text-anchor": "middle"}, tx.label(v));
    }
    for (const v of ty.major) {
      add(back, "line", {x1: box.left, x2: box.right, y1: sy(v), y2: sy(v), stroke: GRID});
      add(back, "text", {x: box.left - 8, y: sy(v) + 4, "text-anchor": "end"}, ty.label(v));
    }
    for (const v of tx.minor) add(back, "line", {x1: sx(v), x2: sx(v), y1: box.bottom, y2: box.bottom + 4, stroke: SOFT});
    for (const v of ty.minor) add(back, "line", {x1: box.left - 4, x2: box.left, y1: sy(v), y2: sy(v), stroke: SOFT});
    // "I_low" with a subscript.
    const label = (attributes, text) => {
      const node = add(svg, "text", {...attributes, "font-size": 13}), [before, after] = text.split("_low");
      add(node, "tspan", {}, before);
      if (after === undefined) return;
      add(node, "tspan", {"font-size": 9.5, dy: 3}, "low");
      add(node, "tspan", {dy: -3}, after);
    };
    const factor = t => t.factor ? ` × ${power(-t.factor)}` : "";
    label({x: (box.left + box.right) / 2, y: height - 10, "text-anchor": "middle"}, spec.x.label + factor(tx));
    label({x: 2, y: top - 12}, spec.y.label + factor(ty));
    const clip = `clip${clips++}`;
    add(add(svg, "clipPath", {id: clip}), "rect", {x: box.left, y: box.top, width: box.right - box.left, height: box.bottom - box.top});
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
    let d = "", pen = false;
    for (const [x, y] of points) {
      if (!Number.isFinite(x) || !Number.isFinite(y)) { pen = false; continue; }
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
      hide() { node.textContent = ""; },
    };
  }

  // Keys move through `count` places; the mouse finds the nearest.
  function interact({svg, width}, holder, {count, nearest, show, hide}) {
    let at = -1;
    const go = i => { at = Math.max(0, Math.min(count() - 1, i)); show(at); };
    svg.addEventListener("pointermove", event => {
      const box = svg.getBoundingClientRect(), k = width / box.width;
      const found = nearest((event.clientX - box.left) * k, (event.clientY - box.top) * k);
      found === null ? (hide(), at = -1) : go(found);
    });
    svg.addEventListener("pointerleave", () => { hide(); at = -1; });
    svg.addEventListener("blur", () => { hide(); at = -1; });
    svg.addEventListener("keydown", event => {
      const step = {ArrowRight: 1, ArrowUp: 1, ArrowLeft: -1, ArrowDown: -1, PageUp: 10, PageDown: -10}[event.key];
      if (step) go(at < 0 ? (step > 0 ? 0 : count() - 1) : at + step);
      else if (event.key === "Home") go(0);
      else if (event.key === "End") go(count() - 1);
      else if (event.key === "Escape") { hide(); at = -1; return; }
      else return;
      event.preventDefault();
    });
  }

  // series: {label, color, dash, width, x, y, low, high, from}: parts below `from` are grey.
  function lines(holder, spec) {
    const legend = spec.series.filter(s => s.label).map(s => ({
      label: s.label,
      draw: g => add(g, "line", {x1: 0, x2: 24, y1: 10, y2: 10, stroke: s.color, "stroke-width": 2.5, "stroke-dasharray": s.dash || "none"}),
    }));
    const f = frame(holder, {...spec, legend}), {plot, box, sx, sy} = f;
    const drawn = v => v > 0 || !spec.y.log ? sy(v) : box.bottom + 400;
    for (const s of spec.series) {
      const all = [...s.x.keys()].filter(i => s.y[i] !== null && (s.x[i] > 0 || !spec.x.log));
      const used = s.from ? all.filter(i => s.x[i] >= s.from) : all, unused = all.slice(0, all.length - used.length);
      for (const [index, color] of [[unused.length ? [...unused, ...used.slice(0, 1)] : [], "#b9c0c7"], [used, s.color]]) {
        if (s.low) {
          const band = index.filter(i => s.low[i] !== null && s.high[i] !== null);
          const edge = [...band.map(i => [sx(s.x[i]), drawn(s.high[i])]), ...band.reverse().map(i => [sx(s.x[i]), drawn(s.low[i])])];
          if (edge.length) add(plot, "path", {class: "band", d: path(edge) + "Z", fill: color, "fill-opacity": 0.2});
        }
        add(plot, "path", {class: "line", d: path(index.map(i => [sx(s.x[i]), drawn(s.y[i])])), fill: "none", stroke: color,
          "stroke-width": s.width || 2, "stroke-dasharray": s.dash || "none", "stroke-linejoin": "round"});
      }
    }
    const tooltip = tip(holder), cursor = add(plot, "line", {y1: box.top, y2: box.bottom, stroke: SOFT, visibility: "hidden"});
    const read = spec.series.filter(s => s.label);
    const longest = read.reduce((a, b) => (b.x.length > a.x.length ? b : a), read[0] || {x: []});
    const at = longest.x.filter(x => x >= spec.x.domain[0] && x <= spec.x.domain[1]);
    const closest = (xs, v) => xs.reduce((best, x, i) => (Math.abs(sx(x) - sx(v)) < Math.abs(sx(xs[best]) - sx(v)) ? i : best), 0);
    interact(f, holder, {
      count: () => at.length,
      nearest: (x, y) => at.length && x >= box.left && x <= box.right && y >= box.top && y <= box.bottom ? closest(at, sx.inverse(x)) : null,
      show: i => {
        const v = at[i];
        cursor.setAttribute("x1", sx(v)); cursor.setAttribute("x2", sx(v)); cursor.setAttribute("visibility", "visible");
        const values = read.map(s => {
          const k = closest(s.x, v), error = s.high && s.high[k] !== null ? ` ± ${format(s.high[k] - s.y[k], 2)}` : "";
          return `${s.label}: ${format(s.y[k])}${error}`;
        });
        tooltip.show([`${format(v, 4)} ${spec.x.unit}`, ...values].join("\n"), sx(v), (box.top + box.bottom) / 2);
      },
      hide: () => { cursor.setAttribute("visibility", "hidden"); tooltip.hide(); },
    });
    return f;
  }

  const SYMBOLS = {
    circle: r => `M${-r},0a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0Z`,
    diamond: r => `M0,${-1.35 * r}L${1.35 * r},0L0,${1.35 * r}L${-1.35 * r},0Z`,
    bar: r => `M${-1.2 * r},0H${1.2 * r}`,
  };

  // points: {x, y, xLow, xHigh, yLow, yHigh, bound, kind, name, text}; kinds: name -> {color, symbol, open, label}.
  function points(holder, spec) {
    const many = spec.points.length > 60;
    const legend = Object.entries(spec.kinds).filter(([kind]) => spec.points.some(p => p.kind === kind)).map(([, k]) => ({
      label: k.label, draw: g => mark(g, k, 12, 10),
    }));
    const f = frame(holder, {...spec, legend}), {plot, box, sx, sy} = f, taken = [];
    function mark(g, kind, x, y) {
      add(g, "path", {class: "mark", d: SYMBOLS[kind.symbol](many ? 3.5 : 5), transform: `translate(${x},${y})`, fill: kind.open ? "#fff" : kind.color, stroke: kind.color, "stroke-width": 2});
      if (kind.symbol === "bar") add(g, "path", {d: many ? `M${x},${y}v9m-3,-3l3,3l3,-3` : `M${x},${y}v14m-4,-5l4,5l4,-5`, fill: "none", stroke: kind.color, "stroke-width": 1.6});
    }
    for (const p of spec.points) {
      const kind = spec.kinds[p.kind], x = sx(p.x), y = sy(p.y), g = add(plot, "g");
      const whisker = (x1, x2, y1, y2) => add(g, "line", {class: "whisker", x1, x2, y1, y2, stroke: kind.color, "stroke-width": 1.4, "stroke-opacity": many ? 0.35 : 1});
      if (p.xLow && p.xHigh) whisker(sx(p.xLow), sx(p.xHigh), y, y);
      if (!p.bound && p.yLow && p.yHigh) whisker(x, x, sy(p.yLow), sy(p.yHigh));
      mark(g, kind, x, y);
      taken.push([x - 7, y - 8, x + 7, y + 8]);
    }
    const overlaps = a => taken.some(b => a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1]);
    for (const p of spec.points.filter(p => p.name)) {
      const x = sx(p.x), y = sy(p.y), w = textWidth(p.name, 12);
      for (const [dx, dy, anchor] of [[10, -9, "start"], [10, 19, "start"], [-10, -9, "end"], [-10, 19, "end"]]) {
        const edge = anchor === "start" ? [x + dx, x + dx + w] : [x + dx - w, x + dx];
        const area = [edge[0], y + dy - 11, edge[1], y + dy + 3];
        if (overlaps(area) || edge[0] < box.left + 2 || edge[1] > box.right + 10 || area[1] < box.top || area[3] > box.bottom) continue;
        add(f.svg, "text", {class: "name", x: x + dx, y: y + dy, "text-anchor": anchor, stroke: "#fff", "stroke-width": 3, "paint-order": "stroke"}, p.name);
        taken.push(area);
        break;
      }
    }
    const tooltip = tip(holder), ring = add(plot, "circle", {r: 11, fill: "none", stroke: INK, "stroke-width": 1.5, visibility: "hidden"});
    interact(f, holder, {
      count: () => spec.points.length,
      nearest: (x, y) => {
        const distance = p => Math.hypot(sx(p.x) - x, sy(p.y) - y);
        const best = spec.points.reduce((a, p, i) => (a === null || distance(p) < distance(spec.points[a]) ? i : a), null);
        return best !== null && distance(spec.points[best]) < 30 ? best : null;
      },
      show: i => {
        const p = spec.points[i], x = sx(p.x), y = sy(p.y);
        ring.setAttribute("cx", x); ring.setAttribute("cy", y); ring.setAttribute("visibility", "visible");
        tooltip.show(p.text, x, y);
      },
      hide: () => { ring.setAttribute("visibility", "hidden"); tooltip.hide(); },
    });
    return f;
  }

  return {lines, points, format};
})();
