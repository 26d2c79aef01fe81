"""Pure decisions: no I/O, no clock, no kopf. `plan.plan` is the entry; every policy has a file and a table test."""
