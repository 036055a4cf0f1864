"""Signals, threads, forks and the import: what surrounds the work."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import PROGRAM

import seccogc

#: Rounds that nobody waits for.
ENDLESS = 1_000_000_000


def python(code: str, *args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-X", "faulthandler", "-c", textwrap.dedent(code), *args]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, **options)


def interrupted(command: list[str], cwd: Path, ready: str) -> tuple[int, str, float]:
    """Code, output and seconds of a program that is interrupted once it has said that it is ready."""
    process = subprocess.Popen(command, cwd=cwd, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    try:
        assert process.stdout is not None
        if ready:
            while ready not in process.stdout.readline():
                pass
        time.sleep(0.7)
        start = time.monotonic()
        process.send_signal(signal.SIGINT)
        output = process.communicate(timeout=30)[0]
        return process.returncode, output, time.monotonic() - start
    finally:
        process.kill()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
def test_an_interrupt_ends_work_and_leaves_nothing(small: Path, tmp_path: Path) -> None:
    code = f"""
    import seccogc
    print("ready", flush=True)
    try:
        seccogc.recover({str(small)!r}, rounds={ENDLESS}, out="out")
    except KeyboardInterrupt:
        print("interrupted")
    """
    command = [sys.executable, "-c", textwrap.dedent(code)]
    status, output, seconds = interrupted(command, tmp_path, "ready")
    assert status == 0 and output.strip().endswith("interrupted"), output
    assert seconds < 5
    assert not (tmp_path / "out").exists()


@pytest.mark.skipif(sys.platform == "win32", reason="signals of Unix")
@pytest.mark.parametrize("verb", ["recover", "plan"])
def test_the_command_line_ends_as_programs_do(small: Path, tmp_path: Path, verb: str) -> None:
    command = [PROGRAM, verb, str(small), "--rounds", str(ENDLESS)]
    status, output, seconds = interrupted(command, tmp_path, "")
    # What was found until then is printed, if anything was.
    assert status == 130 and ("interrupted: " in output or output.strip() == "error: stopped"), output
    assert seconds < 2
    assert [path.name for path in tmp_path.iterdir()] == [small.name]


def test_an_event_ends_work(small: Path, tmp_path: Path) -> None:
    def recover(stop: threading.Event) -> None:
        seccogc.recover(small, rounds=ENDLESS, stop=stop, out=tmp_path / "out")

    def audit(stop: threading.Event) -> None:
        seccogc.audit(seccogc.configs / "mnist_compare.toml", all_coalitions=3, stop=stop)

    for verb in (recover, audit):
        is_ended(verb)
    assert not (tmp_path / "out").exists()


def is_ended(verb: Callable[[threading.Event], None]) -> None:
    stop = threading.Event()
    raised: list[BaseException] = []

    def work() -> None:
        try:
            verb(stop)
        except BaseException as error:
            raised.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    time.sleep(0.5)
    stop.set()
    thread.join(timeout=30)
    assert not thread.is_alive()
    assert isinstance(raised[0], KeyboardInterrupt) and str(raised[0]) == "stopped"


def test_what_progress_raises_ends_work_and_comes_back(small: Path) -> None:
    class Enough(Exception):
        pass

    error = Enough("two are enough")
    seen = []

    def progress(step: dict[str, Any]) -> None:
        seen.append(step)
        if len(seen) == 2:
            raise error

    with pytest.raises(Enough) as raised:
        seccogc.recover(small, rounds=1000, progress=progress)
    assert raised.value is error and len(seen) == 2


def test_threads_work_beside_each_other(small: Path) -> None:
    code = f"""
    import threading, seccogc
    tables = [None] * 4
    def work(i):
        tables[i] = seccogc.recover({str(small)!r}, rounds=2000, progress=lambda step: sum(range(10000)))
    threads = [threading.Thread(target=work, args=(i,)) for i in range(4)]
    for thread in threads: thread.start()
    for thread in threads: thread.join()
    assert len({{table.to_csv() for table in tables}}) == 1
    """
    answer = python(code)
    assert answer.returncode == 0, answer.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks of Unix")
def test_a_fork_is_refused_in_one_line(small: Path) -> None:
    code = f"""
    import os, seccogc
    seccogc.plan({str(small)!r}, rounds=10)
    if os.fork() == 0:
        for work in [lambda: seccogc.plan({str(small)!r}), seccogc.Config, lambda: seccogc.set_threads(2)]:
            try:
                work()
            except RuntimeError as error:
                print(error, flush=True)
        os._exit(0)
    os.wait()
    """
    answer = python(code, env={**os.environ, "PYTHONWARNINGS": "ignore"})
    line = "seccogc cannot work in a forked process, which has none of its threads; "
    assert answer.stdout.splitlines() == [line + "start processes with spawn or forkserver"] * 3, answer


def test_spawned_processes_work(small: Path) -> None:
    code = f"""
    import concurrent.futures, multiprocessing, seccogc
    if __name__ == "__main__":
        config = seccogc.Config({str(small)!r})
        with concurrent.futures.ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
            table = pool.submit(seccogc.plan, config, rounds=50, progress=False).result()
        assert table.to_csv() == seccogc.plan(config, rounds=50).to_csv()
    """
    script = small.with_name("spawning.py")
    script.write_text(textwrap.dedent(code))
    answer = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, timeout=60)
    assert answer.returncode == 0, answer.stderr


def test_threads_are_set_before_the_work(small: Path) -> None:
    code = f"""
    import os, seccogc
    seccogc.set_threads(2)
    seccogc.plan({str(small)!r}, rounds=10)
    try:
        seccogc.set_threads(3)
    except seccogc.Error as error:
        print(error)
    """
    answer = python(code)
    assert answer.stdout.startswith("3 threads: "), answer


def test_warnings_go_to_logging(small: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, logger="seccogc")
    variants = [{"name": "plain", "set": {"protocol.kind": "fedavg"}}]
    seccogc.sweep(seccogc.Config(small, rounds=1, sweep={"variants": variants}))
    warnings = [record for record in caplog.records if "protocol.stragglers = 2 falls away" in record.message]
    assert [record.levelname for record in warnings] == ["WARNING"]


def test_the_import_is_quick_and_loads_little() -> None:
    code = """
    import sys, time
    before = set(sys.modules)
    start = time.perf_counter()
    import seccogc
    took = time.perf_counter() - start
    loaded = set(sys.modules) - before
    print(took, {"numpy", "torch", "pandas", "seccogc._native"} & loaded, sorted(loaded))
    """
    took = []
    for _ in range(3):
        answer = python(code)
        assert answer.returncode == 0, answer.stderr
        seconds, rest = answer.stdout.split(maxsplit=1)
        assert rest.startswith("set()"), rest
        took.append(float(seconds))
    assert min(took) < 0.03, took


def test_the_program_loads_no_numpy() -> None:
    code = """
    import sys
    sys.argv = ["seccogc", "--version"]
    from seccogc._cli import main
    try:
        main()
    except SystemExit as end:
        assert end.code == 0
    assert "numpy" not in sys.modules
    """
    answer = python(code)
    assert answer.returncode == 0, answer.stderr
    assert answer.stdout.strip() == f"seccogc {seccogc.__version__}"


def test_names_are_listed_and_unknown_ones_refused() -> None:
    assert {"Config", "plan", "recover"} <= set(dir(seccogc))
    for name in seccogc.__all__:
        assert getattr(seccogc, name) is not None
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        seccogc.nothing  # noqa: B018
