// ROC curves, exposure by layer, extraction against budget, and figures night by night.
"use strict";
(() => {
  const { figures, board, plain, recordLink } = leakboard;

  // Log-log ROC from counts; steps, never interpolated, from the lowest rate that the non-members can show.
  figures.makers.push(async (context) => {
    if (!board.ofTable("attacks", context.table).length) return null;
    const name = `roc-${context.table}`;
    await leakboard.load(`data/${name}.js`);
    const chosen = context.attack;
    const curves = leakboard.data[name].filter((curve) => (chosen ? curve.attack === chosen : curve.best));
    if (!curves.length) return null;
    const records = leakboard.data.index.records;
    const least = Math.log10(1 / Math.max(...curves.map((curve) => curve.others)));
    const which = chosen ? `of ${chosen}` : "of each defense's best attack";
    const address = (curve) => records[curve.record][3];
    const seeds = new Set(curves.map((curve) => curve.seed)).size;
    const trace = (curve) => {
      const look = figures.style(context.defenses, curve.defense);
      const kept = curve.fp.map((_, i) => i).filter((i) => curve.tp[i] > 0);
      const first = curves.find((other) => other.defense === curve.defense) === curve;
      return { type: "scatter", mode: "lines", name: plain(curve.defense), legendgroup: curve.defense, showlegend: first,
        line: { shape: "hv", color: look.color, dash: look.dash, width: 1.6 }, opacity: first ? 1 : 0.6,
        x: [...kept.map((i) => curve.fp[i] / curve.others), 1], y: [...kept.map((i) => curve.tp[i] / curve.members), 1],
        customdata: [...kept, 0].map(() => address(curve)),
        hovertemplate: `${plain(curve.defense)}, ${plain(curve.attack)}, seed ${curve.seed}<br>FPR %{x:.4f}, TPR %{y:.4f}<extra></extra>` };
    };
    const axis = (text) => ({ type: "log", range: [least, 0], title: { text }, dtick: 1, minor: { showgrid: true, dtick: "D1" } });
    return {
      id: "roc", wide: true,
      title: "ROC, log-log.",
      caption: `From stored raw scores ${which}, ${seeds > 1 ? "a line a seed" : "one seed"}; dashed: guessing. Rates below one`
        + " non-member are not shown.",
      alternative: `${curves.length} curves ${which}; AUC and rates at 1 % and 0.1 % are in the table below.`,
      layout: { xaxis: axis("false-positive rate"), yaxis: axis("true-positive rate"), height: 440 },
      traces: () => [{ type: "scatter", mode: "lines", name: "guessing", x: [10 ** least, 1], y: [10 ** least, 1], hoverinfo: "skip",
        line: { dash: "dash", width: 1, color: "#808890" } }, ...curves.map(trace)],
      headers: ["defense", "attack", "seed", "non-members", "AUC", "TPR at 1 % FPR", "TPR at 0.1 % FPR", "record"],
      rows: () => curves.map((curve) => [curve.defense, curve.attack, { number: String(curve.seed) },
        { number: curve.others.toLocaleString("en") }, ...curve.rates.map(figures.shown),
        [recordLink(address(curve), "record", curve.defense)]]),
    };
  });

  // Exposure by layer: E above, which defense leaves the layer open below.
  figures.makers.push((context) => {
    const rows = board.ofTable("layers", context.table);
    const measures = [...new Set(rows.map((row) => row.cells.measure[1]))];
    return measures.map((measure) => {
      const mine = rows.filter((row) => row.cells.measure[1] === measure);
      const defenses = [...new Set(mine.map((row) => row.defense))];
      const label = (row) => plain(`${row.cells.number[1]} ${row.cells.layer[1]}`);
      const one = mine.filter((row) => row.defense === defenses[0]).sort((a, b) => a.cells.number[0] - b.cells.number[0]);
      const known = one.filter((row) => row.cells.exposure[0] !== null);
      const place = (defense) => {
        const own = mine.filter((row) => row.defense === defense);
        const look = figures.style(context.defenses, defense);
        const open = own.map((row) => row.cells.is_open[1] === "yes");
        return { type: "scatter", mode: "markers", name: plain(defense), showlegend: false, yaxis: "y2",
          x: own.map(label), y: own.map(() => plain(defense)), customdata: own.map((row) => row.links[0]?.address),
          marker: { size: 11, color: look.color, symbol: open.map((is) => (is ? "square" : "square-open")) },
          text: open.map((is) => (is ? "open" : "hidden")), hovertemplate: "%{y}: layer %{x} is %{text}<extra></extra>" };
      };
      const share = Math.min(0.6, 0.09 * defenses.length + 0.06);
      return {
        id: `exposure-${measure}`, wide: true,
        title: "Exposure by layer.",
        caption: `Equation 4 of Mo et al. 2019, ${measure}: measured with the owner's victim and members, the same for all`
          + " defenses. Below: filled where a defense leaves the layer open.",
        alternative: `${one.length} layers, ${known.length} with a figure; ${defenses.length} defenses.`,
        layout: { showlegend: false, height: 300 + 26 * defenses.length, xaxis: { type: "category", anchor: "y2" },
          yaxis: { title: { text: "exposure E" }, domain: [share + 0.06, 1], rangemode: "tozero" },
          yaxis2: { domain: [0, share], type: "category" } },
        traces: () => [{ type: "scatter", mode: "lines+markers", name: "E", x: known.map(label),
          y: known.map((row) => row.cells.exposure[0]), error_y: figures.arms(known.map((row) => row.cells.exposure)),
          line: { color: figures.style([], "").color }, customdata: known.map((row) => row.links[0]?.address) },
          ...[...defenses].reverse().map(place)],
        headers: ["defense", "layer", "E", "lies open", "record"],
        rows: () => mine.map((row) => [row.defense, `${row.cells.number[1]} ${row.cells.layer[1]}`,
          figures.shown(row.cells.exposure), row.cells.is_open[1], figures.links(row)]),
      };
    });
  });

  // Extraction against budget, one line a defense; an attack that asks for nothing gets the same at any budget.
  figures.makers.push((context) => {
    const rows = board.ofTable("extraction", context.table);
    return ["fidelity", "accuracy"].map((field) => {
      const best = new Map();
      for (const row of rows) {
        const top = best.get(row.defense);
        if (row.cells[field][0] !== null && !(top && top.cells[field][0] >= row.cells[field][0])) best.set(row.defense, row);
      }
      const theirs = (row) => (context.attack && rows.some((one) => one.cells.attack[1] === context.attack)
        ? context.attack : best.get(row.defense)?.cells.attack[1]);
      const kept = rows.filter((row) => row.cells[field][0] !== null && row.cells.attack[1] === theirs(row));
      if (!kept.length) return null;
      const asked = kept.map((row) => row.cells.budget[0]).filter((budget) => budget > 0);
      const ends = asked.length ? [Math.min(...asked), Math.max(...asked)] : [1, 10];
      const trace = (defense) => {
        const own = kept.filter((row) => row.defense === defense).sort((a, b) => a.cells.budget[0] - b.cells.budget[0]);
        const look = figures.style(context.defenses, defense);
        const still = own.length === 1 && own[0].cells.budget[0] === 0;
        const points = still ? [own[0], own[0]] : own.filter((row) => row.cells.budget[0] > 0);
        return { type: "scatter", mode: "lines+markers", name: plain(defense), x: still ? ends : points.map((row) => row.cells.budget[0]),
          y: points.map((row) => row.cells[field][0]), error_y: figures.arms(points.map((row) => row.cells[field])),
          line: { color: look.color, dash: still ? "dash" : "solid" }, marker: { symbol: look.symbol, size: 8 },
          customdata: points.map((row) => row.links[0]?.address),
          hovertemplate: `%{fullData.name}, ${plain(theirs(own[0]))}<br>budget %{x}: %{y:.3f}<extra></extra>` };
      };
      const defenses = [...new Set(kept.map((row) => row.defense))];
      return {
        id: `extraction-${field}`,
        title: field === "fidelity" ? "Extraction: fidelity." : "Extraction: accuracy.",
        caption: "By query budget, each defense by the attack that gets most, or by the one chosen. Dashed: asks for nothing.",
        alternative: `${defenses.length} defenses.`,
        layout: { below: true, xaxis: { type: "log", title: { text: "queries allowed" },
          tickvals: [...new Set(asked)], ticktext: [...new Set(asked)].map((n) => n.toLocaleString("en")) }, yaxis: { title: { text: field } } },
        traces: () => defenses.map(trace),
        headers: ["defense", "attack", "budget", field, "records"],
        rows: () => kept.map((row) => [row.defense, row.cells.attack[1], figures.shown(row.cells.budget),
          figures.shown(row.cells[field]), figures.links(row)]),
      };
    });
  });

  // Figures by night: a line a cell.
  figures.makers.push(async (context) => {
    if (!leakboard.data.index.nights) return null;
    await leakboard.load("data/history.js");
    const table = leakboard.data.index.tables[context.table];
    const key = JSON.stringify([table.victim, table.dataset, table.profile, table.board, table.mode]);
    const all = leakboard.data.history.series.filter((one) => JSON.stringify(one.key) === key);
    const goal = { fidelity: "fidelity", most_exposure: "most_exposure" }[context.leakage] || "auc";
    const bests = new Map(board.ofTable("leak", context.table).map((row) => [row.defense, row.cells.best_attack[1]]));
    const wanted = (one) => (context.attack && goal !== "most_exposure" ? one.measure === context.attack
      : goal !== "auc" || !bests.has(one.defense) || bests.get(one.defense) === one.measure);
    const sets = [
      { field: goal, title: "Leakage by night.", series: all.filter((one) => one.field === goal && wanted(one)) },
      { field: "latency_ratio", title: "Latency ratio by night.", series: all.filter((one) => one.field === "latency_ratio") },
    ];
    return sets.filter((set) => set.series.length).map((set) => ({
      id: `history-${set.field}`,
      title: set.title,
      caption: `A line a cell: ${set.series[0].figure}. A gap is a night without the figure.`,
      alternative: `${set.series.length} cells over up to ${Math.max(...set.series.map((one) => one.points.length))} nights.`,
      layout: { below: true, xaxis: { type: "date", tickformat: "%Y-%m-%d", nticks: 6 }, yaxis: { title: { text: set.series[0].figure } } },
      traces: () => set.series.map((one) => {
        const look = figures.style(context.defenses, one.defense);
        const seed = one.seed ? `, seed ${one.seed}` : "";
        const cells = one.points.map(([, value, low, high]) => [value, "", "", low, high]);
        return { type: "scatter", mode: "lines+markers", name: plain(`${one.defense}, ${one.measure}${seed}`),
          x: one.points.map((point) => point[0]), y: one.points.map((point) => point[1]), error_y: figures.arms(cells),
          line: { color: look.color, dash: look.dash }, marker: { symbol: look.symbol, size: 8 },
          customdata: one.points.map((point) => point[4]),
          hovertemplate: "%{fullData.name}<br>%{x|%Y-%m-%d}: %{y:.3f}<extra></extra>" };
      }),
      headers: ["cell", "night", set.series[0].figure, "record"],
      rows: () => set.series.flatMap((one) => one.points.map(([night, value, low, high, address]) => [one.cell, night,
        value === null ? "-" : { number: value.toFixed(3), interval: `${low.toFixed(3)}–${high.toFixed(3)}` },
        [recordLink(address, "record", one.cell)]])),
    }));
  });
})();
