// What every script of the first page uses. Data come as scripts, since a page on disk may not read other files.
"use strict";
window.leakboard = { data: {} };

leakboard.receive = (name, value) => {
  leakboard.data[name] = value;
};

// Run a script once; resolves when it has run.
leakboard.load = (() => {
  const known = new Map();
  return (file) => {
    if (!known.has(file)) {
      known.set(
        file,
        new Promise((resolve, reject) => {
          const script = document.createElement("script");
          script.src = file;
          script.onload = resolve;
          script.onerror = () => reject(new Error(`${file} is missing beside this page`));
          document.head.append(script);
        }),
      );
    }
    return known.get(file);
  };
})();

// An element. Children are elements or text; text is never read as markup.
leakboard.el = (tag, attributes = {}, ...children) => {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (value !== undefined && value !== null && value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children.filter((child) => child !== null && child !== undefined));
  return made;
};

// Text for plotly, which reads some markup in labels: nothing of a record may be such.
leakboard.plain = (text) => String(text).replace(/&/g, "&amp;").replace(/</g, "&lt;").replace(/>/g, "&gt;");

leakboard.recordLink = (address, label, name) =>
  leakboard.el("a", { href: `${address}.html`, "aria-label": name ? `${label} of ${name}` : null }, label);

// A table of texts, numbers and links in a box that scrolls by itself. A cell: text, {number}, or a list of links.
leakboard.grid = (headers, rows, label) => {
  const { el } = leakboard;
  const cell = (value) => {
    if (Array.isArray(value)) return el("td", {}, ...value.flatMap((link) => [link, " "]));
    if (value !== null && typeof value === "object") {
      const interval = value.interval ? el("span", { class: "interval" }, ` ${value.interval}`) : null;
      return el("td", { class: "number" }, value.number, interval);
    }
    return el("td", {}, value);
  };
  const table = el(
    "table",
    {},
    el("thead", {}, el("tr", {}, ...headers.map((header) => el("th", { scope: "col" }, header)))),
    el("tbody", {}, ...rows.map((row) => el("tr", {}, ...row.map(cell)))),
  );
  return el("div", { class: "scroll", role: "region", "aria-label": label, tabindex: "0" }, table);
};
