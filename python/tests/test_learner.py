"""Training of one's own: rounds by hand, structures, metrics, and what fails leaves a run that goes on."""

from __future__ import annotations

import gc
import re
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

import seccogc

CLIENTS = 4
EXAMPLES = [1, 1, 1, 5]


def halves(job: seccogc.Job) -> dict[str, float]:
    """Client k moves every parameter half of the way to k."""
    away = float(job.params[0]) - job.client
    job.params += (job.client - job.params) / 2
    return {"loss": away**2, "away": away}


def learner(**changes: Any) -> seccogc.Learner:
    start = {"w": np.full((2, 2), 8, np.float32), "b": np.float32(8)}
    return seccogc.Learner(**{"start": start, "examples": EXAMPLES, "train": halves, **changes})


def config(*sets: str) -> seccogc.Config:
    sections = {"clients": CLIENTS, "rounds": 6, "protocol": {"kind": "sec-cogc", "stragglers": 1}}
    return seccogc.Config(sections, *sets)


def tables(run: seccogc.Run) -> list[dict[str, list[Any]]]:
    """What a run leaves, times aside."""
    keep = lambda table: {k: [str(x) for x in v] for k, v in table.items() if not k.startswith("seconds")}  # noqa: E731
    return [keep(run.rounds), keep(run.clients)]


def test_a_round_by_hand() -> None:
    def evaluate(params: dict[str, Any]) -> dict[str, float]:
        return {"accuracy": 0.5, "first": float(params["w"][0, 0]), "dice": 0.25}

    run = seccogc.train(
        config("rounds=1"), learner(evaluate=evaluate, test=lambda client, params: client / 4)
    )
    # The mean target is (0 + 1 + 2 + 5·3)/8 = 2.25; half of the way from 8.
    assert run.params["w"].tolist() == [[5.125, 5.125], [5.125, 5.125]]
    assert run.params["b"].shape == () and run.params["b"] == 5.125
    rounds = run.rounds
    assert rounds["train_loss"][0] == (64 + 49 + 36 + 25) / 4
    assert rounds["train_away"][0] == (8 + 7 + 6 + 5 * 5) / 8
    assert (rounds["test_accuracy"][0], rounds["test_first"][0], rounds["test_dice"][0]) == (0.5, 5.125, 0.25)
    assert np.isnan(rounds["test_loss"][0])
    assert run.clients["test_accuracy"].tolist() == [0, 0.25, 0.5, 0.75]
    assert run.recovered == 1.0


def test_a_learner_without_loss_and_tests() -> None:
    def silent(job: seccogc.Job) -> None:
        job.params += 1

    run = seccogc.train(config("rounds=2"), learner(train=silent))
    assert run.params["b"] == 10
    assert np.isnan(run.rounds["test_accuracy"]).all() and np.isnan(run.rounds["train_loss"]).all()


@pytest.mark.parametrize(
    "start",
    [
        np.arange(3.0),
        [np.zeros((2, 1), np.float16), np.ones(3)],
        {
            "layer": {"kernel": np.zeros((2, 3), np.float32, order="F"), "steps": np.int64(7)},
            "on": np.array([True]),
        },
        np.arange(10, dtype=np.float32)[::3],
        5.0,
        [1, 2, 3],
    ],
)
def test_structures_and_types_stay(start: Any) -> None:
    def train(job: seccogc.Job) -> seccogc.Trained:
        return seccogc.Trained(job.tree(), loss=1.0)

    before = seccogc._params.Layout(start)  # type: ignore[attr-defined]
    params = seccogc.train(config("rounds=2"), learner(start=start, train=train)).params
    assert seccogc._params.Layout(params).leaves == before.leaves  # type: ignore[attr-defined]
    for own, was in zip(np.asarray(_flat(params)), np.asarray(_flat(start)), strict=True):
        assert own == was


def _flat(params: Any) -> list[float]:
    if isinstance(params, dict):
        return [x for value in params.values() for x in _flat(value)]
    if isinstance(params, (list, tuple)):
        return [x for value in params for x in _flat(value)]
    return [float(x) for x in np.asarray(params).reshape(-1)]


class Layer(NamedTuple):
    w: Any
    b: Any


