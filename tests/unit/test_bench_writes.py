"""What the API server's own counters say of the operator's writes."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "bench"))

from writes import KINDS, build_schema, read_counts

METRICS = """\
# TYPE apiserver_flowcontrol_dispatched_requests_total counter
apiserver_flowcontrol_dispatched_requests_total{flow_schema="mine-pods",priority_level="workload-low"} 12
apiserver_flowcontrol_dispatched_requests_total{flow_schema="mine-pods",priority_level="workload-high"} 1e+03
apiserver_flowcontrol_dispatched_requests_total{flow_schema="service-accounts",priority_level="workload-low"} 4321
apiserver_flowcontrol_rejected_requests_total{flow_schema="mine-runs",priority_level="workload-low"} 7
"""


def test_only_our_counters_count() -> None:
    assert read_counts(METRICS, {"mine-pods": "pods", "mine-runs": "runs"}) == {"pods": 1012.0, "runs": 0.0}


def test_a_write_is_of_the_first_kind_that_matches_and_of_one_namespace() -> None:
    made = [build_schema(kind, "place", kind, number)["spec"] for number, kind in enumerate(KINDS)]
    precedences = [one["matchingPrecedence"] for one in made]
    assert precedences == sorted(set(precedences))
    assert list(KINDS)[-1] == "others"
    rules = [one["rules"][0]["resourceRules"][0] for one in made]
    assert all(rule["namespaces"] == ["place"] for rule in rules)
    assert rules[-1]["resources"] == ["*"]
    assert not {"get", "list", "watch"} & {verb for rule in rules for verb in rule["verbs"]}
