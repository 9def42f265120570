"use strict";
(() => {
  const make = (name, properties = {}, ...children) => {
    const element = Object.assign(document.createElement(name), properties);
    element.append(...children);
    return element;
  };

  // If there are several recipes, show the figures of one at a time.
  for (const chooser of document.querySelectorAll(".choose")) {
    const parts = [...chooser.parentElement.querySelectorAll("[data-recipe]")];
    const recipes = [...new Set(parts.map((part) => part.dataset.recipe))];
    const choose = (recipe) => {
      for (const part of parts) part.hidden = part.dataset.recipe !== recipe;
      for (const button of chooser.children) button.setAttribute("aria-pressed", button.textContent === recipe);
    };
    for (const recipe of recipes) {
      const button = make("button", { type: "button", textContent: recipe });
      button.addEventListener("click", () => choose(recipe));
      chooser.append(button);
    }
    chooser.hidden = recipes.length < 2;
    if (recipes.length) choose(recipes[0]);
  }

  // Add a copy button to each code snippet.
  for (const pre of document.querySelectorAll("details.code pre")) {
    const button = make("button", { type: "button", className: "copy", textContent: "copy" });
    button.addEventListener("click", async () => {
      try {
        await navigator.clipboard.writeText(pre.textContent);
        button.textContent = "copied";
      } catch {
        getSelection().selectAllChildren(pre);
        button.textContent = "selected";
      }
      setTimeout(() => (button.textContent = "copy"), 2000);
    });
    pre.before(button);
  }

  // The table of cases: the page holds all rows, and shows them 100 at a time.
  const PAGE = 100;
  const { columns, words, cells } = JSON.parse(document.getElementById("rows").textContent);
  const at = Object.fromEntries(columns.map(([name], k) => [name, k]));
  const total = cells.length ? cells[0].length : 0;
  const lower = words.map((word) => word.toLowerCase());
  const table = document.querySelector("table.cases");
  const form = document.querySelector("form.narrow");
  const pages = document.querySelector("p.pages");
  let shown = [];
  let first = 0;
  let sorted = { column: null, falling: false };

  const three = (value) => {
    const rounded = Number(value.toPrecision(3));
    return rounded >= 0.01 || rounded === 0
      ? rounded.toFixed(rounded >= 100 || rounded === 0 ? 0 : rounded >= 10 ? 1 : rounded >= 1 ? 2 : 3)
      : String(rounded);
  };
  const scaled = (value, units) => {
    for (const [factor, unit] of units) if (value * factor >= 0.9995) return `${three(value * factor)} ${unit}`;
    const [factor, unit] = units[units.length - 1];
    return `${three(value * factor)} ${unit}`;
  };
  const show = {
    word: (value) => words[value],
    batch: (value) => value,
    seconds: (value) => scaled(value, [[1, "s"], [1e3, "ms"], [1e6, "µs"], [1e9, "ns"]]),
    count: (value) => value.toLocaleString("en"),
    rate: (value) => (value < 999.5 ? three(value) : Number(value.toPrecision(3)).toLocaleString("en")),
    size: (value) => {
      if (value < 1024) return `${value} B`;
      let unit = -1;
      do { value /= 1024; unit += 1; } while (value >= 999.5 && unit < 2);
      return `${three(value)} ${["KiB", "MiB", "GiB"][unit]}`;
    },
    percent: (value) => (value >= 0.01 ? `${(100 * value).toFixed(0)} %` : `${(100 * value).toFixed(1)} %`),
    error: (value) => Number(value.toPrecision(2)).toString(),
  };

  const draw = () => {
    const body = make("tbody");
    for (const row of shown.slice(first, first + PAGE)) {
      const line = make("tr");
      const status = words[cells[at.status][row]];
      if (!["ok", "unchecked"].includes(status)) line.className = status === "skipped" ? "skipped" : "bad";
      columns.forEach(([name, kind], k) => {
        const value = cells[k][row];
        const cell = make(name === "variant" ? "th" : "td");
        if (name === "variant") cell.scope = "row";
        if (kind === "link" && value !== null) cell.append(make("a", { href: words[value], textContent: "trace" }));
        else cell.textContent = value === null ? (name === "batch" ? "one" : "–") : show[kind](value);
        if (kind === "word") cell.className = cell.textContent.length > 26 ? "word long" : "word";
        line.append(cell);
      });
      body.append(line);
    }
    table.tBodies[0]?.remove();
    table.append(body);
    const last = Math.min(first + PAGE, shown.length);
    pages.hidden = shown.length <= PAGE;
    pages.querySelector("span").textContent = `${(first + 1).toLocaleString("en")} to ${last.toLocaleString("en")} of ${shown.length.toLocaleString("en")}`;
    pages.querySelector("[name=back]").disabled = first === 0;
    pages.querySelector("[name=on]").disabled = last === shown.length;
    form.querySelector("output").textContent = `${shown.length.toLocaleString("en")} of ${total.toLocaleString("en")} cases`;
  };

  const order = () => {
    const { column, falling } = sorted;
    if (column === null) {
      // Keep the order of measurement, but move skipped cases to the end.
      const skipped = words.indexOf("skipped");
      const status = cells[at.status];
      shown.sort((a, b) => (status[a] === skipped) - (status[b] === skipped) || a - b);
      return;
    }
    const values = cells[column];
    const isWord = columns[column][1] === "word";
    const sign = falling ? -1 : 1;
    shown.sort((a, b) => {
      const [left, right] = [values[a], values[b]];
      // Missing values come last in both directions.
      if (left === null || right === null) return (left === null) - (right === null) || a - b;
      if (isWord) return sign * (lower[left] < lower[right] ? -1 : lower[left] > lower[right] ? 1 : 0) || a - b;
      return sign * (left - right) || a - b;
    });
  };

  const narrow = () => {
    const wanted = form.words.value.toLowerCase().split(/\s+/).filter(Boolean);
    const texts = columns.map(([, kind], k) => (kind === "word" ? k : -1)).filter((k) => k >= 0);
    // Search each distinct text once, rather than each row.
    const holds = wanted.map((word) => lower.map((text) => text.includes(word)));
    const chosen = [...form.querySelectorAll("select")]
      .filter((select) => select.value)
      .map((select) => [cells[at[select.name]], words.indexOf(select.value)]);
    shown = [];
    for (let row = 0; row < total; row += 1) {
      if (!chosen.every(([column, value]) => column[row] === value)) continue;
      if (holds.every((held) => texts.some((k) => cells[k][row] !== null && held[cells[k][row]]))) shown.push(row);
    }
    order();
    first = 0;
    draw();
  };

  const head = make("tr");
  columns.forEach(([, kind, title], k) => {
    const button = make("button", { type: "button", textContent: title });
    const cell = make("th", { scope: "col", className: kind === "word" ? "word" : "" }, button);
    button.addEventListener("click", () => {
      sorted = { column: k, falling: sorted.column === k && !sorted.falling };
      for (const other of head.children) other.removeAttribute("aria-sort");
      cell.setAttribute("aria-sort", sorted.falling ? "descending" : "ascending");
      order();
      first = 0;
      draw();
    });
    head.append(cell);
  });
  table.append(make("thead", {}, head));
  form.hidden = false;
  form.addEventListener("input", narrow);
  form.addEventListener("submit", (event) => event.preventDefault());
  pages.addEventListener("click", (event) => {
    if (event.target.name === "back") first = Math.max(0, first - PAGE);
    if (event.target.name === "on") first += PAGE;
    if (event.target.name) draw();
  });
  narrow();
})();