def test_mappings_come_back_in_any_order_and_named_tuples_as_such() -> None:
    start = [{"w": np.full((2, 2), 8, np.float32), "b": np.float32(1)}, Layer(np.zeros(3, np.float32), 4.0)]

    def train(job: seccogc.Job) -> seccogc.Trained:
        first, second = job.tree()
        # As JAX returns dictionaries: sorted by key.
        return seccogc.Trained([{"b": first["b"] + 1, "w": first["w"] + 2}, Layer(second.w + 3, second.b)])

    def evaluate(params: Any) -> dict[str, float]:
        return {"b": params[1].b}

    run = seccogc.train(config("rounds=1"), learner(start=start, train=train, evaluate=evaluate))
    first, second = run.params
    assert (first["w"] == 10).all() and first["b"] == 2
    assert (second.w == 3).all() and second.b == 4 and run.rounds["test_b"][0] == 4


def test_whole_numbers_are_averaged_and_rounded() -> None:
    def count(job: seccogc.Job) -> None:
        job.params += job.client

    run = seccogc.train(config("rounds=1"), learner(start={"n": np.int64(10)}, train=count))
    # 10 + (0 + 1 + 2 + 5·3)/8 = 12.25.
    assert run.params["n"] == 12 and run.params["n"].dtype == np.int64


def test_what_is_sent_is_clipped_and_the_rate_follows_the_schedule() -> None:
    rates = []

    def train(job: seccogc.Job) -> None:
        rates.append((job.round, job.rate, job.learning_rate))
        job.params += 100

    sets = (
        "solver.clip_norm=0.5",
        "solver.learning_rate=0.25",
        "schedule.decay.kind=exponential",
        "schedule.decay.factor=0.5",
    )
    run = seccogc.train(config("rounds=3", *sets), learner(train=train))
    assert (run.clients["update_norm"] <= 0.5).all() and (run.clients["update_norm"] > 0.499).all()
    assert all(rate * 0.25 == learning for _, rate, learning in rates)
    assert len({rate for _, rate, _ in rates}) == 3


def test_seeds_are_of_the_round_and_client_and_of_nothing_else() -> None:
    def collect(sets: tuple[str, ...]) -> dict[tuple[int, int], int]:
        seen = {}

        def train(job: seccogc.Job) -> None:
            seen[job.round, job.client] = job.seed

        seccogc.train(config("rounds=3", *sets), learner(train=train))
        return seen

    seeds = collect(())
    assert len(set(seeds.values())) == 3 * CLIENTS and all(0 <= seed < 2**32 for seed in seeds.values())
    assert collect(("protocol.kind=ideal",)) == seeds
    assert collect(("seed=2",)) != seeds


def test_an_executor_changes_nothing() -> None:
    alone = tables(seccogc.train(config(), learner()))
    with ThreadPoolExecutor(3) as threads:
        assert tables(seccogc.train(config(), learner(), executor=threads)) == alone
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as processes:
        assert tables(seccogc.train(config(), learner(), executor=processes)) == alone


class Failing:
    """Fails in round 3, client 2, once."""

    def __init__(self, error: BaseException) -> None:
        self.error: BaseException | None = error

    def __call__(self, job: seccogc.Job) -> dict[str, float]:
        if (job.round, job.client) == (3, 2) and self.error is not None:
            error, self.error = self.error, None
            raise error
        return halves(job)


@pytest.mark.parametrize("error", [RuntimeError("no batch"), KeyboardInterrupt()])
def test_what_a_learner_raises_comes_back_and_the_run_goes_on(tmp_path: Path, error: BaseException) -> None:
    whole = tables(seccogc.train(config(), learner()))
    out = tmp_path / "run"
    failing = Failing(error)
    with pytest.raises(type(error)) as raised:
        seccogc.train(config(), learner(train=failing), out=out)
    assert raised.value is error
    notes = error.__notes__
    assert notes[0] == "in round 3, client 2"
    assert notes[1] == f"go on with seccogc.train(resume={str(out)!r}, learner=…)"
    assert seccogc.Run.open(out).rounds["round"].tolist() == [1, 2]
    assert tables(seccogc.train(learner=learner(train=failing), resume=out)) == whole


