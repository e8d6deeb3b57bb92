"use strict";
// Sorting and filtering of the table, choice of runs, switches of the axes, saving of figures.
(() => {
  const $ = id => document.getElementById(id);
  const table = $("table"),
    body = table.tBodies[0],
    lines = [...body.rows];
  const heads = [...table.tHead.rows[0].cells];

  function sortBy(column, direction) {
    const numeric = heads[column].classList.contains("n");
    const key = line => {
      const v = line.cells[column].dataset.v;
      return v === undefined ? null : numeric ? Number(v) : v;
    };
    const keyed = lines.map((line, i) => [key(line), i, line]);
    keyed.sort(([a, i], [b, j]) => {
      if (a === null || b === null) return (a === null) - (b === null) || i - j;
      const order = numeric ? a - b : a.localeCompare(b, "en", {numeric: true});
      return order * direction || i - j;
    });
    body.append(...keyed.map(k => k[2]));
    heads.forEach((head, i) =>
      head.setAttribute("aria-sort", i !== column ? "none" : direction > 0 ? "ascending" : "descending"),
    );
  }
  heads.forEach((head, column) =>
    head.querySelector("button").addEventListener("click", () => {
      const now = head.getAttribute("aria-sort");
      // Numbers are wanted largest first, except ranks and temperatures.
      const first = head.classList.contains("n") && !["rank", "T"].includes(head.dataset.key) ? -1 : 1;
      sortBy(column, now === "none" ? first : now === "ascending" ? -1 : 1);
    }),
  );

  function filter() {
    const wanted = $("filter").value.trim().toLowerCase(),
      ranked = $("only-ranked").checked;
    let shown = 0;
    for (const line of lines) {
      line.hidden =
        !line.textContent.toLowerCase().includes(wanted) || (ranked && !line.classList.contains("ranked"));
      shown += !line.hidden;
    }
    $("shown").textContent = `${shown} of ${lines.length} rows`;
  }
  $("filter").addEventListener("input", filter);
  $("only-ranked").addEventListener("change", filter);
  filter();

  const {rows, withCurves} = Figures,
    chart = name => document.querySelector(`[data-figure=${name}] .chart`);
  const ranked = withCurves.filter(i => rows[i].rank);
  let chosen = (ranked.length ? ranked : withCurves).slice(0, 5);

  function draw() {
    Figures.map(chart("map"));
    drawCurves();
  }
  function drawCurves() {
    Figures.spectra(chart("spectra"), chosen, {
      log: $("spectra-scale").value === "log",
      top: Number($("spectra-range").value),
    });
    Figures.displacement(chart("msd"), chosen);
  }
  function choose(next) {
    chosen = next;
    $("chosen").replaceChildren(
      ...chosen.map((i, place) => {
        const button = document.createElement("button"),
          mark = document.createElement("span");
        mark.style.cssText = `width:.9em;height:.9em;border-radius:50%;background:${Figures.style(place).color}`;
        button.type = "button";
        button.append(mark, Figures.title(rows[i]), " ×");
        button.setAttribute("aria-label", `Remove ${Figures.title(rows[i])}`);
        button.addEventListener("click", () => {
          choose(chosen.filter(k => k !== i));
          $("add").focus();
        });
        return button;
      }),
    );
    $("add").replaceChildren(
      $("add").options[0],
      ...withCurves.filter(i => !chosen.includes(i)).map(i => new Option(Figures.title(rows[i]), i)),
    );
    $("add").value = "";
    drawCurves();
  }
  $("add").addEventListener("change", event => {
    if (event.target.value !== "") choose([...chosen, Number(event.target.value)]);
  });
  for (const id of ["spectra-scale", "spectra-range"]) $(id).addEventListener("change", drawCurves);

  function save(figure, type) {
    const svg = figure.querySelector("svg"),
      name = figure.dataset.figure;
    if (!svg) return;
    const text = new XMLSerializer().serializeToString(svg);
    const give = (url, ending) =>
      Object.assign(document.createElement("a"), {href: url, download: `${name}.${ending}`}).click();
    const url = URL.createObjectURL(new Blob([text], {type: "image/svg+xml"}));
    if (type === "SVG") return give(url, "svg");
    const image = new Image(),
      canvas = document.createElement("canvas"),
      {width, height} = svg.viewBox.baseVal;
    image.onload = () => {
      canvas.width = 3 * width;
      canvas.height = 3 * height;
      canvas.getContext("2d").drawImage(image, 0, 0, canvas.width, canvas.height);
      canvas.toBlob(blob => give(URL.createObjectURL(blob), "png"));
    };
    image.src = url;
  }
  for (const figure of document.querySelectorAll("figure[data-figure]")) {
    const bar = document.createElement("div");
    bar.className = "save";
    for (const type of ["SVG", "PNG"]) {
      const button = Object.assign(document.createElement("button"), {type: "button", textContent: type});
      button.setAttribute("aria-label", `Save this figure as ${type}`);
      button.addEventListener("click", () => save(figure, type));
      bar.append(button);
    }
    figure.append(bar);
  }

  for (const part of document.querySelectorAll("details.candidate"))
    part.addEventListener("toggle", () => {
      const holder = part.querySelector(".pair");
      if (part.open && !holder.hasChildNodes())
        Figures.candidate(holder, part.dataset.rows.split(",").map(Number));
    });
  function openTarget() {
    const target = location.hash.length > 1 && document.getElementById(location.hash.slice(1));
    if (target && target.matches("details.candidate")) {
      target.open = true;
      target.scrollIntoView();
    }
  }
  addEventListener("hashchange", openTarget);
  $("open-all").addEventListener("click", () =>
    document.querySelectorAll("details.candidate").forEach(part => {
      part.open = true;
    }),
  );

  let width = innerWidth,
    waiting;
  addEventListener("resize", () => {
    if (innerWidth === width) return;
    width = innerWidth;
    clearTimeout(waiting);
    waiting = setTimeout(draw, 120);
  });
  Figures.map(chart("map"));
  choose(chosen);
  openTarget();
})();
