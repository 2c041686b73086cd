// Figures of one table: drawn by plotly when they come near the window, with their numbers in a table below each.
"use strict";
leakboard.figures = (() => {
  const { el } = leakboard;
  const SYMBOLS = ["circle", "square", "diamond", "triangle-up", "cross", "star", "hexagon", "triangle-down"];
  const DASHES = ["solid", "dash", "dot", "dashdot"];
  const makers = [];
  const drawn = new Map();
  let watcher, current;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const palette = () => Array.from({ length: 8 }, (_, i) => css(`--c${i}`));

  // How a defense looks, the same in every figure of a table: colour, symbol and dash all tell it from the others.
  function style(names, name) {
    const i = Math.max(0, names.indexOf(name));
    const colours = palette();
    return { color: colours[i % colours.length], symbol: SYMBOLS[(i + Math.floor(i / colours.length)) % SYMBOLS.length],
      dash: DASHES[Math.floor(i / colours.length) % DASHES.length] };
  }

  // Where there is no room beside a figure its legend goes below, in as many columns as the names leave.
  function legendBelow(names, width) {
    const longest = Math.max(1, ...names.map((name) => name.length));
    const columns = Math.max(1, Math.min(4, Math.floor((width - 70) / (7 * longest + 50))));
    const legend = { orientation: "h", x: 0, y: 0, yref: "container", yanchor: "bottom",
      entrywidthmode: "fraction", entrywidth: 0.98 / columns };
    return [legend, 21 * Math.ceil(names.length / columns) + 14];
  }

  function layout(own, node, names) {
    const text = css("--text"), grid = css("--line");
    const below = own.below || node.clientWidth < 560;
    const axis = { gridcolor: grid, linecolor: grid, zerolinecolor: grid, tickcolor: grid, automargin: true };
    const [legend, under] = below && own.showlegend !== false ? legendBelow(names, node.clientWidth) : [{ x: 1.02, y: 1 }, 0];
    const made = { paper_bgcolor: "rgba(0,0,0,0)", plot_bgcolor: "rgba(0,0,0,0)", font: { color: text, size: 13 },
      margin: { l: 56, r: 12, t: 12, b: 50 + under }, hovermode: "closest", ...own,
      height: (own.height || 330) + under, legend };
    for (const name of Object.keys(own)) if (/^[xy]axis/.test(name)) made[name] = { ...axis, ...own[name] };
    delete made.below;
    return made;
  }

  async function plot(spec, node) {
    await leakboard.load("assets/plotly.min.js");
    if (!node.isConnected) return;
    const traces = spec.traces();
    const named = traces.filter((trace) => trace.showlegend !== false).map((trace) => trace.name);
    await Plotly.react(node, traces, layout(spec.layout, node, named), { responsive: true, displayModeBar: false });
    if (!node.dataset.wired) {
      node.dataset.wired = "yes";
      node.on("plotly_click", ({ points }) => {
        const point = points.find((one) => typeof one.customdata === "string");
        if (point) location.href = `${point.customdata}.html`;
      });
    }
    drawn.set(node, spec);
    performance.mark("leakboard-figure");
  }

  function figure(spec) {
    const node = el("div", { class: "plot", role: "img", "aria-label": `${spec.title}. ${spec.alternative}` });
    const numbers = el("details", {}, el("summary", {}, "The numbers, with their records"));
    numbers.addEventListener("toggle", () => {
      if (numbers.open && numbers.childElementCount === 1) numbers.append(leakboard.grid(spec.headers, spec.rows(), spec.title));
    });
    watcher.observe(node);
    node.spec = spec;
    return el("figure", { id: spec.id, class: spec.wide ? "wide" : null },
      el("figcaption", {}, el("strong", {}, spec.title), ` ${spec.caption}`), node, numbers);
  }

  // Draw all figures of a table; each maker gives specs, or promises of them, or nothing where nothing was measured.
  async function show(context) {
    current = context;
    drawn.clear();
    watcher?.disconnect();
    watcher = new IntersectionObserver((entries) => {
      for (const { target, isIntersecting } of entries) {
        if (!isIntersecting) continue;
        watcher.unobserve(target);
        plot(target.spec, target).catch((error) => target.replaceChildren(`Not drawn: ${error.message}`));
      }
    }, { rootMargin: "300px" });
    const sets = await Promise.all(makers.map(async (maker) => maker(context)));
    if (current !== context) return;
    const specs = sets.flat().filter((spec) => spec);
    const place = document.getElementById("plots");
    place.replaceChildren(...specs.map(figure));
    if (!specs.length) place.append(el("p", { class: "hint" }, "Nothing was measured that these figures show."));
  }

  document.addEventListener("themechange", () => {
    for (const [node, spec] of drawn) if (node.isConnected) plot(spec, node);
  });

  // Error bars of estimates; cells are [value, text, interval, low, high].
  const arms = (cells) => ({ type: "data", symmetric: false, thickness: 1.2, width: 3,
    array: cells.map((cell) => (cell[4] ?? cell[0]) - cell[0]), arrayminus: cells.map((cell) => cell[0] - (cell[3] ?? cell[0])) });
  const shown = (cell) => (cell ? { number: cell[1], interval: cell[2] } : "-");
  const links = (row) => row.links.map(({ address, label }) => leakboard.recordLink(address, label, row.defense));

  return { makers, show, style, arms, shown, links };
})();
