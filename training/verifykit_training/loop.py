"""The training loop; read it from top to bottom.

Randomness is a function of (seed, step, process), and of nothing that was drawn before: batches and
augmentation in ``batches``, dropout by seeding torch at every step. So a checkpoint needs no state
of a generator, and a resumed run ends at the same weights as one that was never stopped.
"""

from __future__ import annotations

import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, replace
from importlib.util import find_spec

import torch
from lightning_fabric import Fabric
from torch import Tensor

from verifykit._cpus import available_cpus
from verifykit.datasets import left_out_sentences
from verifykit.errors import VerifyKitError, shortened
from verifykit_training.augmentation import resolve_augmentation
from verifykit_training.batches import Batch, BatchPlan, build_loader, derived_seed
from verifykit_training.collapse import CollapseMonitor, require_finite
from verifykit_training.config import Config, require_same_config
from verifykit_training.dataset import read_training_data, to_records
from verifykit_training.errors import TrainingError, first_line
from verifykit_training.evaluation import validate
from verifykit_training.large_batches import TwoPasses
from verifykit_training.layout import nested_sentences
from verifykit_training.learner import Gathered, Learner, gather, input_of
from verifykit_training.loggers import open_loggers
from verifykit_training.losses import LossOutput
from verifykit_training.precision import PrecisionTimes, set_precision, time_precisions
from verifykit_training.preflight import build_fabric, examine, try_out
from verifykit_training.preparation import build_sampler, default_cache, prepare, require_apart
from verifykit_training.reporting import Display
from verifykit_training.run_folder import (
    CHECKPOINT_SCHEMA,
    Metrics,
    Outcome,
    RunFolder,
    TeacherRecord,
    TrainingJob,
    encoder_record,
    read_outcome,
    save_checkpoint,
    save_weights,
    trained_before,
)
from verifykit_training.schedule import rate_factor
from verifykit_training.stages import stage
from verifykit_training.teachers import (
    embed_targets,
    open_teacher,
    require_teachable,
    seen_by_teacher,
)
from verifykit_training.trained_on import BEFORE


def train(job: TrainingJob) -> Outcome:
    """Train as a configuration says, until its last epoch, no more gain, or a signal to stop.

    SIGINT and SIGTERM stop after the step under way, with a checkpoint; ``resume`` continues from there.
    ``extend`` gives a finished run more epochs.
    """
    # Fabric warns in every process; the first one's are enough.
    job = _extended(job) if job.extend else job
    if job.continues and job.config.run.precision == "auto":
        job = _with_precision(job, RunFolder(job.run).read_config().run.precision)
    fabric = build_fabric(job.config.run, _to_stderr if not job.quiet else lambda _: None)
    outcome = fabric.launch(_train, job)  # type: ignore[arg-type]  # it takes further arguments
    assert isinstance(outcome, Outcome)  # noqa: S101 - what _train returns
    return outcome


def _train(fabric: Fabric, job: TrainingJob) -> Outcome:
    with Display(quiet=job.quiet or not fabric.is_global_zero) as display, ExitStack() as stack:
        folder = RunFolder(job.run)

        def begin() -> None:
            """Do what one process does for all, and what may end the run before its first step."""
            if not job.continues:
                folder.require_unused()
                _require_promising(job, display)
            else:
                of_run = folder.read_config()
                require_same_config(job.config, _with_epochs(of_run, job) if job.extend else of_run)
            stack.enter_context(folder.held(resume=job.continues))

        _in_first(fabric, begin)
        job, times = _precision_chosen(fabric, job, display)
        run = _Run(fabric, job, display)
        if run.metrics and times:
            run.metrics.write("precision", run.outcome.step, asdict(times))
        try:
            return run.go()
        except torch.OutOfMemoryError as error:
            raise TrainingError(
                f"the memory of the device is full ({first_line(error)}): lower sampler.p or sampler.k and "
                "raise run.accumulate, or use run.precision = bf16-mixed"
            ) from error
        finally:
            if run.metrics:
                run.metrics.close()


