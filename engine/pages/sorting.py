"""The one script of pages: tables that sort by the column whose name is clicked."""

from __future__ import annotations

import base64
import hashlib

# A page without it shows the same table. It reads the page and moves rows, nothing else.
SCRIPT = """
for (const table of document.querySelectorAll("table.sortable")) {
  const heads = [...table.tHead.rows[0].cells], body = table.tBodies[0];
  const value = (row, i) => {
    const cell = row.cells[i], number = cell.dataset.v;
    return number === undefined ? cell.textContent : Number(number);
  };
  const order = (a, b) => {
    if (a === "" || b === "") return a === b ? 0 : a === "" ? Infinity : -Infinity;
    return typeof a === typeof b && typeof a === "number" ? a - b
      : String(a).localeCompare(String(b), undefined, {numeric: true});
  };
  heads.forEach((head, i) => {
    const button = document.createElement("button");
    button.textContent = head.textContent;
    head.replaceChildren(button);
    button.addEventListener("click", () => {
      const way = head.getAttribute("aria-sort") === "descending" ? 1 : -1;
      for (const other of heads) other.removeAttribute("aria-sort");
      head.setAttribute("aria-sort", way === 1 ? "ascending" : "descending");
      const rows = [...body.rows].sort((a, b) => {
        const found = order(value(a, i), value(b, i));
        return Math.abs(found) === Infinity ? Math.sign(found) : way * found;
      });
      body.append(...rows);
    });
  });
}
""".strip()


def allowed(script: str) -> str:
    """Return the source of a content policy that lets this script run and no other."""
    digest = hashlib.sha256(script.encode()).digest()
    return f"'sha256-{base64.b64encode(digest).decode()}'"
