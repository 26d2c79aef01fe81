"""Events that are posted to an OpRun (protocol.OpEventRequest): weighed, what is large stored, then acknowledged."""
