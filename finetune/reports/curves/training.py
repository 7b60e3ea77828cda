"""`--learning-curve`: the same training on each share of the rows, as child runs of one run, which gets the curve."""

import gc
import logging
import os
import shlex
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial, wraps
from typing import Any

from finetune import InputError, console
from finetune.logged_models.checkpoint_files import TASK_TAG
from finetune.models.files.schemas import reason
from finetune.reports.curves.children import children_of, is_finished, refuse_other_rows, rows_of
from finetune.reports.curves.curve import LearningCurve, Point
from finetune.reports.curves.row_scores import RowScores
from finetune.reports.curves.showing import log_curve, sentences
from finetune.runs import environment, tracking
from finetune.runs.checkpoints import CURVE_TAG, STOPPED_TAG, has_checkpoint
from finetune.runs.lifecycle import open_run
from finetune.training.callbacks import parse_duration
from finetune.training.flags.recorded_flags import ARTIFACT, without_flags
from finetune.training.flags.shared_flags import SharedFlags

import mlflow
import torch
from accelerate.utils import broadcast_object_list
from mlflow.exceptions import MlflowException

logger = logging.getLogger(__name__)
Main = Callable[[list[str] | None], None]
OWN_FLAGS = ("--learning-curve", "--max-time", "--run-name")  # the curve's, not its trainings'
LONGEST = environment.LONGEST_NAME - len("-100")  # of its name, which theirs begin with
SETTLED_ANEW = ("max_length", "experiment")  # by the rows of each share; by a flag of its own


@dataclass(frozen=True)
class Request:
    """What is to be trained on each share of the rows.

    Attributes:
        flags: of the script.
        tags: that the curve's run gets, its name among them.
        origin: where the training comes from; its run is the curve that goes on, if one does.
    """

    flags: SharedFlags
    tags: dict[str, str]
    origin: Any


class Requested(InputError):
    """Flags, data and base are in order, and a curve is asked for: raised where the one training would begin.

    A script whose main function is not `on_request` refuses with it.
    """

    def __init__(self, request: Request):
        super().__init__("--learning-curve: this script draws none; leave it out.")
        self.request = request


def on_request(main: Main) -> Main:
    """Let the main function of a training script draw a learning curve where its flags ask for one."""

    @wraps(main)
    def run(arguments: list[str] | None = None) -> None:
        try:
            return main(arguments)
        except Requested as asked:
            request = asked.request
        free_memory()  # Nobody holds what main() has made from here on.
        return train(main, request)

    return run


def train(main: Main, request: Request) -> None:
    """Train on each share that is not trained yet, show the curve, and print the id of its run."""
    if not request.origin.online:
        raise InputError("--learning-curve reads its scores from MLflow, and the tracking server is away; start it.")
    made, status, is_whole = request.origin.run or request.origin.empty, "FAILED", False
    is_recorded = bool(request.origin.run)
    run_id = made.info.run_id if made else ""
    try:
        run_id = _from_first(lambda: _open(request))
        is_recorded = is_recorded or _from_first(lambda: _record(request, run_id))
        logger.info(f"Learning curve {run_id}: a training on each of {_shown(request)} % of the rows")
        is_whole = _train_shares(main, request, run_id)
        if is_whole and console.is_main_process():
            _show(run_id, request)
        status = "FINISHED"
    except KeyboardInterrupt:
        status = "KILLED"
        raise
    except MlflowException as error:
        raise InputError(f"{mlflow.get_tracking_uri()} no longer takes the learning curve: {reason(error)}.") from error
    finally:
        if run_id and console.is_main_process():
            _end(run_id, status, is_whole, is_recorded)
    console.print_result(run_id)


def _shown(request: Request) -> str:
    return ", ".join(map(str, request.flags.learning_curve or ()))


def _from_first(find: Callable[[], Any]) -> Any:
    """Return what the first process finds, on all of them."""
    return broadcast_object_list([find() if console.is_main_process() else None])[0]


def _open(request: Request) -> str:
    """Begin the curve's run, or go on with it; return its id."""
    origin, client = request.origin, mlflow.MlflowClient()
    if origin.run:
        client.update_run(origin.run.info.run_id, "RUNNING")
        return origin.run.info.run_id
    tags = request.tags | {CURVE_TAG: _shown(request), TASK_TAG: origin.task}
    return open_run(request.flags.experiment, tags, origin.empty)


def _record(request: Request, run_id: str) -> bool:
    """Log how a new curve was started, without which it cannot go on; return True."""
    origin = request.origin
    with _no_file_refused():
        tracking.log_dict({"arguments": origin.arguments, "settings": origin.settings}, ARTIFACT, run_id)
        if origin.config:
            tracking.log_text(origin.config, "config.yaml", run_id)
    return True


