"""Configurations: the same rules and lines as the command line's."""

from __future__ import annotations

import json
import os
import pickle
from pathlib import Path

import numpy as np
import pytest
from conftest import program, refusal

import seccogc
from seccogc import Config, ConfigError


def test_sources_say_the_same(small: Path) -> None:
    from_file = Config(small)
    assert from_file == Config(from_file.to_dict()) == Config(from_file) == Config(str(small))
    assert hash(from_file) == hash(Config(small))
    assert from_file["protocol.stragglers"] == 2
    assert from_file["protocol"]["kind"] == "sec-cogc"
    assert Config()["rounds"] == 100
    with pytest.raises(KeyError):
        from_file["protocol.nothing"]


def test_a_sweep_has_every_key_too(small: Path) -> None:
    config = Config(small, sweep={"seeds": [1, 2], "grid": {"protocol.stragglers": [1, 2]}})
    assert config["seed"] == 1 and config["sweep.seeds"] == [1, 2]
    assert config["sweep"]["grid"] == {"protocol.stragglers": [1, 2]}
    assert "seed =" not in config.to_toml()
    assert pickle.loads(pickle.dumps(config)) == config


def test_sets_and_sections_are_the_flags(small: Path) -> None:
    by_sets = Config(small, "rounds=7", "protocol.kind=cogc", "solver.learning_rate=0.5")
    by_sections = Config(small, rounds=7, protocol={"kind": "cogc"}, solver={"learning_rate": 0.5})
    assert (
        by_sets
        == by_sections
        == Config(small).replace("rounds=7").replace(protocol={"kind": "cogc"}, solver={"learning_rate": 0.5})
    )
    # Keys of both kinds stay as the file says.
    assert by_sets["protocol.stragglers"] == 2
    assert by_sets["network.client_server.erasure"] == 0.3


def test_another_kind_begins_with_its_own_defaults(small: Path) -> None:
    changed = Config(small, "solver.kind=adam")
    assert changed == Config(small).replace(solver={"kind": "adam"})
    assert (
        changed["solver.learning_rate"] == Config("" or {"solver": {"kind": "adam"}})["solver.learning_rate"]
    )


def test_values_may_be_numpys_and_paths(tmp_path: Path) -> None:
    config = Config(
        {"rounds": np.int64(5), "solver": {"learning_rate": np.float32(0.5)}},
        network={"client_server": {"erasure": np.linspace(0, 0.9, 10)}},
        start=tmp_path / "model.safetensors",
    )
    assert config["rounds"] == 5 and config["solver.learning_rate"] == 0.5
    assert config["network.client_server.erasure"][-1] == 0.9
    assert config["start"] == str(tmp_path / "model.safetensors")


def test_paths_are_relative_to_the_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "own.toml").write_text('start = "a.safetensors"\n')
    monkeypatch.chdir(tmp_path)
    config = Config("there/own.toml")
    assert config["start"] == str(tmp_path / "there" / "a.safetensors")
    monkeypatch.chdir("/")
    assert config.replace("rounds=3")["start"] == config["start"]
    assert pickle.loads(pickle.dumps(config)) == config


def test_it_never_changes(small: Path) -> None:
    config = Config(small)
    with pytest.raises(AttributeError, match="replace"):
        config.rounds = 3  # type: ignore[attr-defined]
    again = pickle.loads(pickle.dumps(config.replace("rounds=9")))
    assert again == config.replace("rounds=9") and again.path == small
    # What was written is kept without defaults.
    assert again.replace("protocol.kind=cogc") == config.replace("rounds=9", "protocol.kind=cogc")


WRONG = [
    "rounds=0",
    "roundz=3",
    "clients=1.5",
    "protocol.kind=nothing",
    "network.client_server.erasure=1.5",
    "solver.learning_rate=[1]",
    "privacy.update_std=-1.0",
    "no value",
]


@pytest.mark.parametrize("wrong", WRONG)
def test_flags_are_refused_as_by_the_command_line(small: Path, wrong: str) -> None:
    line = refusal("plan", small, "--set", wrong)
    with pytest.raises(seccogc.Error) as raised:
        seccogc.plan(Config(small, wrong))
    assert str(raised.value) == line


@pytest.mark.parametrize(
    "text", ["rounds = 0", "roundz = 3", "rounds = ", "[protocol]\nkind = 3", "clients = 'x'"]
)
def test_files_are_refused_as_by_the_command_line(tmp_path: Path, text: str) -> None:
    path = tmp_path / "wrong.toml"
    path.write_text(text)
    with pytest.raises(seccogc.Error) as raised:
        Config(path)
    assert str(raised.value) == refusal("plan", path)


def test_an_error_names_key_and_rule(small: Path) -> None:
    with pytest.raises(ConfigError) as raised:
        Config(small, rounds=0)
    assert (raised.value.key, raised.value.rule) == ("rounds", "0 is too small; give at least 1")
    assert str(raised.value) == "rounds: 0 is too small; give at least 1"
    again = pickle.loads(pickle.dumps(raised.value))
    assert (str(again), again.key, again.rule) == (str(raised.value), raised.value.key, raised.value.rule)
    assert isinstance(raised.value, ValueError)
    with pytest.raises(ConfigError, match=r"^start: None is no value"):
        Config(small, start=None)
    with pytest.raises(ConfigError, match=r"^solver.learning_rate: a object is no value"):
        Config(small, solver={"learning_rate": object()})
    with pytest.raises(ConfigError, match=r"^rounds: a whole number beyond 64 bits"):
        Config(small, rounds=2**70)
    with pytest.raises(TypeError, match="the key 3 is no text"):
        Config({3: 4})  # type: ignore[dict-item]


def test_a_missing_file_is_an_oserror(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError) as raised:
        Config(tmp_path / "nothing.toml")
    assert raised.value.filename == str(tmp_path / "nothing.toml")


def test_what_falls_away_is_logged(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    Config(small, "protocol.kind=fedavg")
    assert any("protocol.stragglers = 2 falls away" in record.message for record in caplog.records)
    assert {record.name for record in caplog.records} == {"seccogc"}


def test_keys_are_explained() -> None:
    assert Config.explain("data.label") == program("config", "explain", "data.label").stdout
    assert Config.schema()["properties"]["rounds"]["maximum"] == 10_000_000
    json.dumps(Config.schema())
    with pytest.raises(seccogc.Error) as raised:
        Config.explain("nothing")
    assert str(raised.value) == refusal("config", "explain", "nothing")


def test_the_packages_configurations_are_those_of_the_repository() -> None:
    own = {path.name: path.read_text() for path in seccogc.configs.glob("*.toml")}
    assert len(own) > 5
    for name in own:
        Config(seccogc.configs / name)
    repository = Path(os.environ.get("SECCOGC_SOURCE", "")) / "configs"
    if "SECCOGC_SOURCE" in os.environ:
        assert own == {path.name: path.read_text() for path in repository.glob("*.toml")}
