// Starts the first page: the leaderboard, then the figures, notes and published figures of one of its tables.
"use strict";
(() => {
  const { el, board, figures } = leakboard;
  const data = leakboard.data.index;
  const state = board.state;
  const choice = document.getElementById("choice").elements;
  let before = "";

  const name = (table) => `${table.victim} on ${table.dataset}`;

  function fillChoice() {
    const tables = data.tables.map((_, i) => i).filter((i) => board.leaves(data.tables[i]));
    const rows = (i) => ["attacks", "extraction", "cost"].reduce((sum, view) => sum + board.ofTable(view, i).length, 0);
    const most = tables.reduce((best, i) => (best === undefined || rows(i) > rows(best) ? i : best), undefined);
    const asked = tables.find((i) => name(data.tables[i]) === state.table);
    const table = asked ?? most;
    choice.table.replaceChildren(...tables.map((i) => el("option", { value: name(data.tables[i]) }, name(data.tables[i]))));
    if (table === undefined) return undefined;
    choice.table.value = name(data.tables[table]);
    const leakages = Object.entries(leakboard.leakages).filter(([field, { view }]) =>
      board.ofTable(view, table).some((row) => row.cells[field][0] !== null));
    choice.leakage.replaceChildren(...leakages.map(([field, { axis }]) => el("option", { value: field }, axis)));
    const leakage = leakages.some(([field]) => field === state.leakage) ? state.leakage : leakages[0]?.[0] || "auc";
    choice.leakage.value = leakage;
    const attacks = [...new Set(["attacks", "extraction"].flatMap((view) =>
      board.ofTable(view, table).map((row) => row.cells.attack[1])))].sort();
    const attack = attacks.includes(state.attack) ? state.attack : "";
    choice.attack.replaceChildren(el("option", { value: "" }, "each defense's best"),
      ...attacks.map((one) => el("option", { value: one }, one)));
    choice.attack.value = attack;
    const rowsOf = (view) => board.ofTable(view, table).map((row) => row.defense);
    const defenses = [...new Set([...rowsOf("cost"), ...rowsOf("leak")])].sort();
    return { table, leakage, attack, defenses };
  }

  function showTheirs(table) {
    document.getElementById("caveat").textContent = data.published.caveat;
    const place = document.getElementById("theirs");
    const beside = data.published.beside[table] || [];
    const ours = data.published.compared.filter((row) => row.table === table);
    place.replaceChildren();
    if (ours.length) {
      const links = (row) => row.records.map((i) => leakboard.recordLink(data.records[i][3], `seed ${data.records[i][4][3][1]}`, row.defense));
      place.append(el("h3", {}, "Theirs beside ours"), leakboard.grid(
        ["paper's table", "their column", "theirs", "ours", "our defense", "our attack", "records"],
        ours.map((row) => [row.paper, row.what, { number: row.theirs }, { number: row.shown, interval: row.interval },
          row.defense, row.attack, links(row)]), "Theirs beside ours"));
    }
    for (const one of beside) {
      place.append(el("div", { class: "paper" }, el("h3", {}, one.title), leakboard.grid(one.columns,
        one.rows.map((row) => row.map((text) => text || "-")), one.title),
        el("p", {}, [one.source && `Source: ${one.source}.`, ...one.notes].filter(Boolean).join(" "))));
    }
    if (!beside.length && !ours.length) {
      place.append(el("p", {}, `Nothing that comes with the suite was published on ${name(data.tables[table])}.`));
    }
  }

  function refresh() {
    const context = fillChoice();
    const now = JSON.stringify(context ?? null);
    if (now === before) return;
    before = now;
    document.getElementById("figures").hidden = !context;
    if (!context) return;
    const notes = data.tables[context.table].notes;
    document.getElementById("notes").replaceChildren(...notes.map((note) => el("li", {}, note)));
    showTheirs(context.table);
    figures.show(context);
  }

  board.start(refresh);
  performance.mark("leakboard-rows");
  document.getElementById("choice").addEventListener("input", (event) => board.set({ [event.target.name]: event.target.value }));
  document.getElementById("choice").addEventListener("submit", (event) => event.preventDefault());
  requestAnimationFrame(() => setTimeout(refresh, 0)); // the table is painted first
})();
