"""Tables: columns of NumPy, as pandas and polars take them."""

from __future__ import annotations

import csv
import html
import io
import os
from collections.abc import Iterable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, NoReturn, Self

import numpy as np

#: Rows that a table shows.
SHOWN = 20

Column = np.ndarray[Any, np.dtype[Any]]


class Table(dict[str, Column]):
    """A table by its columns: whole numbers are int64, other numbers float64 with NaN where nothing is, truth
    values bool, all else text. It never changes; `dict(table)` may.

    `pandas.DataFrame(table)` and `polars.DataFrame(table)` take it as it is.
    """

    _csv: bytes | None

    def __init__(self, columns: Mapping[str, Iterable[Any]] | None = None, /) -> None:
        super().__init__({name: np.asarray(column) for name, column in (columns or {}).items()})
        self._csv = None

    @classmethod
    def from_csv(cls, source: bytes | str | os.PathLike[str]) -> Self:
        """Reads CSV with a header: its bytes, or a file."""
        content = source if isinstance(source, bytes) else Path(source).read_bytes()
        lines = csv.reader(io.StringIO(content.decode(), newline=""))
        names = next(lines, [])
        cells = list(zip(*lines, strict=True)) or [()] * len(names)
        table = cls({name: _parse(column) for name, column in zip(names, cells, strict=True)})
        table._csv = content
        return table

    @classmethod
    def stacked(cls, names: tuple[str, ...], tables: Mapping[tuple[Any, ...], Table]) -> Self:
        """Tables one below the other, with columns of these names before them that hold the keys. A column
        that a table lacks is NaN there.
        """
        heights = [table.height for table in tables.values()]
        keys = (
            [np.repeat(column, heights) for column in zip(*tables, strict=True)]
            if tables
            else [()] * len(names)
        )
        columns = dict.fromkeys(name for table in tables.values() for name in table)

        def of(name: str) -> Column:
            parts = [table.get(name, np.full(table.height, np.nan)) for table in tables.values()]
            # Columns without a number are read as numbers where others hold words.
            text = any(part.dtype.kind == "U" for part in parts)
            return np.concatenate(
                [np.where(np.isnan(p), "", "") if text and p.dtype.kind == "f" else p for p in parts]
            )

        return cls({**dict(zip(names, keys, strict=True)), **{name: of(name) for name in columns}})

    def to_csv(self, path: str | os.PathLike[str] | None = None) -> bytes:
        """The table as CSV, which is also written to `path`: the same bytes as of the command line."""
        content = self._csv
        if content is None:
            text = io.StringIO(newline="")
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(self)
            writer.writerows(zip(*map(_texts, self.values()), strict=True))
            content = text.getvalue().encode()
        if path is not None:
            Path(path).write_bytes(content)
        return content

    def rows(self) -> list[dict[str, Any]]:
        """Its rows, with values of Python."""
        columns = [column.tolist() for column in self.values()]
        return [dict(zip(self, row, strict=True)) for row in zip(*columns, strict=True)]

    def to_arrow(self) -> Any:
        """The table for Arrow, by pyarrow."""
        return import_module("pyarrow").table(dict(self))

    @property
    def height(self) -> int:
        """Number of rows."""
        return next((len(column) for column in self.values()), 0)

    def _refuse(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a Table never changes; dict(table) may")

    __setitem__ = __delitem__ = _refuse
    clear = pop = popitem = setdefault = update = _refuse
    __ior__ = _refuse

    def __reduce__(self) -> tuple[Any, ...]:
        if self._csv is not None:
            return Table.from_csv, (self._csv,)
        return Table, (dict(self),)

    def _head(self) -> tuple[list[list[str]], int]:
        """The rows that are shown, and how many are not."""
        columns = [[_short(value) for value in column[:SHOWN].tolist()] for column in self.values()]
        return [list(row) for row in zip(*columns, strict=True)], max(self.height - SHOWN, 0)

    def __repr__(self) -> str:
        rows, rest = self._head()
        lines = [list(self), *rows]
        widths = [max(map(len, cells)) for cells in zip(*lines, strict=True)]
        text = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True)) for line in lines
        ]
        return "\n".join([*text, *([f"… and {rest} rows more"] if rest else [])])

    def _repr_html_(self) -> str:
        rows, rest = self._head()

        def line(cells: list[str], tag: str) -> str:
            return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"

        body = "".join(line(row, "td") for row in rows)
        more = f"<p>… and {rest} rows more</p>" if rest else ""
        return f"<table><thead>{line(list(self), 'th')}</thead><tbody>{body}</tbody></table>{more}"


def _parse(cells: tuple[str, ...]) -> Column:
    if cells and all(cell in ("true", "false") for cell in cells):
        return np.array([cell == "true" for cell in cells])
    try:
        whole = [int(cell) for cell in cells]
        kind = np.int64 if max(whole, default=0) < 2**63 else np.uint64
        return np.array(whole, dtype=kind) if cells else np.array([], dtype=np.float64)
    except (ValueError, OverflowError):
        pass
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells], dtype=np.float64)
    except ValueError:
        return np.array(cells, dtype=np.str_)


def _texts(column: Column) -> list[str]:
    """Values as the command line writes them."""
    if column.dtype.kind == "b":
        return ["true" if value else "false" for value in column.tolist()]
    if column.dtype.kind == "f":
        return ["" if value != value else repr(value) for value in column.tolist()]
    return [str(value) for value in column.tolist()]


def _short(value: Any) -> str:
    if isinstance(value, float):
        return "" if value != value else f"{value:.6g}"
    return str(value)
