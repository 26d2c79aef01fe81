"""An OpRun: `plan` of its one task, with a timeline of events and numbered attempts around it.

One call goes through
    wishes (spec.override, spec.retries) → a start that the pod shows → posted events, up to one that ends or begins an
    attempt → the plan of the task, which is told what was posted as if a runner had reported it → events for what came of it

so that what is posted and what the pod shows become one history: each attempt starts and ends once. core/optable.py says
what an event does. A state follows from the events alone, but for overrides. `status.op.state` is the current attempt's.

The attempt of the task is the OpRun's own: a waiting task's last attempt is the one before the current.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime

from maze_crds.oprun import MAX_ATTEMPTS, PAGE, TERMINAL_STATES, EventType, OpState, OpStatus
from maze_crds.protocol import Result
from maze_crds.run import (
    TERMINAL_RUNS,
    Cause,
    DesiredState,
    FailedAttempt,
    RunPhase,
    RunStatus,
    TaskPhase,
    TaskStatus,
)
from maze_operator.core.admission import ACTIVE
from maze_operator.core.assignment import REPORTED_FAILED
from maze_operator.core.diagnosis import failure
from maze_operator.core.ended import plan_ended
from maze_operator.core.opstatus import end_directly, reopen
from maze_operator.core.optable import SETTLING, Effect, Refused, judge_event, locked_text
from maze_operator.core.retry import GIVEN_UP
from maze_operator.core.timeline import Timeline, fits_event, output_values
from maze_operator.core.values import AttemptId, Facts, Plan, PodView, Posted, Reply, RunView, Settings, Started

AT_ONCE = PAGE // 2
"""Posted events that one plan takes: all of them stay in the status for a while, where a repeat finds them."""
OVERRIDDEN = "Overridden"
CANCELLED_TEXT = "Cancelled by user"
RETRIED_TEXT = "Manual retry"

Execute = Callable[[RunView, Facts], Plan]


def plan_op(
    run: RunView,
    pods: Mapping[AttemptId, PodView],
    facts: Facts,
    now: datetime,
    settings: Settings,
    execute: Execute,
) -> Plan:
    """`execute` plans the workflow of a Run that has not ended."""
    return _OpPlanner(run, pods, facts, now, settings, execute).make()


class _OpPlanner:
    def __init__(
        self,
        run: RunView,
        pods: Mapping[AttemptId, PodView],
        facts: Facts,
        now: datetime,
        settings: Settings,
        execute: Execute,
    ) -> None:
        assert run.spec.op_run is not None
        self.run, self.pods, self.facts, self.now, self.settings, self.execute = (
            run,
            pods,
            facts,
            now,
            settings,
            execute,
        )
        self.spec = run.spec.op_run
        self.status = run.status
        self.line = Timeline(run.status.op, now)
        self.name = next(iter(run.workflow.tasks)) if run.workflow else None
        self.silent = False
        """An override is being carried out: what follows from it is no event."""
        self.settled: tuple[Effect, Posted | None] | None = None
        self.replies: list[Reply] = []

    def make(self) -> Plan:
        self._override()
        self._retry()
        self._align()
        if not self._ended():
            self._note_start()
            if self.run.spec.desired_state == DesiredState.CANCELLED:
                self.settled = (Effect.CANCEL, None)  # it was written first: what is posted finds the Run ended
        for posted in self.facts.posted[:AT_ONCE]:
            if self.settled is not None:
                break
            self.replies.append(self._take(posted))
        made = self._plan()
        self._note_delivery()
        op, pages = self.line.status()
        before = self.run.status.op
        if before is None or _substance(op) != _substance(before) or self._generation_changed():
            op = op.model_copy(update={"updated_time": self.now})
        status = made.status.model_copy(update={"op": op, "observed_generation": self.run.generation})
        replies = tuple(replace(reply, state=op.state.value) for reply in self.replies)
        wake = 0.0 if len(replies) < len(self.facts.posted) else made.requeue_after
        return replace(made, status=status, replies=replies, pages=pages, requeue_after=wake)

    def _generation_changed(self) -> bool:
        return self.run.status.observed_generation != self.run.generation

    def _ended(self) -> bool:
        return self.status.phase in TERMINAL_RUNS

    # Wishes

    def _override(self) -> None:
        wish = self.run.spec.override
        if wish is None:
            return
        if wish.state is not None and wish.state.number > self.line.op.state_override:
            self.line.change(state_override=wish.state.number)
            self._override_state(wish.state.state)
        if wish.outputs is not None and wish.outputs.number > self.line.op.outputs_override:
            self.line.change(
                outputs_override=wish.outputs.number, outputs=dict(wish.outputs.outputs), outputs_from=None
            )

    def _override_state(self, state: OpState) -> None:
        if state == self.line.state:
            return
        if state in TERMINAL_STATES:
            self.line.close(state, OVERRIDDEN, None, None)
            self.status = end_directly(self.status, state, OVERRIDDEN, self.now)
        elif state is OpState.RUNNING:
            if self._is_active():
                self.line.set(state=state, start_time=self.line.attempts[-1].start_time or self.now)
        elif self.line.attempt < MAX_ATTEMPTS:
            if self._ended():
                self._reopen()
            else:
                self.silent = True
                self.settled = (Effect.GIVE_UP, None)

    def _retry(self) -> None:
        if self.run.spec.retries > self.line.op.retries and self._ended():
            self.line.change(retries=self.run.spec.retries)
            if self.line.attempt < MAX_ATTEMPTS:
                self._reopen()
                self.line.say(EventType.RETRIED, RETRIED_TEXT, {"force": True})

    def _reopen(self) -> None:
        self.line.drop_outputs()
        self.line.begin()
        self.status = reopen(self.status)

    # Posted events

    def _take(self, posted: Posted) -> Reply:
        known = self.line.find(posted.key)
        if known is not None:
            return Reply(200, id=known.id)
        if posted.attempt is not None and posted.attempt != self.line.attempt:
            return Reply(409, f"attempt {posted.attempt} is over: attempt {self.line.attempt} is the current one")
        try:
            effect = judge_event(posted.type, posted.force, self.line.state, self.line.attempt, self.spec.max_attempts)
        except Refused as error:
            return Reply(400, str(error))
        if effect in SETTLING and self.name is None:
            return Reply(503, self.run.problem or "the workflow of the Run is not known yet")
        if effect is Effect.REOPEN:
            if self.run.spec.desired_state == DesiredState.CANCELLED:
                return Reply(400, f"{locked_text(self.line.state)}; retry it by POST /runs/{self.run.name}/retry")
            self._reopen()
            self._align()
        elif effect is not Effect.START:
            self._imply_start(posted)
        self._change_by(effect, posted)
        kept = self.line.keep(posted)
        if effect in SETTLING:
            self.settled = (effect, posted)
        return Reply(200, id=kept)

    def _change_by(self, effect: Effect, posted: Posted) -> None:
        if effect is Effect.START:
            current = self.line.attempts[-1]
            self.line.set(
                state=OpState.RUNNING,
                start_time=current.start_time or self.now,
                worker=posted.worker or current.worker,
                gpu=posted.gpu if posted.gpu is not None else current.gpu,
            )
        elif effect is Effect.PROGRESS:
            self.line.set(progress=int(posted.msg))

    def _imply_start(self, posted: Posted) -> None:
        """What the container says, or somebody of what it does, shows that it runs, before its pod does."""
        pod = self._pod()
        placed = pod is not None and pod.node is not None and pod.waiting is None
        here = posted.own or (posted.attempt is not None and placed)
        if here and self._is_active() and not self.line.started:
            self._start(pod, self.now)

    # What the pod shows

    def _note_start(self) -> None:
        pod = self._pod()
        if pod is None or self.line.started or not self._is_active():
            return
        if pod.running_since is not None:
            self._start(pod, self.now)
        elif pod.ended is not None and pod.ended.exit_code is not None:
            created = self.line.attempts[-1].created_time
            self._start(pod, max(created, pod.ended.started) if pod.ended.started else self.now)

    def _start(self, pod: PodView | None, time: datetime) -> None:
        node, name = (pod.node, pod.name) if pod is not None else (None, None)
        self.line.set(state=OpState.RUNNING, start_time=time, worker=node, pod=name)
        self.line.say(EventType.STARTED, "", {"worker_id": node, "pod": name})

    def _pod(self) -> PodView | None:
        return self.pods.get(AttemptId(self.name, self.line.attempt)) if self.name is not None else None

    def _task(self) -> TaskStatus | None:
        return next((task for task in self.status.tasks if task.name == self.name), None)

    def _is_active(self) -> bool:
        task = self._task()
        return task is not None and task.phase in ACTIVE and task.attempt == self.line.attempt

    # The task

    def _align(self) -> None:
        """A task that waits goes on with the OpRun's current attempt, also where earlier ones never came to a pod."""
        if self.name is None or self._ended():
            return
        task = self._task() or TaskStatus(name=self.name)
        if task.phase == TaskPhase.PENDING and task.attempt != self.line.attempt - 1:
            self._put(task.model_copy(update={"attempt": self.line.attempt - 1}))

    def _put(self, task: TaskStatus) -> None:
        self.status = self.status.model_copy(update={"tasks": [task]})

    def _plan(self) -> Plan:
        run = replace(self.run, status=self.status)
        if self._ended():
            return plan_ended(run, self.pods, self.now, self.settings)
        facts = self.facts
        if self.settled is not None and self.settled[0] is not Effect.REOPEN:
            if self.settled[0] is Effect.CANCEL:
                run = replace(run, spec=run.spec.model_copy(update={"desired_state": DesiredState.CANCELLED}))
            elif self.name is not None:
                result = self._settle(*self.settled)
                run = replace(run, status=self.status)
                facts = replace(facts, results={**facts.results, AttemptId(self.name, self.line.attempt): result})
        elif self._is_active() and self.line.started and self._pod() is not None and self.name is not None:
            attempt = AttemptId(self.name, self.line.attempt)
            facts = replace(facts, started={attempt: Started(self.now, None), **facts.started})
        made = self.execute(run, facts)
        self._follow(made, facts)
        return made

    def _settle(self, effect: Effect, posted: Posted | None) -> Result:
        """Make the posted end what the attempt of the task has left."""
        task = self._task() or TaskStatus(name=self.name or "")
        if task.phase == TaskPhase.PENDING:
            update = {"phase": TaskPhase.STARTING, "attempt": self.line.attempt, "scheduled_time": self.now}
            self._put(task.model_copy(update={**update, "retry_time": None, "reason": None, "message": None}))
        empty: Result = {"startTime": "", "completionTime": "", "outputs": {}}
        if effect is Effect.SUCCEED:
            return (posted.result if posted else None) or empty
        message = (posted.error or str(posted.msg)) if posted else ""
        if effect is Effect.FAIL:
            return {**empty, "failure": failure(Cause.USER_ERROR, REPORTED_FAILED, message or "no reason was given")}
        return {**empty, "failure": failure(Cause.INFRASTRUCTURE, GIVEN_UP, message or "a new attempt was asked for")}

    def _follow(self, made: Plan, facts: Facts) -> None:
        """What the plan of the task made of the current attempt becomes part of the history."""
        said = self.settled[0] if self.settled else None
        task = next((task for task in made.status.tasks if task.name == self.name), None)
        number = self.line.attempt
        failed = next((one for one in task.failed_attempts if one.attempt == number), None) if task else None
        if task is not None and failed is not None:
            self._fail(failed, said)
            self.line.begin()
            if said is not Effect.GIVE_UP and not self.silent:
                self.line.say(EventType.RETRIED, f"attempt {number} failed; retrying", {"force": False})
        elif made.status.phase in TERMINAL_RUNS:
            self._end(made.status, task, facts, said)
        elif task is not None:
            self.line.set(reason=task.reason, message=task.message)
        image = self._image()
        if image is not None:
            self.line.change(image=image)

    def _image(self) -> str | None:
        task = self.run.workflow.tasks[self.name] if self.run.workflow and self.name else None
        return task.container.image if task is not None and task.container is not None else None

    def _fail(self, failed: FailedAttempt | TaskStatus | RunStatus, said: Effect | None) -> None:
        reason, message = failed.reason or "Failed", failed.message or ""
        exit_code = None if isinstance(failed, RunStatus) else failed.exit_code
        self._close(OpState.FAILED, reason, message, exit_code)
        if said not in (Effect.FAIL, Effect.GIVE_UP) and not self.silent:
            payload = {"error_message": message, "reason": reason, "exit_code": exit_code}
            given = {key: value for key, value in payload.items() if value is not None}
            self.line.say(EventType.FAILED, f"attempt {self.line.attempt} failed: {reason}", given)

    def _end(self, status: RunStatus, task: TaskStatus | None, facts: Facts, said: Effect | None) -> None:
        if status.phase == RunPhase.SUCCEEDED:
            result = facts.results.get(AttemptId(self.name or "", self.line.attempt))
            pod = self._pod()
            ended = pod.ended if pod is not None else None
            self._close(OpState.COMPLETED, None, None, ended.exit_code if ended else None)
            self.line.take_outputs(result)
            if said is not Effect.SUCCEED:
                payload = {"outputs": output_values(result)}
                small = fits_event(payload)
                self.line.say(EventType.COMPLETED, "", payload if small else {}, outputs=not small)
        elif status.phase == RunPhase.CANCELLED:
            self._close(OpState.CANCELLED, "Cancelled", None, None)
            if self.settled is None or self.settled[1] is None:
                self.line.say(EventType.CANCELLED, CANCELLED_TEXT, {})
        else:
            self._fail(task if task is not None and task.phase == TaskPhase.FAILED else status, said)

    def _close(self, state: OpState, reason: str | None, message: str | None, exit_code: int | None) -> None:
        pod = self._pod()
        self.line.close(state, reason, message, exit_code)
        if pod is not None:
            current = self.line.attempts[-1]
            self.line.set(pod=pod.name, worker=current.worker or pod.node)

    def _note_delivery(self) -> None:
        if self.facts.delivered is not None:
            delivered = max(self.line.op.delivered, self.facts.delivered)
            self.line.change(delivered=delivered, delivery_problem=self.facts.delivery_problem)


def _substance(op: OpStatus) -> OpStatus:
    """What a reader of the Run cares for: not how far delivery is."""
    return op.model_copy(update={"delivered": 0, "delivery_problem": None, "updated_time": None})
