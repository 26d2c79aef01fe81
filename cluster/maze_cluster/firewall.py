"""Packet filter rules: the few that are ours, and how to take ours and kube-proxy's out again. Pure.

kube-proxy and the kubelet work in chains named KUBE-*, the CNI plugins in CNI-*. A cluster is only started where no
KUBE-* chain exists (`heal.plan_start`), so all of them are ours; CNI-* chains that were there before are kept.
"""

from __future__ import annotations

from collections.abc import Collection

from .layout import BRIDGE, POD_CIDR

COMMENT = "maze-cluster"
CHAIN_PREFIXES = ("KUBE-", "CNI-")

OUR_RULES: tuple[tuple[str, str, tuple[str, ...]], ...] = (
    # Pods reach the outside under the machine's address.
    ("nat", "POSTROUTING", ("-s", POD_CIDR, "!", "-d", POD_CIDR, "-m", "comment", "--comment", COMMENT, "-j", "MASQUERADE")),
    # Where something else (a container engine, say) sets the policy of FORWARD to DROP, pods would be cut off.
    ("filter", "FORWARD", ("-i", BRIDGE, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT")),
    ("filter", "FORWARD", ("-o", BRIDGE, "-m", "comment", "--comment", COMMENT, "-j", "ACCEPT")),
)  # fmt: skip
"""(table, chain, rule) of each rule that we add ourselves."""


def list_chains(save: str) -> frozenset[str]:
    """The names of all chains in the output of iptables-save."""
    return frozenset(line[1:].split()[0] for line in save.splitlines() if line.startswith(":"))


def plan_cleanup(save: str, keep: Collection[str] = ()) -> str:
    """The input for `iptables-restore --noflush` that removes what the cluster added, or "" where there is nothing.

    `save` is the output of iptables-save; `keep` names chains that were there before the cluster.
    """
    script: list[str] = []
    for table, chains, rules in _tables(save):
        ours = [chain for chain in chains if chain.startswith(CHAIN_PREFIXES) and chain not in keep]
        doomed = [rule for rule in rules if _chain_of(rule) not in ours and _is_ours(rule, ours)]
        if not ours and not doomed:
            continue
        script.append(f"*{table}")
        script += [f":{chain} - [0:0]" for chain in ours]  # declaring a chain empties it
        script += ["-D" + rule.removeprefix("-A") for rule in doomed]
        script += [f"-X {chain}" for chain in ours]
        script.append("COMMIT")
    return "\n".join(script) + "\n" if script else ""


def _tables(save: str) -> list[tuple[str, list[str], list[str]]]:
    """(table, chains, rules) of each table."""
    tables: list[tuple[str, list[str], list[str]]] = []
    for line in save.splitlines():
        if line.startswith("*"):
            tables.append((line[1:].strip(), [], []))
        elif line.startswith(":") and tables:
            tables[-1][1].append(line[1:].split()[0])
        elif line.startswith("-A ") and tables:
            tables[-1][2].append(line.rstrip())
    return tables


def _chain_of(rule: str) -> str:
    return rule.split()[1]


def _is_ours(rule: str, ours: Collection[str]) -> bool:
    words = rule.split()
    target = next((words[at + 1] for at, word in enumerate(words[:-1]) if word in ("-j", "-g")), "")
    return target in ours or f"--comment {COMMENT} " in rule
