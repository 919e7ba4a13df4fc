"""Jobs that are parts of others. For the job above its part is one task, which a node does by itself.

`calling` looks at what a handler asks for, before its step is written. `own` is the node's session, beside those of the
workers: it is offered such tasks as these are theirs. `doing` has one of them done: its job is created under an id that
the task names, so whoever gets the task next finds the same job, and `taken` knows of what of it the job above was told
before. `bonds` ends a part with the job above it, whichever node that runs on, and lets no part begin of which nobody
knows any more. `listing` shows the parts of a job.
"""

from __future__ import annotations