def _extended(job: TrainingJob) -> TrainingJob:
    """Return the job with the epochs of the finished run and the additional ones."""
    folder = RunFolder(job.run)
    state, path = folder.load_last()
    outcome = read_outcome(path, state)
    if not outcome.ended:
        raise TrainingError(
            f"{shortened(job.run)} is not finished (epoch {outcome.epoch} of "
            f"{folder.read_config().run.epochs} is done): continue it with --resume; "
            "--extend is for finished runs"
        )
    total = {"epochs": outcome.epoch + job.extend}
    run = job.config.run.model_copy(update=total)
    return replace(job, config=job.config.model_copy(update={"run": run}))


def _with_epochs(of_run: Config, job: TrainingJob) -> Config:
    """Return a run's configuration with the number of epochs of a job."""
    run = of_run.run.model_copy(update={"epochs": job.config.run.epochs})
    return of_run.model_copy(update={"run": run})


def _precision_chosen(
    fabric: Fabric, job: TrainingJob, display: Display
) -> tuple[TrainingJob, PrecisionTimes | None]:
    """Return the job with a precision that the first process measured, if it is to be measured."""
    if job.config.run.precision != "auto":
        return job, None
    measured = None
    if fabric.is_global_zero:
        measured = time_precisions(job.config, fabric.device, fabric.world_size)
    times = fabric.broadcast(measured)
    assert isinstance(times, PrecisionTimes)  # noqa: S101 - the first process has measured
    set_precision(fabric, times.faster)
    display.say(times.sentence)
    return _with_precision(job, times.faster), times


def _with_precision(job: TrainingJob, precision: str) -> TrainingJob:
    """Return the job in a precision that was chosen."""
    run = job.config.run.model_copy(update={"precision": precision})
    return replace(job, config=job.config.model_copy(update={"run": run}))


def _require_promising(job: TrainingJob, display: Display) -> None:
    """Raise TrainingError for what would fail after the first epoch, or teach nothing."""
    found = read_training_data(job.data)
    examined = examine(job.config, to_records(found), job.triplets)
    if examined.problems:
        raise TrainingError("; ".join(examined.problems))
    for note in (*examined.notes, *left_out_sentences(found.left_out), *nested_sentences(found)):
        display.say(f"note: {note}")
    for note in try_out(job.config, job.teacher):
        display.say(f"note: {note}")


def _in_first(fabric: Fabric, work: Callable[[], None]) -> None:
    """Do something in the first process; an error there ends all of them."""
    error: VerifyKitError | None = None
    if fabric.is_global_zero:
        try:
            work()
        except VerifyKitError as found:
            error = found
    said = fabric.broadcast("" if error is None else str(error))
    if error is not None:
        raise error
    if said:
        raise TrainingError(said)


def _to_stderr(text: str) -> None:
    print(text, file=sys.stderr)  # noqa: T201 - before the display begins


