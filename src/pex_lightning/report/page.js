"use strict";
(() => {
  const points = JSON.parse(document.getElementById("points").textContent);
  const tip = document.getElementById("tip");
  const NEAR = 28;

  // Sorting: a click on a heading sorts by it, another click turns the order around.
  for (const table of document.querySelectorAll("table")) {
    const heads = [...table.tHead.rows[0].cells];
    heads.forEach((head, column) => {
      head.firstElementChild.addEventListener("click", () => {
        const down = head.getAttribute("aria-sort") === "ascending";
        for (const other of heads) other.setAttribute("aria-sort", "none");
        head.setAttribute("aria-sort", down ? "descending" : "ascending");
        const key = (row) => row.cells[column].dataset.key;
        const value = (text) => (text === "inf" ? Infinity : text === "-inf" ? -Infinity : Number(text));
        const rows = [...table.tBodies[0].rows];
        const numbers = rows.every((row) => key(row) !== "" && !Number.isNaN(value(key(row))));
        rows.sort((a, b) => {
          const [x, y] = [key(a), key(b)];
          if (!numbers) return x.localeCompare(y, "en", { numeric: true }) * (down ? -1 : 1);
          const [p, q] = [value(x), value(y)];
          return (p < q ? -1 : p > q ? 1 : 0) * (down ? -1 : 1);
        });
        table.tBodies[0].append(...rows);
      });
    });
  }

  for (const figure of document.querySelectorAll("figure.drawing")) {
    const svg = figure.querySelector(".picture svg");
    const known = points[figure.id];
    const hidden = new Set();

    // Hiding curves.
    for (const button of figure.querySelectorAll(".legend button")) {
      button.addEventListener("click", () => {
        const number = Number(button.dataset.series);
        const show = hidden.delete(number);
        if (!show) hidden.add(number);
        button.setAttribute("aria-pressed", String(show));
        for (const part of svg.querySelectorAll(`[data-series="${number}"]`)) {
          part.classList.toggle("hidden-series", !show);
        }
        tip.hidden = true;
      });
      // Pointing at a name lets its curve stand out.
      const parts = svg.querySelectorAll(`[data-series="${button.dataset.series}"]`);
      const stand = (out) => {
        svg.parentElement.classList.toggle("focus", out);
        for (const part of parts) part.classList.toggle("focus", out);
      };
      button.addEventListener("pointerenter", () => stand(!hidden.has(Number(button.dataset.series))));
      button.addEventListener("pointerleave", () => stand(false));
      button.addEventListener("click", () => stand(false));
    }

    // Telling the value of the nearest point.
    if (!known.length) continue;
    const dot = document.createElementNS("http://www.w3.org/2000/svg", "circle");
    dot.setAttribute("r", "4");
    dot.setAttribute("fill", "none");
    dot.setAttribute("stroke", "#1c1e24");
    dot.setAttribute("stroke-width", "1.5");
    const leave = () => {
      tip.hidden = true;
      dot.remove();
    };
    const tell = (event) => {
      const matrix = svg.getScreenCTM();
      const at = new DOMPoint(event.clientX, event.clientY).matrixTransform(matrix.inverse());
      let best = null;
      let least = NEAR * NEAR;
      for (const point of known) {
        if (hidden.has(point[0])) continue;
        const distance = (point[1] - at.x) ** 2 + (point[2] - at.y) ** 2;
        if (distance < least) [best, least] = [point, distance];
      }
      if (best === null) {
        leave();
        return;
      }
      dot.setAttribute("cx", best[1]);
      dot.setAttribute("cy", best[2]);
      svg.append(dot);
      tip.textContent = best[3];
      tip.hidden = false;
      const where = new DOMPoint(best[1], best[2]).matrixTransform(matrix);
      const right = document.documentElement.clientWidth - tip.offsetWidth - 8;
      const above = where.y - tip.offsetHeight - 12;
      tip.style.left = `${window.scrollX + Math.max(8, Math.min(where.x + 12, right))}px`;
      tip.style.top = `${window.scrollY + (above < 4 ? where.y + 14 : above)}px`;
    };
    svg.addEventListener("pointermove", tell);
    svg.addEventListener("pointerdown", tell);
    svg.addEventListener("pointerleave", leave);
  }

  // On paper nothing can be unfolded.
  window.addEventListener("beforeprint", () => {
    for (const details of document.querySelectorAll("details")) details.open = true;
  });
})();
