"""A ledger of claims that can be read by verdict: buttons above its tables.

Without a script, as in print, the buttons stay hidden and all rows are there.
"""

import re
from collections import Counter

_TABLE = re.compile(r'<table class="ledger\b.*?</table>', re.DOTALL)
_HEAD = re.compile(r"<th\b[^>]*><p>Verdict</p></th>\s*</tr>\s*</thead>")
_ROW = re.compile(
    r"<tr\b(?P<how>[^>]*)>(?P<cells>(?:(?!</tr>).)*<td><p><strong>"
    r"(?P<verdict>[\w ]+)</strong>(?:(?!</td>).)*</td>\s*)</tr>",
    re.DOTALL,
)

_SCRIPT = """
(() => {
  const box = document.querySelector(".verdicts");
  const rows = [...document.querySelectorAll("tr[data-verdict]")];
  const tables = new Set(rows.map((row) => row.closest("table")));
  box.hidden = false;
  box.addEventListener("click", (event) => {
    const chosen = event.target.closest("button");
    if (!chosen) return;
    for (const one of box.children)
      one.setAttribute("aria-pressed", String(one === chosen));
    const wanted = chosen.dataset.show;
    for (const row of rows)
      row.hidden = wanted !== "" && row.dataset.verdict !== wanted;
    for (const table of tables)
      table.hidden = !table.querySelector("tr[data-verdict]:not([hidden])");
  });
})();
"""


def with_verdicts(page: str) -> str:
    """A page whose ledgers of claims can be narrowed to one verdict.

    Args:
        page: HTML. Ledgers are tables of the class ``ledger`` whose last column is
            headed "Verdict"; their rows' last cells begin with the verdict in bold. A
            page without any stays as it is.

    Returns:
        The page with a button for each verdict, in the order of their first rows and
        with their numbers, above the section of the first ledger.

    Example:
        >>> with_verdicts("<p>no ledger</p>")
        '<p>no ledger</p>'
    """
    tables = [t for t in _TABLE.finditer(page) if _HEAD.search(t[0])]
    if not tables:
        return page
    counts: Counter[str] = Counter()

    def marked(row: re.Match[str]) -> str:
        counts[row["verdict"]] += 1
        return f'<tr{row["how"]} data-verdict="{row["verdict"]}">{row["cells"]}</tr>'

    parts, end = [], 0
    for table in tables:
        parts += [page[end : table.start()], _ROW.sub(marked, table[0])]
        end = table.end()
    # The section's heading stays with its table, so the buttons stand above both.
    above = page.rfind("<section", 0, tables[0].start())
    above = tables[0].start() if above < 0 else above
    first = parts[0]
    parts[0] = first[:above] + _buttons(counts) + first[above:]
    # After the tables: a script runs where it stands.
    return "".join([*parts, f"<script>{_SCRIPT}</script>", page[end:]])


def _buttons(counts: Counter[str]) -> str:
    shown = {"": f"all {counts.total()}"}
    shown |= {verdict: f"{verdict} {n}" for verdict, n in counts.items()}
    buttons = "".join(
        f'<button type="button" data-show="{verdict}" '
        f'aria-pressed="{str(not verdict).lower()}">{text}</button>'
        for verdict, text in shown.items()
    )
    return (
        '<div class="verdicts" role="group" aria-label="Claims by verdict" hidden>'
        f"{buttons}</div>\n"
    )
