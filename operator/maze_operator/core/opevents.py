"""Whether a posted event of an OpRun is valid in itself, and what it means; whether it fits the Run is for core/oprun.py."""
