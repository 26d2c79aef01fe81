"""Ended tasks in PostgreSQL, from which they are answered when their Runs are gone. Only where DATABASE_URL is set.

A task is in the archive before its Run may go: the api makes Runs with ANNOTATION_ARCHIVE "wanted", which keeps the
operator from deleting them, and says "done" once the row is committed. Any number of api processes does this side by side.
"""
