"""Tables in NumPy, pandas and polars."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path

import numpy as np
import pytest

from seccogc import Table

CSV = b'n,x,name,flag,big,empty\n1,0.5,a,true,18446744073709551615,\n2,,"b, c",false,3,\n3,inf,,true,1e-7,\n'


def test_columns_have_their_types(tmp_path: Path) -> None:
    table = Table.from_csv(CSV)
    assert list(table) == ["n", "x", "name", "flag", "big", "empty"]
    assert table["n"].dtype == np.int64 and table["n"].tolist() == [1, 2, 3]
    assert table["x"].dtype == np.float64 and np.isnan(table["x"][1]) and np.isinf(table["x"][2])
    assert table["name"].tolist() == ["a", "b, c", ""]
    assert table["flag"].tolist() == [True, False, True]
    assert table["big"].dtype == np.float64
    assert np.isnan(table["empty"]).all()
    assert Table.from_csv(b"seed\n18446744073709551615\n")["seed"].dtype == np.uint64
    assert table.height == 3 and table.rows()[1]["name"] == "b, c"
    assert table.to_csv(tmp_path / "table.csv") == CSV == (tmp_path / "table.csv").read_bytes()
    none = Table.from_csv(b"n,x\n")
    assert none.height == 0 and list(none) == ["n", "x"]
    assert Table.from_csv(b"").height == 0


def test_a_made_table_becomes_csv() -> None:
    table = Table({"n": [1, 2], "x": [0.5, np.nan], "s": ["a", "b, c"], "f": [True, False]})
    assert table.to_csv() == b'n,x,s,f\n1,0.5,a,true\n2,,"b, c",false\n'
    again = Table.from_csv(table.to_csv())
    assert again["s"].tolist() == ["a", "b, c"] and again["f"].tolist() == [True, False]


def test_it_never_changes() -> None:
    table = Table.from_csv(CSV)
    for change in [
        lambda: table.update(a=1),
        lambda: table.__setitem__("n", np.array([])),
        lambda: table.pop("n"),
        lambda: table.clear(),
    ]:
        with pytest.raises(TypeError, match="never changes"):
            change()
    for other in [pickle.loads(pickle.dumps(table)), copy.deepcopy(table)]:
        assert other.to_csv() == CSV and list(other) == list(table)


def test_it_is_shown() -> None:
    table = Table({"n": range(30), "s": ["<b>"] * 30})
    assert "&lt;b&gt;" in table._repr_html_() and "10 rows more" in table._repr_html_()
    assert repr(table).splitlines()[0].split() == ["n", "s"] and "10 rows more" in repr(table)


def test_pandas_takes_it() -> None:
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(Table.from_csv(CSV))
    assert frame.shape == (3, 6)
    assert frame["n"].dtype == np.int64 and frame["flag"].dtype == bool
    assert frame["name"].tolist() == ["a", "b, c", ""] and frame["x"].isna().tolist() == [False, True, False]


def test_polars_takes_it() -> None:
    polars = pytest.importorskip("polars")
    frame = polars.DataFrame(Table.from_csv(CSV))
    assert frame.shape == (3, 6)
    assert frame["n"].dtype == polars.Int64 and frame["flag"].dtype == polars.Boolean
    assert frame["name"].to_list() == ["a", "b, c", ""]
