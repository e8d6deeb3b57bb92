"use strict";
// Lines with error bands, and points with intervals, drawn as SVG.
const Charts = (() => {
  const {INK, SOFT, add, format, frame, interact, path, textWidth, tip} = Axes;

  // series: {label, color, dash, width, x, y, low, high, from}: parts below `from` are grey.
  function lines(holder, spec) {
    const legend = spec.series
      .filter(s => s.label)
      .map(s => ({
        label: s.label,
        draw: g =>
          add(g, "line", {
            x1: 0,
            x2: 24,
            y1: 10,
            y2: 10,
            stroke: s.color,
            "stroke-width": 2.5,
            "stroke-dasharray": s.dash || "none",
          }),
      }));
    const f = frame(holder, {...spec, legend}),
      {plot, box, sx, sy} = f;
    const drawn = v => (v > 0 || !spec.y.log ? sy(v) : box.bottom + 400);
    for (const s of spec.series) {
      const all = [...s.x.keys()].filter(i => s.y[i] !== null && (s.x[i] > 0 || !spec.x.log));
      const used = s.from ? all.filter(i => s.x[i] >= s.from) : all,
        unused = all.slice(0, all.length - used.length);
      for (const [index, color] of [
        [unused.length ? [...unused, ...used.slice(0, 1)] : [], "#b9c0c7"],
        [used, s.color],
      ]) {
        if (s.low) {
          const band = index.filter(i => s.low[i] !== null && s.high[i] !== null);
          const edge = [
            ...band.map(i => [sx(s.x[i]), drawn(s.high[i])]),
            ...band.reverse().map(i => [sx(s.x[i]), drawn(s.low[i])]),
          ];
          if (edge.length)
            add(plot, "path", {class: "band", d: path(edge) + "Z", fill: color, "fill-opacity": 0.2});
        }
        add(plot, "path", {
          class: "line",
          d: path(index.map(i => [sx(s.x[i]), drawn(s.y[i])])),
          fill: "none",
          stroke: color,
          "stroke-width": s.width || 2,
          "stroke-dasharray": s.dash || "none",
          "stroke-linejoin": "round",
        });
      }
    }
    const tooltip = tip(holder),
      cursor = add(plot, "line", {y1: box.top, y2: box.bottom, stroke: SOFT, visibility: "hidden"});
    const read = spec.series.filter(s => s.label);
    const longest = read.reduce((a, b) => (b.x.length > a.x.length ? b : a), read[0] || {x: []});
    const at = longest.x.filter(x => x >= spec.x.domain[0] && x <= spec.x.domain[1]);
    const closest = (xs, v) =>
      xs.reduce((best, x, i) => (Math.abs(sx(x) - sx(v)) < Math.abs(sx(xs[best]) - sx(v)) ? i : best), 0);
    interact(f, holder, {
      count: () => at.length,
      nearest: (x, y) =>
        at.length && x >= box.left && x <= box.right && y >= box.top && y <= box.bottom
          ? closest(at, sx.inverse(x))
          : null,
      show: i => {
        const v = at[i];
        cursor.setAttribute("x1", sx(v));
        cursor.setAttribute("x2", sx(v));
        cursor.setAttribute("visibility", "visible");
        const values = read.map(s => {
          const k = closest(s.x, v),
            error = s.high && s.high[k] !== null ? ` ± ${format(s.high[k] - s.y[k], 2)}` : "";
          return `${s.label}: ${format(s.y[k])}${error}`;
        });
        tooltip.show(
          [`${format(v, 4)} ${spec.x.unit}`, ...values].join("\n"),
          sx(v),
          (box.top + box.bottom) / 2,
        );
      },
      hide: () => {
        cursor.setAttribute("visibility", "hidden");
        tooltip.hide();
      },
    });
    return f;
  }

  const SYMBOLS = {
    circle: r => `M${-r},0a${r},${r} 0 1 0 ${2 * r},0a${r},${r} 0 1 0 ${-2 * r},0Z`,
    diamond: r => `M0,${-1.35 * r}L${1.35 * r},0L0,${1.35 * r}L${-1.35 * r},0Z`,
    bar: r => `M${-1.2 * r},0H${1.2 * r}`,
  };

  // points: {x, y, xLow, xHigh, yLow, yHigh, bound, kind, name, text};
  // kinds: name -> {color, symbol, open, label}.
  function points(holder, spec) {
    const many = spec.points.length > 60;
    const legend = Object.entries(spec.kinds)
      .filter(([kind]) => spec.points.some(p => p.kind === kind))
      .map(([, k]) => ({
        label: k.label,
        draw: g => mark(g, k, 12, 10),
      }));
    const f = frame(holder, {...spec, legend}),
      {plot, box, sx, sy} = f,
      taken = [];
    function mark(g, kind, x, y) {
      add(g, "path", {
        class: "mark",
        d: SYMBOLS[kind.symbol](many ? 3.5 : 5),
        transform: `translate(${x},${y})`,
        fill: kind.open ? "#fff" : kind.color,
        stroke: kind.color,
        "stroke-width": 2,
      });
      if (kind.symbol === "bar")
        add(g, "path", {
          d: many ? `M${x},${y}v9m-3,-3l3,3l3,-3` : `M${x},${y}v14m-4,-5l4,5l4,-5`,
          fill: "none",
          stroke: kind.color,
          "stroke-width": 1.6,
        });
    }
    for (const p of spec.points) {
      const kind = spec.kinds[p.kind],
        x = sx(p.x),
        y = sy(p.y),
        g = add(plot, "g");
      const whisker = (x1, x2, y1, y2) =>
        add(g, "line", {
          class: "whisker",
          x1,
          x2,
          y1,
          y2,
          stroke: kind.color,
          "stroke-width": 1.4,
          "stroke-opacity": many ? 0.35 : 1,
        });
      if (p.xLow && p.xHigh) whisker(sx(p.xLow), sx(p.xHigh), y, y);
      if (!p.bound && p.yLow && p.yHigh) whisker(x, x, sy(p.yLow), sy(p.yHigh));
      mark(g, kind, x, y);
      taken.push([x - 7, y - 8, x + 7, y + 8]);
    }
    const overlaps = a => taken.some(b => a[0] < b[2] && a[2] > b[0] && a[1] < b[3] && a[3] > b[1]);
    for (const p of spec.points.filter(p => p.name)) {
      const x = sx(p.x),
        y = sy(p.y),
        w = textWidth(p.name, 12);
      for (const [dx, dy, anchor] of [
        [10, -9, "start"],
        [10, 19, "start"],
        [-10, -9, "end"],
        [-10, 19, "end"],
      ]) {
        const edge = anchor === "start" ? [x + dx, x + dx + w] : [x + dx - w, x + dx];
        const area = [edge[0], y + dy - 11, edge[1], y + dy + 3];
        if (
          overlaps(area) ||
          edge[0] < box.left + 2 ||
          edge[1] > box.right + 10 ||
          area[1] < box.top ||
          area[3] > box.bottom
        )
          continue;
        add(
          f.svg,
          "text",
          {
            class: "name",
            x: x + dx,
            y: y + dy,
            "text-anchor": anchor,
            stroke: "#fff",
            "stroke-width": 3,
            "paint-order": "stroke",
          },
          p.name,
        );
        taken.push(area);
        break;
      }
    }
    const tooltip = tip(holder),
      ring = add(plot, "circle", {
        r: 11,
        fill: "none",
        stroke: INK,
        "stroke-width": 1.5,
        visibility: "hidden",
      });
    interact(f, holder, {
      count: () => spec.points.length,
      nearest: (x, y) => {
        const distance = p => Math.hypot(sx(p.x) - x, sy(p.y) - y);
        const best = spec.points.reduce(
          (a, p, i) => (a === null || distance(p) < distance(spec.points[a]) ? i : a),
          null,
        );
        return best !== null && distance(spec.points[best]) < 30 ? best : null;
      },
      show: i => {
        const p = spec.points[i],
          x = sx(p.x),
          y = sy(p.y);
        ring.setAttribute("cx", x);
        ring.setAttribute("cy", y);
        ring.setAttribute("visibility", "visible");
        tooltip.show(p.text, x, y);
      },
      hide: () => {
        ring.setAttribute("visibility", "hidden");
        tooltip.hide();
      },
    });
    return f;
  }

  return {lines, points};
})();