class _Run:
    """The state of a run, and the loop over its steps."""

    def __init__(self, fabric: Fabric, job: TrainingJob, display: Display) -> None:
        config = job.config
        self.fabric, self.job, self.config, self.display = fabric, job, config, display
        self.folder = RunFolder(job.run)

        # One process crops, the others then find the crops done.
        with fabric.rank_zero_first(), display.preparing() as stages:
            self.data = prepare(config, job.data, input_of(config), job.cache, stages=stages)
        if not job.continues:
            for sentence in require_apart(self.data):
                display.say(f"note: {sentence}")
        sampler = build_sampler(
            config, self.data.train.records, self.data.train.labels, job.triplets
        )
        self.steps = config.run.steps_per_epoch or max(1, len(sampler) // config.run.accumulate)
        self.plan = BatchPlan(
            sampler,
            batches=self.steps * config.run.accumulate,
            seed=config.seed,
            unit=1 if config.sampler.name == "pk" else 3,
            rank=fabric.global_rank,
            processes=fabric.world_size,
        )
        # Torch counts processors, and not what a container may use of them.
        torch.set_num_threads(min(torch.get_num_threads(), available_cpus()))
        pinned = fabric.device.type == "cuda"
        self.loader = build_loader(self.data.train, self.plan, config.data.workers, pinned=pinned)

        self.teacher: TeacherRecord | None = None
        targets = self._taught() if config.distillation is not None else None
        classes = len(self.data.subjects)
        self.learner = Learner(fabric, config, classes, targets, is_restored=job.continues)
        self.outcome = self._resumed() if job.continues else Outcome()
        if job.extend:
            self.outcome.ended, self.outcome.without_gain = False, 0
        self.outcome.is_first_process = fabric.is_global_zero
        self.collapse = CollapseMonitor()
        self.metrics: Metrics | None = None
        if fabric.is_global_zero:
            self.metrics = self._begun()
        fabric.barrier()

    def _taught(self) -> Tensor:
        """Return the teacher's embeddings of the training images; the teacher is let go."""
        teacher = open_teacher(self.config, self.job.teacher, device=self.fabric.device)
        require_teachable(self.config, teacher)
        self.teacher, records = teacher.record, self.data.train.records
        cache = self.job.cache or default_cache()
        # One process computes, the others then find the embeddings done.
        with self.fabric.rank_zero_first(), self.display.preparing() as stages:
            progress = stage(stages, "embedding by the teacher", len(records))
            targets = embed_targets(teacher, records, cache, progress=progress)
        for sentence in seen_by_teacher(teacher, self.data):
            self.display.say(f"note: {sentence}")
        if missing := sum(targets.missing.values()):
            self.display.say(
                f"note: the teacher has no embedding of {missing} of {len(records)} images "
                f"({', '.join(targets.missing)}); they are trained on without it"
            )
        return torch.from_numpy(targets.rows)

    def go(self) -> Outcome:
        outcome, epochs = self.outcome, self.config.run.epochs
        self.display.begin(self.data, self.steps * epochs, outcome.step)
        if self.job.extend:
            self._save()  # or a run that is stopped now would count as finished
        if epochs == 0 and not outcome.ended:
            self._validate()
            outcome.ended = True
            self._save()
        with stop_signals() as stop:
            while outcome.epoch < min(epochs, self.job.stop_after or epochs) and not outcome.ended:
                if not self._epoch(stop):
                    self._save()
                    outcome.stopped_by = stop.kind or signal.SIGINT
                    self.display.say(f"stopped after step {outcome.step}; --resume continues")
                    break
                outcome.epoch, outcome.batch = outcome.epoch + 1, 0
                self._validate()
                outcome.ended |= outcome.epoch == epochs
                self._save()
        return outcome

    def _epoch(self, stop: StopEvent) -> bool:
        """The rest of an epoch; whether it came to its end."""
        outcome, run = self.outcome, self.config.run
        self.learner.enter_epoch(outcome.epoch)
        self.plan.set_epoch(outcome.epoch, outcome.batch * run.accumulate)
        batches = iter(self.loader)
        while outcome.batch < self.steps:
            began = time.perf_counter()
            values = self._step(batches)
            outcome.batch, outcome.step = outcome.batch + 1, outcome.step + 1
            values["seconds"] = time.perf_counter() - began
            if self.metrics and outcome.step % run.log_every_steps == 0:
                self.metrics.write("step", outcome.step, {"epoch": outcome.epoch + 1, **values})
            self.display.step(outcome.step, outcome.epoch + 1, values)
            if self.fabric.strategy.reduce_boolean_decision(stop.is_set(), all=False):
                return False
            if run.save_every_steps and outcome.step % run.save_every_steps == 0:
                self._save()
        return True

    def _step(self, batches: Iterator[Batch]) -> dict[str, float]:
        """One step of the optimiser, over as many global batches as are accumulated."""
        fabric, learner, step = self.fabric, self.learner, self.outcome.step
        torch.manual_seed(derived_seed(self.config.seed, step, fabric.global_rank))
        accumulate = self.config.run.accumulate
        sums: dict[str, float] = {}
        for part in range(accumulate):
            batch = fabric.to_device(next(batches))
            whole, output = self._backward(batch, sync=part + 1 == accumulate)
            spread, begins = self.collapse.update(whole.embeddings)
            if begins:
                self._say_collapse(spread)
            statistics = {name: float(value) for name, value in output.statistics.items()}
            for name, value in {
                "loss": float(output.loss.detach()),
                "spread": spread,
                **statistics,
            }.items():
                sums[name] = sums.get(name, 0.0) + value / accumulate
        epochs = self.config.run.epochs
        factor = rate_factor(self.config.schedule, step, self.steps * epochs, self.steps)
        norm = learner.take_step(factor)
        if self.config.run.precision != "16-mixed":
            self._require_finite(norm, "gradient's norm", whole.rows)
        return {**sums, "gradient_norm": float(norm), "rate_factor": factor}

    def _backward(self, batch: Batch, *, sync: bool) -> tuple[Gathered, LossOutput]:
        """Add the gradients of one global batch: in one pass, or in two by micro-batches."""
        fabric, learner, run = self.fabric, self.learner, self.config.run
        images = batch.images.contiguous(memory_format=torch.channels_last)
        passes = None
        if run.micro_batch:
            passes = TwoPasses(fabric, learner.model, images, run.micro_batch)
        with fabric.no_backward_sync(learner.model, enabled=not sync or passes is not None):
            embeddings = passes.embeddings if passes else learner.embed(images)
            whole = gather(fabric, embeddings, batch)
            output = learner.loss(whole, self.outcome.step)
            self._require_finite(output.loss, "loss", whole.rows)
            fabric.backward(output.loss / run.accumulate)
        if passes:
            passes.backward(sync=sync)
        return whole, output

    def _validate(self) -> None:
        """The metric on held-out subjects; keep the best weights, and see whether it is enough."""
        outcome, validation = self.outcome, self.config.validation
        if outcome.epoch % validation.every_epochs and outcome.epoch != self.config.run.epochs:
            return
        value: float | None = None
        if self.data.validation is not None:
            values: dict[str, float] = {}
            if self.fabric.is_global_zero:
                values = validate(self.learner, self.data.validation, self.config)
            values = self.fabric.broadcast(values)
            value = values[validation.metric]
            if self.metrics:
                self.metrics.write("validation", outcome.step, {"epoch": outcome.epoch, **values})
            self.display.validated(outcome.epoch, values)
        if value is None or outcome.best is None or value < outcome.best:
            outcome.best, outcome.best_epoch, outcome.without_gain = value, outcome.epoch, 0
            self._keep()
            return
        outcome.without_gain += 1
        if validation.patience and outcome.without_gain >= validation.patience:
            outcome.ended = True
            self.display.say(
                f"no gain in {outcome.without_gain} validations: stopped after epoch {outcome.epoch}, "
                f"kept epoch {outcome.best_epoch}"
            )

    def _keep(self) -> None:
        """The weights as they are now are the run's result, until better ones come."""
        if self.fabric.is_global_zero:
            subjects, outcome = self.folder.subjects_sha256(), self.outcome
            save_weights(self.folder.weights, self.learner.evaluated, subjects)
            self.folder.write_record(
                encoder_record(
                    self.config,
                    self.data,
                    outcome.best_epoch,
                    outcome.best,
                    subjects,
                    self.teacher,
                )
            )

    def _save(self) -> None:
        if self.fabric.is_global_zero:
            outcome = asdict(self.outcome)
            del outcome["stopped_by"]
            state = {"outcome": outcome, "data": self.data.digest}
            state |= {"teacher": self.teacher.digest} if self.teacher is not None else {}
            save_checkpoint(self.folder.last, {**state, "learner": self.learner.state()})
        self.fabric.barrier()

    def _begun(self) -> Metrics:
        config, data = self.config, self.data
        if not self.job.resume:
            written_out = config.model_copy(
                update={"augmentation": resolve_augmentation(config.augmentation)}
            )
            self.folder.write_text("config.toml", written_out.to_toml())
        if not self.job.continues:
            self.folder.metrics.unlink(missing_ok=True)
            self.folder.write_subjects(data, trained_before(config.encoder.weights))
            self._say_trained_before()
            if self.learner.loaded_weights is not None:
                self.folder.write_text("weights.json", self.learner.loaded_weights.to_json())
        names = list(dict.fromkeys(config.run.loggers))
        if config.run.tensorboard and "tensorboard" not in names and find_spec("tensorboard"):
            names.append("tensorboard")
        loggers = open_loggers(names, self.folder.path, config.model_dump(exclude_none=True))
        metrics = Metrics(self.folder, steps=self.outcome.step, loggers=loggers)
        refused = {str(path): reason for path, reason in data.refused.items()}
        counts = {"images": len(data.train), "subjects": len(data.subjects), "refused": refused}
        event = "extended" if self.job.extend else "resumed" if self.job.resume else "begun"
        metrics.write(event, self.outcome.step, counts)
        return metrics

    def _say_trained_before(self) -> None:
        known = (self.folder.read_trained_on().images or {}).get(BEFORE, frozenset())
        seen = known.intersection(self.data.images["validation"])
        if seen:
            self.display.say(
                f"note: {len(seen)} of {len(self.data.images['validation'])} validation images were trained "
                "on by the run that the weights come from: the validation flatters"
            )

    def _resumed(self) -> Outcome:
        """Everything as the checkpoint has it."""
        state, path = self.folder.load_last()
        by_content = state.get("schema", 1) >= CHECKPOINT_SCHEMA
        if state["data"] != (self.data.digest if by_content else self.data.names_digest):
            raise TrainingError(
                f"{shortened(self.folder.path)}: the training data are not those of the run that is to be "
                "resumed: an image was added, removed, renamed or replaced"
            )
        if by_content:
            self.folder.require_subjects(self.data)
        if self.teacher is not None and state.get("teacher") != self.teacher.digest:
            raise TrainingError(
                f"{shortened(self.folder.path)}: the teacher {shortened(self.teacher.name)} is not the one "
                "that the run began with: restore it, or train again in another folder"
            )
        if path != self.folder.last:
            self.display.say(
                f"note: {shortened(self.folder.last)} is damaged; the run continues from {shortened(path)}"
            )
            self.fabric.barrier()  # every process has read
            if self.fabric.is_global_zero:
                self.folder.last.unlink(missing_ok=True)  # or it would replace the good one
        outcome = read_outcome(path, state)
        try:
            self.learner.restore(state["learner"])
        except (KeyError, RuntimeError, ValueError) as error:
            raise TrainingError(
                f"{shortened(path)} does not fit the run's configuration: {first_line(error)}"
            ) from error
        return outcome

    def _say_collapse(self, spread: float) -> None:
        self.outcome.collapsed = True
        if self.metrics:
            self.metrics.write("collapse", self.outcome.step, {"spread": spread})
        self.display.say(
            f"collapse: the embeddings have become one point (spread {spread:.1e} in step "
            f"{self.outcome.step}); lower optimiser.rate, begin with softmax_stage.epochs = 2 or more, "
            "or take the loss batch_all or semi_hard"
        )

    def _require_finite(self, value: Tensor, what: str, rows: Tensor) -> None:
        outcome, records = self.outcome, self.data.train.records
        require_finite(
            value, what, epoch=outcome.epoch + 1, step=outcome.step, records=records, rows=rows
        )


class StopEvent(threading.Event):
    """Whether to stop, and the signal that said so."""

    kind = 0


@contextmanager
def stop_signals() -> Iterator[StopEvent]:
    """Set the event at SIGINT or SIGTERM, so that a step can end; a second one acts as usual.

    Outside the main thread, where Python takes no signals, the event is never set.
    """
    event = StopEvent()
    if threading.current_thread() is not threading.main_thread():
        yield event
        return
    before = {kind: signal.getsignal(kind) for kind in (signal.SIGINT, signal.SIGTERM)}

    def note(kind: int, _frame: object) -> None:
        event.kind = kind
        event.set()
        signal.signal(kind, before[signal.Signals(kind)])

    for kind in before:
        signal.signal(kind, note)
    try:
        yield event
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)
