// What a defense leaks against what it costs; the front joins those that no other beats in both.
"use strict";
leakboard.leakages = {
  auc: { view: "leak", axis: "AUC of the best attack" },
  tpr_at_fpr_1e2: { view: "leak", axis: "TPR at 1 % FPR, best attack" },
  tpr_at_fpr_1e3: { view: "leak", axis: "TPR at 0.1 % FPR, best attack" },
  fidelity: { view: "extraction", axis: "fidelity of the best extraction" },
  most_exposure: { view: "exposure", axis: "highest exposure of an open layer" },
};

// By defense, the row of the leakage that was chosen; of several extractions the one that gets most.
leakboard.leaking = (context) => {
  const { view } = leakboard.leakages[context.leakage];
  const found = new Map();
  for (const row of leakboard.board.ofTable(view, context.table)) {
    const cell = row.cells[context.leakage];
    const before = found.get(row.defense);
    if (cell[0] !== null && !(before && before.cells[context.leakage][0] >= cell[0])) found.set(row.defense, row);
  }
  return found;
};

leakboard.figures.makers.push((context) => {
  const { figures, plain } = leakboard;
  const costs = [
    { field: "latency_ratio", title: "latency", axis: "latency ratio over vanilla", scale: 1 },
    { field: "tee_peak_bytes", title: "memory in the TEE", axis: "TEE peak memory, MiB", scale: 2 ** 20 },
    { field: "tee_flops_frac", title: "computation in the TEE", axis: "share of FLOPs in the TEE", scale: 1 },
  ];
  const words = leakboard.leakages[context.leakage].axis;
  const leaks = leakboard.leaking(context);
  const rows = new Map(leakboard.board.ofTable("cost", context.table).map((row) => [row.defense, row]));

  return costs.map((cost) => {
    const points = [...leaks.values()]
      .map((leak) => ({ leak, paid: rows.get(leak.defense), y: leak.cells[context.leakage] }))
      .map((point) => ({ ...point, x: point.paid?.cells[cost.field] }))
      .filter((point) => point.x && point.x[0] !== null)
      .sort((a, b) => a.x[0] - b.x[0] || a.y[0] - b.y[0]);
    if (points.length < 2) return null;
    const front = points.filter((point, i) => points.slice(0, i).every((other) => other.y[0] > point.y[0]));
    const names = front.map((point) => point.leak.defense).join(", ");
    const scaled = (cell) => cell.map((value) => (typeof value === "number" ? value / cost.scale : value));
    const trace = (point) => {
      const look = figures.style(context.defenses, point.leak.defense);
      const x = scaled(point.x);
      return { type: "scatter", mode: "markers", name: plain(point.leak.defense), x: [x[0]], y: [point.y[0]],
        error_x: x.length > 3 ? figures.arms([x]) : undefined, error_y: figures.arms([point.y]),
        marker: { color: look.color, symbol: look.symbol, size: 11 }, customdata: [point.leak.links[0]?.address],
        hovertemplate: `%{fullData.name}<br>${cost.axis}: ${plain(point.x[1])}<br>${words}: ${plain(point.y[1])}<extra></extra>` };
    };
    return {
      id: `pareto-${cost.field}`,
      title: `Leakage against ${cost.title}.`,
      caption: "Lower left is better. The line is the front by the figures themselves; bars are their intervals.",
      alternative: `${points.length} defenses. On the front, from cheap to dear: ${names}.`,
      layout: { below: true, xaxis: { title: { text: cost.axis } }, yaxis: { title: { text: words } } },
      traces: () => [
        { type: "scatter", mode: "lines", name: "front", line: { shape: "hv", width: 1.5, dash: "dot", color: "#808890" },
          x: front.map((point) => point.x[0] / cost.scale), y: front.map((point) => point.y[0]), hoverinfo: "skip" },
        ...points.map(trace),
      ],
      headers: ["defense", words, cost.axis, "on the front", "leakage from", "cost from"],
      rows: () => points.map((point) => [point.leak.defense, figures.shown(point.y), figures.shown(point.x),
        front.includes(point) ? "yes" : "no", figures.links(point.leak), figures.links(point.paid)]),
    };
  });
});
