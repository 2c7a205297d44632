"""Weights & Biases and MLflow, for who has them installed and asks with TRAIN.WRITERS."""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from yacs.config import CfgNode

from tfdetect.config import dump_config
from tfdetect.errors import InputError
from tfdetect.files import write_json
from tfdetect.training.preparation import import_writer
from tfdetect.training.writers import Scalars, Writer

_logger = logging.getLogger("tfdetect.train")

_RUNS = "runs.json"
_LONGEST_PARAMETER = 500  # of MLflow, in characters


def open_services(cfg: CfgNode, folder: Path, *, resumed: bool) -> list[Writer]:
    """The writers that TRAIN.WRITERS names.

    Where a run is known in OUTPUT_DIR (`runs.json`) and the training resumes, it goes on in it.

    Raises:
        InputError: a package is missing, or its service cannot be reached.
    """
    path = folder / _RUNS
    known: dict[str, str] = {}
    if resumed and path.exists():
        with contextlib.suppress(OSError, ValueError):
            known = {str(key): str(value) for key, value in json.loads(path.read_text()).items()}
    opened: list[_Service] = []
    for name in cfg.TRAIN.WRITERS:
        try:
            opened.append(_SERVICES[name](import_writer(name), cfg, folder, known.get(name)))
        except InputError:
            raise
        except Exception as error:  # whatever a service raises
            raise InputError(
                f"TRAIN.WRITERS: {name} cannot start a run ({type(error).__name__}: {error}); set "
                "it up, or take it off the list"
            ) from error
    if opened:
        write_json(path, {service.name: service.run_id for service in opened})
    return [*opened]


class _Service:
    """What one that fails in the middle of a training costs is a line of the log, once."""

    name: str
    run_id: str

    def __init__(self) -> None:
        self._failed = False

    @contextlib.contextmanager
    def _forgiving(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # such as a server that is gone
            if not self._failed:
                _logger.warning(
                    "%s: %s: %s; the training goes on without",
                    self.name,
                    type(error).__name__,
                    error,
                )
            self._failed = True

    def write(self, iteration: int, scalars: Scalars) -> None:
        known = {name: value for name, value in scalars.items() if not math.isnan(value)}
        if known and not self._failed:
            with self._forgiving():
                self._log(iteration, known)

    def add_image(self, iteration: int, name: str, image: np.ndarray) -> None:
        if not self._failed:
            with self._forgiving():
                self._log_image(iteration, name, np.ascontiguousarray(image[..., ::-1]))

    def close(self) -> None:
        with self._forgiving():
            self._finish()

    def _log(self, iteration: int, scalars: Scalars) -> None:
        raise NotImplementedError

    def _log_image(self, iteration: int, name: str, image: np.ndarray) -> None:
        """`image` is uint8 [H, W, 3] RGB."""
        raise NotImplementedError

    def _finish(self) -> None:
        raise NotImplementedError


class WandbWriter(_Service):
    """A run of Weights & Biases named as OUTPUT_DIR; project and account are its environment's."""

    name = "wandb"

    def __init__(self, wandb: Any, cfg: CfgNode, folder: Path, run_id: str | None):
        super().__init__()
        self._wandb = wandb
        self._run = wandb.init(
            dir=str(folder),
            name=folder.resolve().name,
            config=_plain(cfg),
            id=run_id,
            resume="allow",
        )
        self.run_id = self._run.id
        # Its own steps may only rise, but an evaluation comes after the line of its iteration, and
        # a training that resumes does some iterations again.
        self._run.define_metric("iteration")
        self._run.define_metric("*", step_metric="iteration")

    def _log(self, iteration: int, scalars: Scalars) -> None:
        self._run.log({"iteration": iteration, **scalars})

    def _log_image(self, iteration: int, name: str, image: np.ndarray) -> None:
        self._run.log({"iteration": iteration, name: self._wandb.Image(image)})

    def _finish(self) -> None:
        self._run.finish()


class MlflowWriter(_Service):
    """A run of MLflow named as OUTPUT_DIR; server and experiment are its environment's."""

    name = "mlflow"

    def __init__(self, mlflow: Any, cfg: CfgNode, folder: Path, run_id: str | None):
        super().__init__()
        self._mlflow = mlflow
        name = folder.resolve().name
        self.run_id = mlflow.start_run(run_id=run_id, run_name=name).info.run_id
        mlflow.log_text(dump_config(cfg), "config.yaml")
        if run_id is None:
            parameters = {key: str(value)[:_LONGEST_PARAMETER] for key, value in _flat(_plain(cfg))}
            keys = list(parameters)
            for first in range(0, len(keys), 100):  # as many as one request takes
                part = keys[first : first + 100]
                mlflow.log_params({key: parameters[key] for key in part})

    def _log(self, iteration: int, scalars: Scalars) -> None:
        self._mlflow.log_metrics(
            {_mlflow_name(name): value for name, value in scalars.items()}, step=iteration
        )

    def _log_image(self, iteration: int, name: str, image: np.ndarray) -> None:
        self._mlflow.log_image(image, f"pictures/{iteration:07d}.png")

    def _finish(self) -> None:
        self._mlflow.end_run()


_SERVICES: dict[str, Callable[..., _Service]] = {"wandb": WandbWriter, "mlflow": MlflowWriter}


def _mlflow_name(name: str) -> str:
    """MLflow takes letters, digits and a few signs; a class of the data may have others."""
    return "".join(c if c.isalnum() or c in "_-. /" else "_" for c in name)


def _plain(cfg: CfgNode) -> dict[str, Any]:
    return {
        key: _plain(value) if isinstance(value, CfgNode) else value for key, value in cfg.items()
    }


def _flat(section: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in section.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value
