"use strict";

// The theme is set before the browser draws the page, everything else afterwards.
const root = document.documentElement;
root.classList.add("js");

function stored() {
  try { return localStorage.getItem("theme"); } catch { return null; }
}

function isDark() {
  const chosen = root.dataset.theme;
  return chosen ? chosen === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
}

if (stored() === "dark" || stored() === "light") root.dataset.theme = stored();

function themeButton() {
  const button = document.getElementById("theme");
  const show = () => button.setAttribute("aria-pressed", String(isDark()));
  button.hidden = false;
  show();
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", show);
  button.addEventListener("click", () => {
    root.dataset.theme = isDark() ? "light" : "dark";
    try { localStorage.setItem("theme", root.dataset.theme); } catch { /* then the choice holds for this page only */ }
    show();
  });
}

function key(cell) {
  if (!("sort" in cell.dataset)) return cell.textContent.trim();
  return cell.dataset.sort === "" ? null : Number(cell.dataset.sort);
}

function compare(a, b) {
  return typeof a === "number" && typeof b === "number" ? a - b : String(a).localeCompare(String(b), "en", { numeric: true });
}

function sortBy(table, column, direction) {
  const body = table.tBodies[0];
  const rows = [...body.rows].map((row, place) => ({ row, place, value: key(row.cells[column]) }));
  const sign = direction === "ascending" ? 1 : -1;
  rows.sort((a, b) => {
    if (a.value === null || b.value === null) return (a.value === null) - (b.value === null) || a.place - b.place;
    return sign * compare(a.value, b.value) || a.place - b.place;
  });
  body.append(...rows.map(({ row }) => row));
  for (const head of table.tHead.rows[0].cells) {
    if (head.hasAttribute("aria-sort")) head.setAttribute("aria-sort", head.cellIndex === column ? direction : "none");
  }
}

function sortable(table) {
  table.tHead.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    const head = button.closest("th");
    const other = { ascending: "descending", descending: "ascending" };
    sortBy(table, head.cellIndex, other[head.getAttribute("aria-sort")] || button.dataset.first);
  });
}

function filters(box) {
  const rows = [...document.querySelectorAll("table.standings tr[data-name]")];
  const sections = [...document.querySelectorAll("section[data-ruleset]")];
  const search = box.querySelector("input[type=search]");
  const apply = () => {
    const ruleset = box.querySelector("input[type=radio]:checked").value;
    const wanted = search.value.trim().toLowerCase();
    for (const section of sections) section.hidden = ruleset !== "" && section.dataset.ruleset !== ruleset;
    let shown = 0;
    for (const row of rows) {
      const other = ruleset !== "" && "ruleset" in row.dataset && row.dataset.ruleset !== ruleset;
      row.hidden = other || !row.dataset.name.toLowerCase().includes(wanted);
      if (!row.hidden && !row.closest("section[hidden]")) shown += 1;
    }
    box.querySelector("output").textContent = shown === rows.length ? "" : `${shown} of ${rows.length} rows`;
  };
  box.hidden = false;
  box.addEventListener("input", apply);
  apply(); // a browser may restore earlier choices
}

document.addEventListener("DOMContentLoaded", () => {
  themeButton();
  document.querySelectorAll("table.sortable").forEach(sortable);
  document.querySelectorAll(".filters").forEach(filters);
});
