"""The verbs give the tables and the lines of the command line."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import program, refusal, without_times

import seccogc
from seccogc import Config, Table


def test_recover(small: Path, tmp_path: Path) -> None:
    key, values = "network.client_client.erasure", [0, 0.05, 0.2]
    steps: list[dict[str, Any]] = []
    table = seccogc.recover(
        small, vary=(key, values), stragglers=[1, 3], rounds=2000, out=tmp_path / "own", progress=steps.append
    )
    swept = f"{key}={','.join(map(str, values))}"
    answer = program(
        "recover",
        small,
        "--sweep",
        swept,
        "--stragglers",
        "1,3",
        "--rounds",
        "2000",
        "--out",
        tmp_path / "cli",
        "--quiet",
    )
    assert answer.returncode == 0, answer.stderr
    for name in ["recover.csv", "recover.md", "config.toml", "recovery.svg"]:
        assert (tmp_path / "own" / name).read_bytes() == (tmp_path / "cli" / name).read_bytes(), name
    assert table.to_csv() == (tmp_path / "cli" / "recover.csv").read_bytes()
    assert table["value"].tolist() == [0, 0, 0.05, 0.05, 0.2, 0.2]
    assert "</svg>" in table.figure._repr_svg_()
    assert [step["place"] for step in steps] == [1, 2] * 3 and steps[0]["total"] == 2
    table.figure.save(tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="an .svg or a .png"):
        table.figure.save(tmp_path / "figure.pdf")


def test_plan(small: Path) -> None:
    table = seccogc.plan(small, attempts=[1, 2], rounds=500)
    answer = program("plan", small, "--attempts", "1,2", "--rounds", "500", "--csv", "--quiet")
    assert table.to_csv().decode() == answer.stdout
    assert table["pareto"].dtype == bool and table["pareto"].any()


def test_audit(small: Path) -> None:
    found = seccogc.audit(small, coalition="server+2")
    answer = program("audit", small, "--coalition", "server+2", "--format", "csv")
    assert found.entries.to_csv().decode() == answer.stdout
    assert str(found) == program("audit", small, "--coalition", "server+2").stdout
    assert found.exceeded == [] and "update_std" in found.assumptions
    bound = seccogc.audit(Config(small, "privacy.max_lmip_bits=1e-9"))
    lines = program("audit", small, "--set", "privacy.max_lmip_bits=1e-9").stderr.splitlines()
    assert [f"exceeded: {line}" for line in bound.exceeded] == lines and lines


def test_calibrate(small: Path) -> None:
    bound = "privacy.max_lmip_bits=0.2"
    answer = program("audit", small, "--set", bound, "--calibrate", "--format", "csv")
    assert seccogc.calibrate(Config(small, bound)).to_csv().decode() == answer.stdout


def test_sweep(tmp_path: Path, small: Path) -> None:
    small.write_text(
        small.read_text() + '\n[sweep]\nseeds = [1, 2]\n[sweep.grid]\n"protocol.stragglers" = [1, 2]\n'
    )
    steps: list[dict[str, Any]] = []
    results = seccogc.sweep(small, out=tmp_path / "own", progress=steps.append)
    answer = program("sweep", small, "--out", tmp_path / "cli", "--quiet")
    assert answer.returncode == 0, answer.stderr
    for name in ["runs.csv", "sweep.csv"]:
        assert without_times(tmp_path / "own" / name) == without_times(tmp_path / "cli" / name), name
    assert results.table.height == 4 and results["sweep"].height == 12
    assert sorted(step["place"] for step in steps) == [1, 2, 3, 4]
    assert results.figures
    again = seccogc.sweep(small, out=tmp_path / "own", resume=True)
    assert again.table.to_csv() == results.table.to_csv()
    with pytest.raises(seccogc.Error) as raised:
        seccogc.sweep(Config())
    assert "nothing to sweep" in str(raised.value)


def test_privacy(tmp_path: Path) -> None:
    path = seccogc.configs / "privacy.toml"
    sets = ["rounds=2", "evaluation.every=2", "model.kind=softmax", "study.key_stds=[1.0, 10.0]"]
    results = seccogc.privacy(Config(path, *sets), seeds=1, out=tmp_path / "own")
    flags = [flag for one in sets for flag in ("--set", one)]
    answer = program("privacy", path, *flags, "--out", tmp_path / "cli", "--quiet")
    assert answer.returncode == 0, answer.stderr
    assert results.keys() == ["accuracy_privacy", "leakage_per_client", "recovery_error"]
    for name in results.keys():
        assert results[name].to_csv() == (tmp_path / "cli" / f"{name}.csv").read_bytes(), name
    assert set(results.figures) == set(results.keys())
    before = results.table.to_csv()
    assert seccogc.privacy(resume=tmp_path / "own").table.to_csv() == before


def test_attack(tmp_path: Path) -> None:
    path = seccogc.configs / "attack.toml"
    sets = ["clients=4", "protocol.stragglers=2", "model.hidden=16", "rounds=2", "attack.iterations=10"]
    sets += ["attack.examples=10", "attack.key_stds=[100.0]"]
    results = seccogc.attack(Config(path, *sets), out=tmp_path / "own")
    flags = [flag for one in sets for flag in ("--set", one)]
    answer = program("attack", path, *flags, "--out", tmp_path / "cli", "--quiet")
    assert answer.returncode == 0, answer.stderr
    for name in ["inversion", "membership", "roc"]:
        assert results[name].to_csv() == (tmp_path / "cli" / f"{name}.csv").read_bytes(), name


def test_errors_are_the_command_lines(small: Path, tmp_path: Path) -> None:
    with pytest.raises(seccogc.ConfigError) as raised:
        seccogc.recover(Config(small, "protocol.kind=fedavg"))
    assert str(raised.value) == refusal("recover", small, "--set", "protocol.kind=fedavg")
    assert raised.value.key == "protocol.kind"
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").touch()
    with pytest.raises(seccogc.FileError) as full:
        seccogc.recover(small, rounds=10, out=tmp_path / "full")
    assert str(full.value) == refusal("recover", small, "--rounds", "10", "--out", tmp_path / "full")
    with pytest.raises(seccogc.Error) as nothing:
        seccogc.privacy(small)
    assert str(nothing.value) == refusal("privacy", small)
    with pytest.raises(seccogc.Error) as unknown:
        seccogc.audit(small, coalition="server+99")
    assert str(unknown.value) == refusal("audit", small, "--coalition", "server+99")


def test_data_and_shards(small: Path) -> None:
    data = seccogc.data("mnist-subset")
    assert data.x.shape == (10_000, 1, 28, 28) and data.x.dtype == np.float32
    assert data.y.dtype == np.int64 and data.y[:5].tolist() == [5, 0, 4, 1, 9]
    assert abs(float(data.x.mean())) < 1e-4 and abs(float(data.x.std()) - 1) < 1e-4
    assert data.x.flags.writeable
    x, y, test_x, test_y = seccogc.data(Config(small, "data.standardise=false"), flat=True)
    assert (
        x.shape == (10_000, 784) and test_x.shape == (2000, 784) and len(y) == 10_000 and len(test_y) == 2000
    )
    assert x.min() == 0 and x.max() == 1
    shards = seccogc.shards(small)
    assert len(shards) == 6 and len(np.unique(np.concatenate(shards))) == 10_000
    assert seccogc.fetch("mnist-subset").startswith("mnist-subset: embedded")
    with pytest.raises(seccogc.Error, match="no dataset `nothing`; take one of mnist-subset, mnist"):
        seccogc.fetch("nothing")


def test_data_with_quantities_has_them_as_floats(tmp_path: Path) -> None:
    rows = [[i, 2 * i, 3.5 * i] for i in range(10)]
    table = tmp_path / "own.csv"
    table.write_text("x,y,z\n" + "".join(",".join(map(str, row)) + "\n" for row in rows))
    keys = [
        f"data.train={str(table)!r}",
        "data.name=table",
        "data.response=quantity",
        'data.label=["z", "y"]',
    ]
    x, told, test_x, test_told = seccogc.data(Config(None, *keys, "data.standardise=false"))
    assert x.shape == (8, 1) and told.shape == (8, 2) and told.dtype == np.float64
    assert (told == x * [3.5, 2]).all() and (test_told == test_x * [3.5, 2]).all()


def test_what_ended_goes_on(small: Path, tmp_path: Path) -> None:
    config = Config(small, rounds=20, sweep={"seeds": [1, 2, 3]})
    whole = seccogc.sweep(config, out=tmp_path / "whole", jobs=1)

    def enough(step: dict[str, Any]) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        seccogc.sweep(config, out=tmp_path / "parts", jobs=1, progress=enough)
    assert not (tmp_path / "parts" / "runs.csv").exists()
    goes_on = seccogc.sweep(config, out=tmp_path / "parts", resume=True)
    assert without_times(goes_on.path / "sweep.csv") == without_times(whole.path / "sweep.csv")
    parts = [seccogc.sweep(config, out=tmp_path / "shards", shard=(part, 2)) for part in (1, 2)]
    assert without_times(parts[-1].path / "sweep.csv") == without_times(whole.path / "sweep.csv")
    with pytest.raises(seccogc.Error, match=r"shard \(3, 2\): give it as \(I, N\)"):
        seccogc.sweep(config, out=tmp_path / "shards", shard=(3, 2))
    with pytest.raises(TypeError, match="give out"):
        seccogc.sweep(config, resume=True)
    with pytest.raises(TypeError, match="leave config and out away"):
        seccogc.attack(config, resume=tmp_path)
    with pytest.raises(TypeError, match="give a configuration"):
        seccogc.privacy()


CONFIGS = sorted(path.name for path in seccogc.configs.glob("*.toml"))


def same(verb: Callable[[], Table], *args: str | Path) -> None:
    """The verb gives the table of the command line, or refuses with its line."""
    answer = program(*args, timeout=600)
    if answer.returncode == 2:
        with pytest.raises(seccogc.Error) as raised:
            verb()
        assert answer.stderr == f"error: {raised.value}\n"
    else:
        assert answer.returncode == 0, answer.stderr
        assert verb().to_csv().decode() == answer.stdout


@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_is_recovered_alike(name: str, tmp_path: Path) -> None:
    path = seccogc.configs / name
    flags = ["--rounds", "20", "--csv", "--quiet", "--out", str(tmp_path / "cli")]
    same(lambda: seccogc.recover(path, rounds=20), "recover", path, *flags)


@pytest.mark.slow
@pytest.mark.parametrize("name", CONFIGS)
def test_every_configuration_is_planned_and_audited_alike(name: str) -> None:
    path = seccogc.configs / name
    same(lambda: seccogc.plan(path, rounds=100), "plan", path, "--rounds", "100", "--csv", "--quiet")
    same(lambda: seccogc.audit(path).entries, "audit", path, "--format", "csv")
