"""Federated learning that stays exact and private when links fail.

Indices are from 0 in objects and from 1 in tables, as in the CSV files of the command line.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from seccogc._aggregate import Aggregator as Aggregator
    from seccogc._aggregate import Outage as Outage
    from seccogc._aggregate import Sum as Sum
    from seccogc._config import Config as Config
    from seccogc._config import ConfigLike as ConfigLike
    from seccogc._config import configs as configs
    from seccogc._deploy import join as join
    from seccogc._deploy import serve as serve
    from seccogc._errors import ConfigError as ConfigError
    from seccogc._errors import DivergedError as DivergedError
    from seccogc._errors import Error as Error
    from seccogc._errors import FileError as FileError
    from seccogc._figure import Figure as Figure
    from seccogc._learner import Job as Job
    from seccogc._learner import Learner as Learner
    from seccogc._learner import Trained as Trained
    from seccogc._native import __version__ as __version__
    from seccogc._native import set_threads as set_threads
    from seccogc._run import Run as Run
    from seccogc._table import Table as Table
    from seccogc._train import Comparison as Comparison
    from seccogc._train import compare as compare
    from seccogc._train import train as train
    from seccogc._verbs import Audit as Audit
    from seccogc._verbs import Data as Data
    from seccogc._verbs import Recovery as Recovery
    from seccogc._verbs import Results as Results
    from seccogc._verbs import attack as attack
    from seccogc._verbs import audit as audit
    from seccogc._verbs import calibrate as calibrate
    from seccogc._verbs import data as data
    from seccogc._verbs import fetch as fetch
    from seccogc._verbs import plan as plan
    from seccogc._verbs import privacy as privacy
    from seccogc._verbs import recover as recover
    from seccogc._verbs import shards as shards
    from seccogc._verbs import sweep as sweep

# Where each name is: it is loaded when it is first asked for, so that the import takes milliseconds.
_HOMES = {
    "Aggregator": "_aggregate",
    "Audit": "_verbs",
    "Comparison": "_train",
    "Config": "_config",
    "ConfigError": "_errors",
    "ConfigLike": "_config",
    "Data": "_verbs",
    "DivergedError": "_errors",
    "Error": "_errors",
    "Figure": "_figure",
    "FileError": "_errors",
    "Job": "_learner",
    "Learner": "_learner",
    "Outage": "_aggregate",
    "Recovery": "_verbs",
    "Results": "_verbs",
    "Run": "_run",
    "Sum": "_aggregate",
    "Table": "_table",
    "Trained": "_learner",
    "__version__": "_native",
    "attack": "_verbs",
    "audit": "_verbs",
    "calibrate": "_verbs",
    "compare": "_train",
    "configs": "_config",
    "data": "_verbs",
    "fetch": "_verbs",
    "join": "_deploy",
    "plan": "_verbs",
    "privacy": "_verbs",
    "recover": "_verbs",
    "serve": "_deploy",
    "set_threads": "_native",
    "shards": "_verbs",
    "sweep": "_verbs",
    "train": "_train",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module 'seccogc' has no attribute '{name}'")
    value = getattr(import_module(f"seccogc.{home}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
