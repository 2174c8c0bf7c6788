"use strict";
// A heading sorts its table: first upwards, then the other way round. Cells without a value stay last, and runs that
// are not formal stay below their own heading.
for (const table of document.querySelectorAll("table.results")) {
  const heads = [...table.tHead.rows[0].cells];
  heads.forEach((head, column) => {
    const order = (row) => row.cells[column].dataset.order;
    head.querySelector("button").addEventListener("click", () => {
      const direction = head.getAttribute("aria-sort") === "ascending" ? -1 : 1;
      heads.forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", direction === 1 ? "ascending" : "descending");
      const compare = (first, second) => {
        const [a, b] = [order(first), order(second)];
        if (a === "" || b === "") return (a === "") - (b === "");
        const difference = isNaN(a) || isNaN(b) ? a.localeCompare(b, undefined, { numeric: true }) : a - b;
        return direction * difference;
      };
      for (const body of table.tBodies) {
        body.append(...[...body.rows].filter((row) => row.className !== "heading").sort(compare));
      }
    });
  });
}