@contextmanager
def _no_file_refused() -> Iterator[None]:
    """Raise InputError where a file of the curve's run cannot be written."""
    try:
        yield
    except OSError as error:
        raise InputError(f"the files of the learning curve cannot be written: {reason(error)}.") from error


def _end(run_id: str, status: str, is_whole: bool, can_go_on: bool) -> None:
    """End the curve's run, and say how to go on with one that is not whole."""
    client = mlflow.MlflowClient()
    try:
        if STOPPED_TAG in client.get_run(run_id).data.tags:
            client.delete_tag(run_id, STOPPED_TAG)
        if not is_whole and status == "FINISHED":
            client.set_tag(run_id, STOPPED_TAG, "max-time")
        client.set_terminated(run_id, status)
        tracking.log_messages(run_id)
    except (MlflowException, OSError) as error:
        logger.warning(f"the end of run {run_id} is not in MLflow: {reason(error)}.")
    if can_go_on and (not is_whole or status != "FINISHED"):
        command = shlex.join(["python", sys.argv[0] or "train.py", "--resume", run_id])
        logger.info(f"Go on with the learning curve, its finished trainings kept, with\n  {command}")


def _train_shares(main: Main, request: Request, run_id: str) -> bool:
    """Train on the shares that are not trained yet, the smallest first; return whether --max-time left time for all."""
    seconds = parse_duration(request.flags.max_time)
    deadline = time.monotonic() + seconds if seconds else None
    with _nested_in(run_id):
        for percent in request.flags.learning_curve or ():
            arguments, left = _from_first(partial(_next, request, run_id, percent, deadline))
            if arguments is None:
                continue
            if left is not None and left < 1:
                return False
            with console.without_results():
                main([*arguments, *([f"--max-time={left}s"] if left else [])])
            free_memory()
            if _from_first(partial(_was_stopped, run_id, percent)):
                return False
    return True


def _next(request: Request, run_id: str, percent: int, deadline: float | None) -> tuple[list[str] | None, int | None]:
    """Return the arguments of the training of a share, None where it is finished, and the seconds that are left."""
    left = None if deadline is None else int(deadline - time.monotonic())
    origin, children = request.origin, children_of(run_id)
    refuse_other_rows(children.values())
    child = children.get(percent)
    if child and is_finished(child):
        logger.info(f"Learning curve: {percent} % of the rows is trained, as run {child.info.run_id}")
        return None, left
    logger.info(f"Learning curve: {percent} % of the rows")
    given = without_flags(origin.given, OWN_FLAGS)
    # One that was refused its rows, or ended before it had any, begins anew.
    has_begun = child and (rows_of(child) or has_checkpoint(child))
    if child and has_begun and tracking.load_artifact_json(child.info.run_id, ARTIFACT):
        return ["--resume", child.info.run_id, *given], left
    name = mlflow.get_run(run_id).info.run_name[:LONGEST]
    own = [f"--train-percent={percent}", f"--experiment={request.flags.experiment}", f"--run-name={name}-{percent}"]
    return [*without_flags(origin.arguments, OWN_FLAGS), *_kept(origin), *given, *own], left


def _kept(origin) -> list[str]:
    """Return the flags that keep a fresh training of a curve that goes on as its others are, on another machine too."""
    left_out = {f"{one}_steps" for one in ("save", "eval") if origin.settings.get(f"{one}_strategy") != "steps"}
    return [flag for flag in origin.kept if flag.partition("=")[0][2:] not in left_out.union(SETTLED_ANEW)]


def _was_stopped(run_id: str, percent: int) -> bool:
    child = children_of(run_id).get(percent)
    return child is not None and STOPPED_TAG in child.data.tags


@contextmanager
def _nested_in(run_id: str) -> Iterator[None]:
    """Let each training become a child of a run, as MLflow's own variables say."""
    own = {environment.RUN: run_id, environment.NESTED: "true"}
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name)
            if value is not None:
                os.environ[name] = value


def free_memory() -> None:
    """Give back what a training has left, that of the GPU too."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.empty_cache()


def _show(run_id: str, request: Request) -> None:
    """Log the curve of the finished trainings into its run, and say what it says."""
    children, points = children_of(run_id), []
    refuse_other_rows(children.values())
    for percent in request.flags.learning_curve or ():
        child = children.get(percent)
        scores = RowScores.read(child.info.run_id) if child else None
        if child is None or scores is None:
            raise InputError(
                f"the training on {percent} % of the rows has no scores in MLflow yet; once all of it is there (see"
                " above), go on with the curve."
            )
        points.append(Point(percent, int(child.data.params["data.train_rows"]), child.info.run_id, scores))
    curve = LearningCurve(points)
    with _no_file_refused():
        log_curve(curve, run_id)
    for line in sentences(curve):
        logger.info(line)
