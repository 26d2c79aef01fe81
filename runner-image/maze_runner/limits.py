"""Every number of the runner, in one place. Sizes in bytes, times in seconds."""

from __future__ import annotations

INLINE_LIMIT = 65536
"""As maze_crds.protocol: encoded bytes up to which one output travels inside the result."""
INLINE_TOTAL = 262144
"""As maze_crds.protocol: encoded bytes of all inlined outputs of one result."""
DISPLAY_LIMIT = 2000
"""As maze_crds.protocol: characters of a readable stand-in."""
RENDERED_LIMIT = 65536
"""As maze_crds.protocol: bytes of JSON that shows a pickled output."""
RENDERED_TOTAL = 262144
"""The same for all outputs of one result, so that what is only to be seen never makes a result too large."""

RESULT_LIMIT = 3 * 1024 * 1024
"""A whole result as JSON; the operator takes reports of 4 MiB."""
MESSAGE_LIMIT = 1000
"""Characters of a failure's message."""
TRACEBACK_LIMIT = 65536
"""Characters of a failure's traceback."""
LOG_LIMIT = 16 * 1024 * 1024
"""Output of a task that is kept; all of it goes to the pod's own output."""
CHUNK = 1024 * 1024

JSON_DEPTH = 100
"""Deeper values are pickled: JSON parsers on the way refuse them."""
JSON_INT_BITS = 12000
"""Larger integers are pickled: Python reads at most 4300 digits."""
JSON_REPEATS = 100_000
"""Visits to lists and dicts that were there before; JSON would write each of them out again."""
PICKLE_PROTOCOL = 5
"""The newest that every supported Python reads."""

CONNECT_TIMEOUT = 60.0
"""Also between two reads."""
OPERATOR_TIMEOUT = 4.0
"""An operator that does not answer in time may hang, and another one have taken its place. To ask again does no harm."""
LEASE_TIMEOUT = 9.0
"""The same where the operator waits for up to 5 s for something to do (LEASE_WAIT of the protocol)."""
BACKOFF_FIRST = 0.1
BACKOFF_LAST = 5.0
RETRY_AFTER_LAST = 60.0
DOWNLOAD_TRIES = 6
LOG_TRIES = 3
UPLOAD_PATIENCE = 300.0
"""How long the upload of one output is tried before the attempt fails."""
WARM_UP_AFTER = 0.02
"""When the operator has not answered after this, what tasks will need is imported in the meantime."""
CALL_AGAIN_LAST = 1.0
"""The longest wait before asking the operator again: one that has just started leases nothing before all have asked."""
HOLDING_TIMEOUT = 1.0
"""Saying what is being worked on must not hold up the output and the time limit of the task."""
HOLDING_AGAIN = 0.5
LIMITS_PATIENCE = 10.0
"""How long the resizing of the pod may take."""
LIMITS_POLL = 0.002

KILL_GRACE = 2.0
"""Between SIGTERM and SIGKILL."""
DRAIN = 0.5
"""How long output is still read after the end of the task."""
REPORT_GRACE = 4.0
"""How long a result that is there already is still reported after SIGTERM; the pod has 5 s."""
