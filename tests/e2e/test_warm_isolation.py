"""Tasks that share a pod: none sees what another one of them did, and each has its own log."""

from __future__ import annotations

import requests

from cluster import Cluster, python
from maze_http import API
from maze_io.store import ObjectStore
from warm import await_running, pods_in, release

LOOK = """
import json, os, resource, signal, stat, sys, threading
def look(p):
    return {
        "environment": dict(os.environ),
        "umask": [mask := os.umask(0), os.umask(mask)][0],
        "limits": [list(resource.getrlimit(kind)) for kind in (resource.RLIMIT_NOFILE, resource.RLIMIT_FSIZE)],
        "niceness": os.nice(0),
        "directory": [os.getcwd(), stat.S_IMODE(os.stat(".").st_mode)],
        "files": {folder: sorted(os.listdir(folder)) for folder in (".", "/work", "/tmp", "/dev/shm")},
        "processes": sum(name.isdigit() for name in os.listdir("/proc")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "threads": threading.active_count(),
        "module": json.loads("{}"),
        "modules": "helper" in sys.modules,
        "path": sys.path,
        "arguments": sys.argv,
        "signals": [str(signal.getsignal(each)) for each in (signal.SIGUSR1, signal.SIGCHLD)],
    }
"""
UNTIDY = (
    LOOK
    + """
import subprocess, time
def untidy(p):
    os.environ["LEFT"] = "here"
    for folder in (".", "/work", "/tmp", "/dev/shm"):
        with open(os.path.join(folder, "left.txt"), "w") as file:
            file.write("left")
    os.mkdir("/tmp/closed")
    open("/tmp/closed/file", "w").close()
    os.chmod("/tmp/closed", 0)
    with open("helper.py", "w") as file:
        file.write("value = 1")
    import helper
    opened = [os.open("left.txt", os.O_RDONLY) for _ in range(5)]
    threading.Thread(target=time.sleep, args=(600,)).start()
    subprocess.Popen(["sleep", "600"])
    talks = "import time; [(print('a stray talks', flush=True), time.sleep(0.01)) for _ in range(60000)]"
    subprocess.Popen([sys.executable, "-c", talks], start_new_session=True)
    if os.fork() == 0:
        os.setsid()
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            time.sleep(600)
        os._exit(0)
    os.wait()
    json.loads = lambda text: "changed"
    sys.path.append("/elsewhere")
    sys.argv.append("more")
    os.mkdir("deeper")
    os.chmod(".", 0o755)
    os.chdir("deeper")
    os.umask(0o77)
    os.nice(5)
    resource.setrlimit(resource.RLIMIT_NOFILE, (64, 64))
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**20, 2**20))
    for each in (signal.SIGUSR1, signal.SIGCHLD):
        signal.signal(each, signal.SIG_IGN)
    return look(p)
"""
)
TALKS = "import sys\ndef f(p):\n    print('I am', p['who'])\n    print('error of', p['who'], file=sys.stderr)\n    return {}"


def test_what_a_task_did_to_its_world_is_not_seen_by_the_next_one(cluster: Cluster, store: ObjectStore) -> None:
    name = cluster.run(
        python("before", LOOK),
        {"name": "untidy", "python": {"source": UNTIDY, "function": "untidy"}, "dependsOn": ["before"]},
        python("after", LOOK, dependsOn=["untidy"]),
        python("later", LOOK, dependsOn=["after"]),
    )
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    assert len(pods_in(status)) == 1
    before, untidy, after, later = (
        {key: output["value"] for key, output in cluster.result(store, name, task)["outputs"].items()}
        for task in ("before", "untidy", "after", "later")
    )
    assert not [key for key in before if untidy[key] == before[key]], "it was untidy in everything that is looked at"
    assert after == before
    assert later == before


def test_the_log_of_a_task_has_its_own_lines_only(cluster: Cluster, store: ObjectStore) -> None:
    stray = "import subprocess, sys, time\ndef f(p):\n    print('I am loud')\n" + (
        "    talks = \"import time\\nwhile True: print('a stray talks', flush=True); time.sleep(0.001)\"\n"
        "    subprocess.Popen([sys.executable, '-c', talks], start_new_session=True)\n"
        "    time.sleep(0.5)\n    return {}"
    )
    tasks = [python("loud", stray)]
    for n in range(3):
        before = tasks[-1]["name"]
        tasks.append(python(f"t{n}", TALKS, inputs={"who": {"value": f"number {n}"}}, dependsOn=[before]))
    name = cluster.run(*tasks)
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    assert len(pods_in(status)) == 1
    assert cluster.log(store, name, "loud").startswith("I am loud\n")
    for n in range(3):
        said = cluster.log(store, name, f"t{n}")
        assert sorted(said.splitlines()) == [f"I am number {n}", f"error of number {n}"]
        answer = requests.get(f"{API}/api/maze/runs/{name}/tasks/t{n}/logs", timeout=60)
        assert answer.status_code == 200
        assert answer.text == said


def test_a_log_that_is_followed_has_the_lines_of_its_task_only(cluster: Cluster) -> None:
    def says(who: str) -> str:
        return (
            f"import os, time\ndef f(p):\n    print('{who} begins', flush=True)\n"
            f"    while not os.path.exists('/tmp/go'): time.sleep(0.05)\n    print('{who} ends')\n    return {{}}"
        )

    name = cluster.run(
        python("t0", TALKS, inputs={"who": {"value": "earlier"}}),
        python("t1", says("t1"), dependsOn=["t0"]),
        python("t2", TALKS, inputs={"who": {"value": "later"}}, dependsOn=["t1"]),
    )
    (pod,) = pods_in(await_running(cluster, name, "t1"), "t1")
    url = f"{API}/api/maze/runs/{name}/tasks/t1/logs?follow=true"
    with requests.get(url, stream=True, timeout=120) as answer:
        lines = answer.iter_lines(chunk_size=1, decode_unicode=True)
        assert next(lines) == "t1 begins"
        assert requests.get(url.removesuffix("?follow=true"), timeout=60).text == "t1 begins\n"
        release(cluster, pod)
        assert list(lines) == ["t1 ends"]
    status = cluster.ended(name)
    assert status["phase"] == "Succeeded", status
    assert pods_in(status) == {pod}
