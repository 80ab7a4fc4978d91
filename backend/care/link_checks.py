"""What the doctor checks of the links between Label Studio, this backend and its workers."""

from __future__ import annotations

import time

from backend.care.case import Case, Doubt, Fault
from backend.counted import counted
from backend.label_studio.answers import plain, refuses_password
from backend.label_studio.client import TITLE
from backend.project.credentials import SECRET_HEADER, fingerprint
from backend.queue.connection import redis_address, refusal
from backend.queue.jobs import ROUNDS, SHORT, has_worker
from backend.queue.marks import address_of_worker, data_of_worker, last_event
from backend.rounds.devices import device_in_words

DELIVERY_TIMEOUT_S = 5.0
BLOCKED = "reserved network address"
"""What Label Studio says of an address that one of its two switches blocks."""


def connected(case: Case) -> str:
    """Whether it has a folder here."""
    return f"{case.folder.path}"


def registered(case: Case) -> str:
    """The backend's address as Label Studio has it."""
    return case.address


def reachable(case: Case) -> str:
    """From Label Studio's side: it is offered a backend with a wrong password, which it tries and refuses to store."""
    answer = case.client.offer_backend(case.project_id, case.address)
    if BLOCKED in answer:
        raise Fault(
            f"Label Studio blocks the backend's private address {case.address}; start it with ML_BLOCK_LOCAL_IP=false"
        )
    if not refuses_password(answer, case.address):
        raise Fault(
            f"Label Studio cannot reach the backend at {case.address} ({answer}); start `maskal serve` there, open the "
            "firewall, or connect with another --backend-url (in a container 127.0.0.1 and localhost are the container)"
        )
    return "Label Studio reaches it"


def backend(case: Case) -> str:
    """What Label Studio thinks of the backend."""
    address = case.address
    (row,) = [b for b in case.client.backends(case.project_id) if b["url"].rstrip("/") == address][:1]
    if row["state"] != "CO":
        reason = plain(row["error_message"] or "no reason")
        raise Fault(
            f"Label Studio calls the backend {row['readable_state'].lower()} ({reason}); "
            f"{case.mend}; if that does not help, `maskal serve` uses another DATA_DIR than this command"
        )
    if row["title"] != TITLE:
        raise Fault(f"the backend's title should be {TITLE!r} and no version, got {row['title']!r}; {case.mend}")
    if case.labels.has_smart_tool and not row["is_interactive"]:
        raise Doubt(
            f"the labelling config has a smart tool, but what is drawn with it is not sent to the backend; {case.mend}"
        )
    return f"connected, says it serves {row['model_version']}"


def webhook(case: Case) -> str:
    """Whether events are sent here, with the secret."""
    address = f"{case.address}/webhook"
    hooks = [hook for hook in case.client.webhooks(case.project_id) if hook["url"].rstrip("/") == address]
    if not hooks:
        raise Fault(
            f"Label Studio has no webhook to {address}, so submissions are only noticed once a minute; {case.mend}"
        )
    hook = hooks[0]
    if not hook["is_active"] or not (hook["send_for_all_actions"] or hook["actions"]):
        raise Fault(f"the webhook to {address} is switched off; {case.mend}")
    if hook["headers"].get(SECRET_HEADER) != case.credentials.webhook_secret:
        raise Fault(f"the webhook to {address} carries a wrong {SECRET_HEADER}, so its calls are refused; {case.mend}")
    return address


def webhook_switch(case: Case) -> str:
    """Whether Label Studio would send an event to this address."""
    answer = case.client.offer_webhook(case.project_id, f"{case.address}/webhook")
    if BLOCKED in answer:
        raise Fault(
            f"Label Studio blocks webhooks to {case.address}; start it with SSRF_PROTECTION_ENABLED=false, "
            f"then {case.mend}"
        )
    return "SSRF_PROTECTION_ENABLED lets it pass"


def delivery(case: Case) -> str:
    """Label Studio is made to send an event, by a change of the project that changes nothing."""
    before = last_event(case.redis, case.folder.uid)
    case.client.update_project(case.project_id, show_collab_predictions=case.project.options["show_collab_predictions"])
    deadline = time.monotonic() + DELIVERY_TIMEOUT_S
    while time.monotonic() < deadline:
        now = last_event(case.redis, case.folder.uid)
        if now is not None and now != before:
            return "an event arrived just now"
        time.sleep(0.1)
    minutes = 0 if before is None else max(0, round((time.time() - before) / 60))
    last = "never" if before is None else f"{counted(minutes, 'minute')} ago"
    raise Fault(
        f"an event that Label Studio was made to send did not arrive within {DELIVERY_TIMEOUT_S:.0f} s (last one: "
        f"{last}); see the log of `maskal serve`, and give it the same REDIS_URL as this command"
    )


def redis(case: Case) -> str:
    """Whether it answers and takes what it is told."""
    if why := refusal(case.redis):
        raise Fault(f"the Redis at {redis_address(case.settings)} {why}")
    return redis_address(case.settings)


def workers(case: Case) -> str:
    """Whether both queues have one, of this DATA_DIR."""
    missing = [queue for queue in (ROUNDS, SHORT) if not has_worker(case.redis, queue)]
    if missing:
        raise Fault(
            f"no worker looks after the queue{'s' * (len(missing) > 1)} {' and '.join(missing)}; start `maskal worker`"
        )
    theirs = data_of_worker(case.redis)
    if theirs is None:
        raise Fault("the workers' clock does not tick; start `maskal worker` again")
    if theirs != fingerprint(case.settings):
        raise Fault("the worker uses another DATA_DIR than this command; give all of them the same one")
    address = address_of_worker(case.redis)
    own = f", with the LABEL_STUDIO_URL={address} of the worker's environment" if address else ""
    return f"both queues are looked after{own}"


def device(case: Case) -> str:
    """What the rounds compute on."""
    return device_in_words(case.folder.config().device)
