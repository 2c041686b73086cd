// The leaderboard: filters, views, sorting, and rows drawn a page at a time.
"use strict";
leakboard.board = (() => {
  const { el } = leakboard;
  const PAGE = 50;
  const ALL = "";
  const state = { board: "", mode: "", profile: "", victim: ALL, dataset: ALL, policy: ALL, shows: ALL, text: "",
    view: "leak", sort: "", dir: "", table: "", leakage: "", attack: "" };
  let data, views, shown, form, changed;

  // Rows of every view in one shape: table, defense, what is shown, answers, cells, links.
  function normalised() {
    const link = (place) => {
      const [, , , address, cells] = data.records[place];
      return { address, label: `seed ${cells[3][1]}`, seed: cells[3][0] };
    };
    const found = data.views.map((view) => ({
      ...view,
      rows: view.rows.map(([table, defense, shows, policy, places, cells]) => ({
        table, defense, shows, policy, cells, links: places.map(link),
      })),
    }));
    found.push({
      name: "records", title: "All records", goal: "", about: "a row a record, as it lies in its file",
      columns: data.record_columns,
      rows: data.records.map(([table, defense, shows, address, cells]) => ({
        table, defense, shows, policy: cells[2][1], cells, links: [{ address, label: "record" }],
      })),
    });
    return new Map(found.map((view) => [view.name, view]));
  }

  // Whether the filters leave a table; a board and a profile are always named, so boards never mix.
  const leaves = (table) => table.board === state.board && table.mode === state.mode && table.profile === state.profile
    && (state.victim === ALL || table.victim === state.victim) && (state.dataset === ALL || table.dataset === state.dataset);

  function matches(row) {
    if (!leaves(data.tables[row.table])) return false;
    if (state.policy !== ALL && row.policy !== state.policy) return false;
    if (state.shows !== ALL && row.shows !== state.shows) return false;
    if (!state.text) return true;
    const words = [row.defense, ...row.cells.filter((cell) => typeof cell[0] === "string").map((cell) => cell[1])];
    return words.some((word) => word.toLowerCase().includes(state.text.toLowerCase()));
  }

  const boardName = ({ board, mode }) => (mode ? `${board} (${mode})` : board);
  const distinct = (values) => [...new Set(values)];

  function fillSelect(select, values, current, labels = values) {
    select.replaceChildren(...values.map((value, i) => el("option", { value, selected: value === current }, labels[i])));
    select.value = current;
  }

  // What can be chosen, given the rest; a choice that has no rows goes back to all.
  function fillFilters() {
    const tables = data.tables;
    const boards = distinct(tables.map((table) => JSON.stringify([table.board, table.mode])));
    fillSelect(form.board, boards, JSON.stringify([state.board, state.mode]),
      boards.map((text) => JSON.parse(text)).map(([board, mode]) => boardName({ board, mode })));
    const onBoard = tables.filter((table) => table.board === state.board && table.mode === state.mode);
    const profiles = distinct(onBoard.map((table) => table.profile));
    if (!profiles.includes(state.profile)) state.profile = profiles[0];
    fillSelect(form.profile, profiles, state.profile);
    const here = onBoard.filter((table) => table.profile === state.profile);
    const rows = views.get("records").rows.filter((row) => here.includes(tables[row.table]));
    const offered = {
      victim: here.map((table) => table.victim), dataset: here.map((table) => table.dataset),
      policy: rows.map((row) => row.policy), shows: rows.map((row) => row.shows),
    };
    for (const [name, values] of Object.entries(offered)) {
      const choices = distinct(values).sort();
      if (!choices.includes(state[name])) state[name] = ALL;
      fillSelect(form[name], [ALL, ...choices], state[name], ["all", ...choices]);
    }
    form.text.value = state.text;
  }

  function fillViews() {
    const buttons = [...views.values()].map((view) => {
      const n = view.rows.filter((row) => matches(row)).length;
      const button = el("button", { type: "button", "aria-pressed": String(view.name === state.view), disabled: n === 0 },
        view.title, el("span", { class: "n" }, ` ${n.toLocaleString("en")}`));
      button.addEventListener("click", () => {
        set({ view: view.name, sort: "", dir: "" });
        document.querySelector('#views [aria-pressed="true"]').focus();
      });
      return button;
    });
    document.getElementById("views").replaceChildren(...buttons);
  }

  // Columns of a view: names first, what the filters fix left out.
  function columns(view) {
    const named = (field, title) => ({ field, title, words: true, of: (row) => {
      const text = field === "defense" ? row.defense : data.tables[row.table][field];
      return [text, text];
    } });
    const first = [named("defense", "defense")];
    if (form.victim.length > 2 && state.victim === ALL) first.push(named("victim", "victim"));
    if (form.dataset.length > 2 && state.dataset === ALL) first.push(named("dataset", "data set"));
    return [...first, ...view.columns.map((column, i) => ({ ...column, of: (row) => row.cells[i] }))];
  }

  function sorted(rows, all) {
    const column = all.find((one) => one.field === state.sort);
    if (!column) return rows;
    const sign = state.dir === "desc" ? -1 : 1;
    const compare = (a, b) => (typeof a === "string" || typeof b === "string" ? String(a).localeCompare(String(b)) : a - b);
    return [...rows].sort((a, b) => {
      const [x, y] = [column.of(a)[0], column.of(b)[0]];
      if (x === null || y === null) return (x === null) - (y === null); // what was not measured comes last either way
      return sign * compare(x, y);
    });
  }

  function header(column) {
    const sort = column.field === state.sort ? state.dir : "";
    const button = el("button", { type: "button" }, column.title, el("span", { class: "arrow", "aria-hidden": "true" },
      sort === "asc" ? " ▲" : sort === "desc" ? " ▼" : " ↕"));
    button.addEventListener("click", () => {
      const order = column.words ? ["asc", "desc", ""] : ["desc", "asc", ""];
      const dir = order[(order.indexOf(sort) + 1) % order.length];
      set({ sort: dir ? column.field : "", dir });
      document.querySelector(`#board th[data-field="${column.field}"] button`).focus();
    });
    const word = { asc: "ascending", desc: "descending" }[sort];
    return el("th", { scope: "col", class: column.words ? null : "number", "aria-sort": word || "none",
      "data-field": column.field }, button);
  }

  function tableRow(row, all) {
    const cells = all.map((column, i) => {
      const [, text, interval] = column.of(row);
      const small = interval ? el("span", { class: "interval" }, interval) : null;
      if (i === 0) return el("th", { scope: "row" }, ...text.split(/(?<=_)/).flatMap((part) => [part, el("wbr")]));
      return el("td", { class: column.words ? null : "number" }, text, small);
    });
    const links = row.links.flatMap(({ address, label }) => [leakboard.recordLink(address, label, row.defense), " "]);
    return el("tr", {}, ...cells, el("td", { class: "links" }, ...links));
  }

  function drawMore(upTo) {
    const body = document.querySelector("#board tbody");
    const rows = shown.rows.slice(shown.drawn, upTo);
    body.append(...rows.map((row) => tableRow(row, shown.columns)));
    shown.drawn += rows.length;
    const left = shown.rows.length - shown.drawn;
    const more = document.getElementById("more");
    more.hidden = left === 0;
    more.textContent = `Show ${Math.min(left, PAGE)} more of ${left.toLocaleString("en")}`;
  }

  function draw() {
    fillFilters();
    if (!views.get(state.view)?.rows.some((row) => matches(row))) {
      state.view = [...views.values()].find((view) => view.rows.some((row) => matches(row)))?.name || "records";
    }
    fillViews();
    const view = views.get(state.view);
    const all = columns(view);
    shown = { rows: sorted(view.rows.filter((row) => matches(row)), all), columns: all, drawn: 0 };
    const table = document.getElementById("board");
    table.tHead.replaceChildren(el("tr", {}, ...all.map(header), el("th", { scope: "col" }, "records")));
    table.tBodies[0].replaceChildren();
    drawMore(PAGE);
    const n = shown.rows.length;
    const where = `Board ${boardName(state)}, profile ${state.profile}`;
    table.caption.textContent = `${view.title}. ${where}`;
    document.getElementById("count").textContent = n
      ? `${n.toLocaleString("en")} rows: ${view.about}. ${where}.` : "Nothing matches these filters.";
  }

  function fromHash() {
    const asked = new URLSearchParams(location.hash.slice(1));
    const best = mostRecords();
    for (const name of Object.keys(state)) state[name] = asked.get(name) ?? "";
    if (!data.tables.some((table) => table.board === state.board && table.mode === state.mode)) {
      const named = data.tables.find((table) => table.board === state.board) || best;
      Object.assign(state, { board: named.board, mode: named.mode, profile: state.profile || named.profile });
    }
    if (!state.profile) state.profile = best.profile;
    if (!views.has(state.view)) state.view = "leak";
    if (state.sort && !state.dir) state.dir = "desc";
  }

  // The table to begin with: on the board and profile that have most records.
  function mostRecords() {
    const counts = new Map();
    const names = data.tables.map((table) => JSON.stringify([table.board, table.mode, table.profile]));
    for (const [table] of data.records) counts.set(names[table], (counts.get(names[table]) || 0) + 1);
    const first = [...counts].sort((a, b) => b[1] - a[1])[0]?.[0];
    return data.tables[Math.max(0, names.indexOf(first))];
  }

  function toHash() {
    const kept = Object.entries(state).filter(([, value]) => value !== "");
    history.replaceState(null, "", `#${new URLSearchParams(kept)}`);
  }

  function set(changes) {
    Object.assign(state, changes);
    draw();
    toHash();
    changed();
  }

  function start(onChange) {
    data = leakboard.data.index;
    views = normalised();
    form = document.getElementById("filters").elements;
    changed = onChange;
    fromHash();
    draw();
    document.getElementById("filters").addEventListener("input", (event) => {
      const { name, value } = event.target;
      if (name === "board") {
        const [board, mode] = JSON.parse(value);
        set({ board, mode });
      } else set({ [name]: value });
    });
    document.getElementById("filters").addEventListener("reset", (event) => {
      event.preventDefault();
      set({ victim: ALL, dataset: ALL, policy: ALL, shows: ALL, text: "", sort: "", dir: "" });
    });
    document.getElementById("filters").addEventListener("submit", (event) => event.preventDefault());
    document.getElementById("more").addEventListener("click", () => drawMore(shown.drawn + PAGE));
    addEventListener("hashchange", () => {
      if (!location.hash.includes("=")) return; // a jump within the page
      fromHash();
      draw();
      changed();
    });
  }

  // Rows of a view that belong to a table, with cells by field.
  function ofTable(name, table) {
    const view = views.get(name);
    return view.rows.filter((row) => row.table === table).map((row) => ({
      defense: row.defense,
      links: row.links,
      cells: Object.fromEntries(view.columns.map((column, i) => [column.field, row.cells[i]])),
    }));
  }

  return { start, set, state, ofTable, leaves };
})();
