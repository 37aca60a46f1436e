"""What the server watches for by itself: failed runs, a retraining that stays away, runs whose process is gone.

An alert is an event (`prefect.automation.triggered`, in the UI's event feed and in `stroma doctor`), so that it needs
no service outside; with a notification block of Prefect's (mail, chat, webhook) it is sent as well.
"""

from datetime import timedelta
from uuid import UUID

from prefect.automations import AutomationCore, ChangeFlowRunState, DoNothing, EventTrigger, Posture, SendNotification
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import StateType
from prefect.events.schemas.events import ResourceSpecification
from prefect.exceptions import ObjectNotFound

from flows.errors import FlowError

HEARTBEAT, RUNNING = "prefect.flow-run.heartbeat", "prefect.flow-run.Running"
OURS = ["reproduce", "retrain", "drift"]
ENDED = frozenset(
    f"prefect.flow-run.{state}" for state in ("Completed", "Failed", "Crashed", "Cancelled", "Cancelling")
)
WAITING = frozenset(f"prefect.flow-run.{state}" for state in ("Paused", "Suspended", "AwaitingRetry", "Scheduled"))

# Ten heartbeats (prefect.toml): a busy interpreter or a server that restarts loses one or two, and to call a living
# retraining dead would let a second one in.
DEAD_AFTER = timedelta(minutes=5)
# A week, by the schedule of prefect.yaml, and a day for a long one.
OVERDUE_AFTER = timedelta(days=8)

FAILED, OVERDUE, GONE = "stroma: run failed", "stroma: no retrain finished", "stroma: process is gone"


def shipped(
    notify: UUID | None = None, dead_after: timedelta = DEAD_AFTER, overdue_after: timedelta = OVERDUE_AFTER
) -> list[AutomationCore]:
    """The automations. notify: a notification block's document, or None."""
    return [_run_failed(notify), _retrain_overdue(notify, overdue_after), _process_gone(dead_after)]


def _run_failed(notify: UUID | None) -> AutomationCore:
    """Only runs of deployments: who runs `stroma repro` at a terminal sees the failure there."""
    text = (
        "{{ flow.name }} / {{ flow_run.name }}: {{ flow_run.state.name }}\n{{ flow_run.state.message }}\n"
        "{{ flow_run|ui_url }}\nWhat to do: docs/operations.md"
    )
    return AutomationCore(
        name=FAILED,
        description="A run of a deployment failed, or its process ended without saying so.",
        trigger=EventTrigger(
            expect={"prefect.flow-run.Failed", "prefect.flow-run.Crashed"},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification({"prefect.resource.role": "deployment", "prefect.resource.name": OURS}),
            posture=Posture.Reactive,
        ),
        actions=[_alert(notify, text)],
    )


def _retrain_overdue(notify: UUID | None, after: timedelta) -> AutomationCore:
    """Every finished retrain opens a new window, as it is both what is awaited and what the waiting starts from; a
    window without one fires, and again at the end of each further one."""
    finished = {"prefect.flow-run.Completed"}
    text = f"No retrain finished within {after}. What to do: docs/operations.md, `stroma doctor`"
    return AutomationCore(
        name=OVERDUE,
        description="Neither promoted, nor rejected, nor unchanged: schedule, worker or server stands still.",
        trigger=EventTrigger(
            after=finished,
            expect=finished,
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": "retrain"}),
            posture=Posture.Proactive,
            within=after,
        ),
        actions=[_alert(notify, text)],
    )


def _process_gone(after: timedelta) -> AutomationCore:
    """A run that was killed together with what watched it would stay Running for ever and hold its slot.

    It may have died before its first heartbeat, so that the waiting starts with Running. That every run has, also those
    that never send a heartbeat: other projects' and those started by hand, which have no deployment.
    """
    return AutomationCore(
        name=GONE,
        description="A run whose heartbeat stopped is marked crashed, which frees its slot.",
        trigger=EventTrigger(
            after={RUNNING, HEARTBEAT},
            expect={HEARTBEAT, *ENDED, *WAITING},
            match=ResourceSpecification({"prefect.resource.id": "prefect.flow-run.*"}),
            match_related=[
                ResourceSpecification({"prefect.resource.role": "flow", "prefect.resource.name": OURS}),
                ResourceSpecification({"prefect.resource.role": "deployment"}),
            ],
            for_each={"prefect.resource.id"},
            posture=Posture.Proactive,
            within=after,
        ),
        actions=[
            ChangeFlowRunState(state=StateType.CRASHED, message=f"No heartbeat for {after}: its process is gone.")
        ],
    )


def _alert(notify: UUID | None, text: str) -> DoNothing | SendNotification:
    return SendNotification(block_document_id=notify, subject="Stroma", body=text) if notify else DoNothing()


def ship(notify: str | None = None) -> None:
    """Bring the server's copies up to date, by name. One that is as it should be is left alone, because an update
    starts its waiting anew; one that a person switched off stays off.

    notify: TYPE/NAME of a notification block. Raises FlowError where the server has no such block.
    """
    block = _block(notify) if notify else None
    with get_client(sync_client=True) as client:
        for wanted in shipped(block):
            present = client.read_automations_by_name(wanted.name)
            if not present:
                client.create_automation(wanted)
            elif _substance(present[0]) != _substance(wanted):
                wanted.enabled = present[0].enabled
                client.update_automation(present[0].id, AutomationCore(**wanted.model_dump(exclude={"owner_resource"})))


def _substance(automation: AutomationCore) -> dict[str, object]:
    return automation.model_dump(include={"description", "trigger", "actions"})


def _block(notify: str) -> UUID:
    kind, _, name = notify.partition("/")
    try:
        with get_client(sync_client=True) as client:
            return client.read_block_document_by_name(name, kind).id
    except ObjectNotFound:
        raise FlowError(
            f"the server has no block {notify}; make one in its UI under Blocks and name it as TYPE/NAME, as `prefect "
            "block ls` lists it"
        ) from None