def test_a_temporary_folder_stays_for_a_run_that_goes_on() -> None:
    whole = tables(seccogc.train(config(), learner()))
    failing = Failing(RuntimeError("no batch"))
    with pytest.raises(RuntimeError) as raised:
        seccogc.train(config(), learner(train=failing))
    found = re.fullmatch(r"go on with seccogc.train\(resume='(.*)', learner=…\)", raised.value.__notes__[-1])
    assert found is not None
    del raised
    gc.collect()
    assert tables(seccogc.train(learner=learner(train=failing), resume=found[1])) == whole
    shutil.rmtree(Path(found[1]).parent)

    def at_once(job: seccogc.Job) -> None:
        raise RuntimeError("no batch")

    with pytest.raises(RuntimeError) as nothing:
        seccogc.train(config(), learner(train=at_once))
    assert nothing.value.__notes__ == ["in round 1, client 0"]


def test_progress_and_an_event_stop_a_run_that_goes_on(tmp_path: Path) -> None:
    whole = tables(seccogc.train(config(), learner()))
    seen: list[int] = []

    def progress(row: dict[str, Any]) -> None:
        seen.append(row["round"])
        if row["round"] == 2:
            raise StopIteration("enough")

    with pytest.raises(StopIteration, match="enough"):
        seccogc.train(config(), learner(), out=tmp_path / "a", progress=progress)
    assert seen == [1, 2]
    assert tables(seccogc.train(learner=learner(), resume=tmp_path / "a")) == whole

    stop = threading.Event()

    def train(job: seccogc.Job) -> dict[str, float]:
        if (job.round, job.client) == (4, 1):
            stop.set()
        return halves(job)

    with pytest.raises(KeyboardInterrupt):
        seccogc.train(config(), learner(train=train), out=tmp_path / "b", stop=stop)
    assert seccogc.Run.open(tmp_path / "b").rounds.height == 3
    stop.clear()
    assert tables(seccogc.train(learner=learner(), resume=tmp_path / "b")) == whole


