"use strict";
(() => {
  const root = document.documentElement;
  const body = document.querySelector("#rows tbody");
  const rows = [...body.rows];
  const filters = document.getElementById("filters");
  const nameBox = document.getElementById("name-filter");
  const selects = [...filters.querySelectorAll("select")];
  const legend = document.getElementById("legend");
  const numColours = 8;

  // language: both stand in the page, one is shown
  const speak = (language) => {
    root.dataset.language = language;
    root.lang = language === "zh" ? "zh-CN" : "en";
    for (const element of document.querySelectorAll("option[data-en]")) element.textContent = element.dataset[language];
    nameBox.placeholder = nameBox.dataset[language];
    nameBox.setAttribute("aria-label", nameBox.dataset[language]);
  };
  document.getElementById("language").addEventListener("click", () => speak(root.dataset.language === "en" ? "zh" : "en"));

  // filter
  const filter = () => {
    const words = nameBox.value.toLowerCase().split(/\s+/).filter(Boolean);
    for (const row of rows) {
      const name = row.querySelector("th").textContent.toLowerCase();
      const fits = selects.every((select) => !select.value || row.dataset[select.dataset.filter] === select.value || (select.dataset.filter === "model" && !row.dataset.model));
      row.hidden = !fits || !words.every((word) => name.includes(word));
    }
  };
  nameBox.addEventListener("input", filter);
  selects.forEach((select) => select.addEventListener("change", filter));
  filters.addEventListener("submit", (event) => event.preventDefault());
  document.getElementById("show-all").addEventListener("click", () => {
    filters.reset();
    selects.forEach((select) => { select.value = ""; });
    filter();
  });

  // sort: rows without figures stay at the end
  const heads = [...document.querySelectorAll("#rows thead th")];
  const value = (row, index) => (row.cells[index] ? row.cells[index].dataset.v : "");
  const sortBy = (head) => {
    const index = heads.indexOf(head);
    const isText = head.querySelector("button").dataset.sort === "text";
    const ascending = head.getAttribute("aria-sort") ? head.getAttribute("aria-sort") === "descending" : isText;
    heads.forEach((other) => other.removeAttribute("aria-sort"));
    head.setAttribute("aria-sort", ascending ? "ascending" : "descending");
    const sign = ascending ? 1 : -1;
    const compare = (a, b) => {
      if (a.classList.contains("none") !== b.classList.contains("none")) return a.classList.contains("none") ? 1 : -1;
      const [x, y] = [value(a, index), value(b, index)];
      return sign * (isNaN(x) || isNaN(y) ? String(x).localeCompare(String(y)) : x - y);
    };
    body.append(...rows.sort(compare));
  };
  heads.forEach((head) => { const button = head.querySelector("button"); if (button) button.addEventListener("click", () => sortBy(head)); });

  // picked rows stand out in all charts; a method on a model is one line over its numbers of shots
  const colours = new Map();
  const line = (row) => `${row.querySelector("th").dataset.v}`;
  const marksOf = (number) => {
    const own = rows.find((row) => row.dataset.row === number);
    const same = new Set(rows.filter((row) => line(row) === line(own)).map((row) => row.dataset.row));
    return [...document.querySelectorAll(".mark")].filter((mark) => mark.dataset.row === number || (mark.closest("figure").querySelector(".mark polyline") && same.has(mark.dataset.row)));
  };
  const pick = (box) => {
    const number = box.dataset.pick;
    if (box.checked) {
      const used = new Set(colours.values());
      const free = [...Array(numColours).keys()].find((colour) => !used.has(colour));
      colours.set(number, free === undefined ? colours.size % numColours : free);
    }
    const colour = `var(--c${colours.get(number)})`;
    for (const mark of marksOf(number)) {
      mark.classList.toggle("on", box.checked);
      if (box.checked) mark.style.setProperty("--mark", colour); else mark.style.removeProperty("--mark");
      if (box.checked) mark.parentNode.append(mark);
    }
    box.parentNode.style.setProperty("--mark", box.checked ? colour : "");
    const old = legend && legend.querySelector(`[data-row="${number}"]`);
    if (old) old.remove();
    if (box.checked && legend) {
      const item = document.createElement("li");
      item.dataset.row = number;
      item.style.setProperty("--mark", colour);
      const head = box.closest("tr").querySelector("th").cloneNode(true);
      head.querySelectorAll(".note").forEach((note) => note.remove());
      const model = head.querySelector(".model");
      if (model) model.replaceWith(document.createTextNode(` · ${model.textContent}`));
      item.append(...head.childNodes);
      legend.append(item);
    }
    if (!box.checked) colours.delete(number);
    const card = document.querySelector(`.card[data-row="${number}"]`);
    if (card) card.open = box.checked;
  };
  const boxes = [...document.querySelectorAll("[data-pick]")];
  if (legend) legend.replaceChildren();
  const order = boxes.filter((box) => box.checked).sort((a, b) => a.parentNode.style.getPropertyValue("--mark").localeCompare(b.parentNode.style.getPropertyValue("--mark")));
  order.forEach(pick);
  boxes.forEach((box) => box.addEventListener("change", () => pick(box)));

  selects.forEach((select) => { const first = select.querySelector('[data-default="True"]'); if (first) select.value = first.value; });
  speak(root.dataset.language);
  filter();
})();
