// Light or dark: as the system says, until the reader chooses. Runs before the page is painted.
"use strict";
(() => {
  const CHOICES = ["auto", "light", "dark"];
  const root = document.documentElement;
  let choice = "auto";
  try {
    choice = localStorage.getItem("leakboard-theme") || "auto";
  } catch {
    // Storage may be barred for pages from disk; the switch then holds for this page.
  }
  const apply = () => {
    if (choice === "auto") delete root.dataset.theme;
    else root.dataset.theme = choice;
    const button = document.getElementById("theme");
    if (button) button.textContent = `Theme: ${choice}`;
    document.dispatchEvent(new Event("themechange"));
  };
  apply();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", apply);
  document.addEventListener("DOMContentLoaded", () => {
    apply();
    document.getElementById("theme").addEventListener("click", () => {
      choice = CHOICES[(CHOICES.indexOf(choice) + 1) % CHOICES.length];
      try {
        localStorage.setItem("leakboard-theme", choice);
      } catch {
        // As above.
      }
      apply();
    });
  });
})();