SCRIPT = """
    import sys, time
    import numpy as np
    import seccogc

    def train(job):
        time.sleep(0.02)
        job.params += (job.client - job.params) / 2
        print(job.round, flush=True)

    learner = seccogc.Learner(np.full(5, 8.0, np.float32), [1, 1, 1, 5], train)
    config = {"clients": 4, "rounds": 30, "protocol": {"kind": "sec-cogc", "stragglers": 1}}
    config["record"] = {"checkpoint_every": 3}
    out = sys.argv[1]
    if sys.argv[2] == "new":
        seccogc.train(config, learner, out=out, progress=False)
    else:
        seccogc.train(learner=learner, resume=out, progress=False)
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_run_goes_on_as_if_nothing_had_been(tmp_path: Path, number: signal.Signals) -> None:
    script = tmp_path / "run.py"
    script.write_text(textwrap.dedent(SCRIPT))

    def start(out: str, how: str) -> subprocess.Popen[str]:
        args = [sys.executable, str(script), str(tmp_path / out), how]
        return subprocess.Popen(args, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    process = start("killed", "new")
    assert process.stdout is not None
    for line in process.stdout:
        if int(line) >= 8:
            break
    process.send_signal(number)
    _, errors = process.communicate(timeout=30)
    if number == signal.SIGINT:
        assert "KeyboardInterrupt" in errors and "go on with seccogc.train(resume=" in errors
    for out, how in [("killed", "again"), ("whole", "new")]:
        process = start(out, how)
        _, errors = process.communicate(timeout=60)
        assert process.returncode == 0, errors
    assert tables(seccogc.Run.open(tmp_path / "killed")) == tables(seccogc.Run.open(tmp_path / "whole"))


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"examples": [1, 2]}, "clients: 4, but the learner has 2 clients; make them equal"),
        ({"examples": [1, 0, 1, 1]}, "partition: client 2 has no example; give each at least one"),
        ({"start": []}, "the parameters hold no number; give at least one array that is not empty"),
        ({"start": np.array([1j])}, "params holds complex128; parameters are real numbers"),
        (
            {"start": np.array([1, np.nan])},
            "model: parameter 1 is not a finite number before the first round",
        ),
        (
            {"train": lambda job: seccogc.Trained({"w": job.tree()["w"]})},
            "parameters of another structure than at the start (b is missing); keep it",
        ),
        (
            {"evaluate": lambda params: {"a b": 1.0}},
            "the metric `a b`: must be made of at most 58 letters, digits and _.-; "
            "it names a column of rounds.csv",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError) as raised:
        seccogc.train(config(), learner(**changes))
    assert str(raised.value) == line


def test_a_device_and_a_wrong_return_are_type_errors() -> None:
    class Device:
        type = "cuda"

    class Tensor:
        device = Device()

    with pytest.raises(
        TypeError, match="params lies on the device cuda; hand over a copy on the CPU, e.g. by .cpu()"
    ):
        seccogc.train(config(), learner(start=Tensor()))
    with pytest.raises(TypeError, match="train returned int; return a mapping, seccogc.Trained or nothing"):
        seccogc.train(config(), learner(train=lambda job: 3))


def test_divergence_is_an_outcome(tmp_path: Path) -> None:
    def train(job: seccogc.Job) -> None:
        job.params += np.inf if job.round == 3 and job.client == 1 else 1

    with pytest.raises(seccogc.DivergedError):
        seccogc.train(config(), learner(train=train), out=tmp_path / "run")
    run = seccogc.Run.open(tmp_path / "run")
    assert run.diverged and run.rounds.height == 2


def test_the_figure_of_a_temporary_run_has_the_name_of_its_configuration(small: Path) -> None:
    run = seccogc.train(small, progress=False)
    assert run.path.name == "small"
    assert ">small<" in "".join(run.figure.svg.split())


def test_a_comparison_tells_of_what_diverged(caplog: pytest.LogCaptureFixture) -> None:
    def train(job: seccogc.Job) -> None:
        # Only the ideal run gets there: the upload of the others is lost in every round.
        job.params += np.inf if job.params[0] > 10 else 1

    def contenders(*kinds: str) -> seccogc.Config:
        compare = [{"name": kind, "protocol": {"kind": kind}} for kind in kinds]
        return config().replace(compare=compare, network={"client_server": {"erasure": 1}})

    found = seccogc.compare(contenders("ideal", "cogc"), learner(train=train))
    assert [run.diverged for run in found.runs.values()] == [True, False]
    assert caplog.messages == [
        "ideal, seed 1: diverged in round 4: the update is not finite; its tables end there"
    ]
    with pytest.raises(seccogc.DivergedError, match="in round 4: the update .* every run") as raised:
        seccogc.compare(contenders("ideal"), learner(train=train))
    assert raised.value.round == 4 and not hasattr(raised.value, "__notes__")


def test_a_kept_view_is_copied_and_a_late_one_refused() -> None:
    kept = []

    def keep(job: seccogc.Job) -> None:
        job.params += 1
        kept.append((job, job.params))

    run = seccogc.train(config("rounds=2"), learner(train=keep))
    assert run.params["b"] == 10
    for _, params in kept:
        params[:] = 77  # of nobody else's memory
    assert run.params["b"] == 10
    vector = seccogc._native.Vector(3)  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="before"):
        aggregator = seccogc.Aggregator("ideal", clients=1)
        aggregator._native.aggregate(1, [vector], [1.0])
        aggregator._native.aggregate(1, [vector], [1.0])
    with pytest.raises((BufferError, ValueError), match="handed over"):
        np.frombuffer(vector, np.float32)


def test_memory_and_references_stay_flat() -> None:
    def peak() -> int:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    start = np.zeros(20_000, np.float32)
    many = learner(start=start, train=lambda job: None)
    seccogc.train(config("rounds=50", "record.checkpoint_every=1000"), many)
    gc.collect()
    before, objects = peak(), len(gc.get_objects())
    seccogc.train(config("rounds=1000", "record.checkpoint_every=1000"), many)
    gc.collect()
    assert peak() - before < 8 * 1024, "more than 8 MB after a thousand rounds"
    assert len(gc.get_objects()) - objects < 1000


def test_a_comparison_of_a_learner() -> None:
    contenders = [
        {"name": "Ideal", "protocol": {"kind": "ideal"}},
        {"name": "SecCoGC", "protocol": {"kind": "sec-cogc", "stragglers": 1}},
    ]
    starts = []

    def start(seed: int) -> Any:
        starts.append(seed)
        return np.full(3, seed, np.float32)

    found = seccogc.compare(config().replace(compare=contenders), learner(start=start), seeds=2)
    assert starts == [1, 2]
    assert found.summary["protocol"].tolist() == ["Ideal", "SecCoGC"] * 2
    assert set(found.runs) == {(name, seed) for name in ("Ideal", "SecCoGC") for seed in (1, 2)}
    for seed in (1, 2):
        ideal, coded = (found.runs[name, seed].params for name in ("Ideal", "SecCoGC"))
        assert np.abs(ideal - coded).max() < 1e-5
    assert found.rounds["name"].tolist().count("Ideal") == 12
    assert "<svg" in found.figure.svg
