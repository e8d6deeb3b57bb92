"""Writing an override of one row into the candidate table, where it can be seen, without touching anything else in it."""

from __future__ import annotations

import csv
import io

COLUMN = "overrides"


def set_override(table: str, name: str, key: str, value: str) -> str:
    """The text of the table with `key=value` in the overrides of the row `name`.

    An override of that key, also in its dotted form, is replaced; comments, other rows and other cells stay as they
    are. A table without the column gets it.

    Raises:
        KeyError: no row has that name.
    """
    lines = table.splitlines(keepends=True)
    rows = [
        number for number, line in enumerate(lines) if line.strip() and line.lstrip("\ufeff \t")[0] != "#"
    ]
    header = _cells(lines[rows[0]])
    if COLUMN not in (names := [cell.strip().lstrip("\ufeff") for cell in header]):
        header.append(COLUMN)
        names.append(COLUMN)
        lines[rows[0]] = _line(header, lines[rows[0]])
    at, of_name = names.index(COLUMN), names.index("name")
    for number in rows[1:]:
        cells = _cells(lines[number])
        if len(cells) > of_name and cells[of_name].strip() == name:
            cells += [""] * (at + 1 - len(cells))
            cells[at] = _with(cells[at], key, value)
            lines[number] = _line(cells, lines[number])
            return "".join(lines)
    raise KeyError(name)


def _with(cell: str, key: str, value: str) -> str:
    leaf = key.rpartition(".")[2]
    pairs = [pair.strip() for pair in cell.split(";") if pair.strip()]
    others = [pair for pair in pairs if pair.partition("=")[0].strip() not in (key, leaf)]
    return "; ".join([*others, f"{leaf}={value}"])


def _cells(line: str) -> list[str]:
    return next(csv.reader([line.rstrip("\r\n")], delimiter="\t"))


def _line(cells: list[str], former: str) -> str:
    """Cells as a line, ended like the former one."""
    text = io.StringIO()
    csv.writer(text, delimiter="\t", lineterminator="").writerow(cells)
    return text.getvalue() + former[len(former.rstrip("\r\n")) :]
