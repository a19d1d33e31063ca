"""Run Slurm with a few virtual nodes on this machine, to try job scripts. It needs slurm-wlm and munge, but not root.

usage: python scripts/virtual_slurm.py start FOLDER [--nodes 3]     then: export SLURM_CONF=FOLDER/slurm.conf
       python scripts/virtual_slurm.py stop FOLDER

The nodes are 127.0.0.2, 127.0.0.3 and so on, addresses of the machine itself on Linux. All files are in FOLDER. There
are two partitions, "low" (the default) and "high". A job of "high" preempts those of "low", which get SIGUSR1 and are
queued again.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

PROGRAMS = ("munged", "slurmctld", "slurmd", "sinfo", "scancel", "squeue")
#: Limit in seconds for starting, and for ending, all daemons.
PATIENCE = 60
CONFIGURATION = """\
ClusterName=virtual
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
CredType=cred/munge
AuthInfo=socket={folder}/munge.socket
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool-%n
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd-%n.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd-%n.log
SlurmdParameters=config_overrides
SlurmctldParameters=preempt_send_user_signal
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerType=sched/builtin
ReturnToService=2
KillWait=5
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
{nodes}
PartitionName=low Nodes=ALL Default=YES MaxTime=UNLIMITED State=UP PriorityTier=1 GraceTime=20
PartitionName=high Nodes=ALL MaxTime=UNLIMITED State=UP PriorityTier=10 PreemptMode=OFF
"""


def build_parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("start", "stop"))
    parser.add_argument("folder", type=Path)
    parser.add_argument("--nodes", type=int, default=3, metavar="N", help="virtual nodes (3)")
    return parser


def main() -> None:
    """Start or stop the daemons. If a program is missing or fails, exit with one line."""
    args = build_parser().parse_args()
    folder = args.folder.resolve()
    os.environ.update(PATH=f"{os.environ['PATH']}:/usr/sbin", SLURM_CONF=str(folder / "slurm.conf"))
    missing = [name for name in PROGRAMS if shutil.which(name) is None]
    if missing:
        sys.exit(f"error: {', '.join(missing)} not found: apt-get install slurm-wlm munge")
    if not 1 <= args.nodes <= 100:
        sys.exit(f"error: --nodes {args.nodes}: from 1 to 100")
    if args.what == "start":
        start(folder, args.nodes)
        print(f"export SLURM_CONF={folder / 'slurm.conf'}")
    else:
        stop(folder)


def start(folder: Path, count: int) -> None:
    """Start all daemons, and wait until every node is idle."""
    if (folder / "slurm.conf").exists():
        sys.exit(f"error: {folder} has a cluster already: stop it, or take another folder")
    folder.mkdir(parents=True, exist_ok=True)
    folder.chmod(0o755)  # munged refuses sockets in folders that others can write to
    (folder / "state").mkdir()
    key = folder / "munge.key"
    key.touch(mode=0o600)
    key.write_bytes(os.urandom(1024))
    names = [f"127.0.0.{2 + number}" for number in range(count)]
    ports = free_ports(count + 1)
    lines = [f"NodeName={name} Port={port} CPUs=8" for name, port in zip(names, ports)]
    host = socket.gethostname().split(".")[0]
    fields = {"host": host, "port": ports[-1], "user": getpass.getuser(), "folder": folder, "nodes": "\n".join(lines)}
    (folder / "slurm.conf").write_text(CONFIGURATION.format(**fields), encoding="utf-8")
    munge = {"key-file": key, "socket": "munge.socket", "seed-file": "munge.seed", "log-file": "munge.log"}
    munge["pid-file"] = "munged.pid"
    run("munged", "--force", *(f"--{option}={folder / name}" for option, name in munge.items()))
    run("slurmctld")
    for name in names:
        run("slurmd", "-N", name)
    end = time.monotonic() + PATIENCE
    while output_of("sinfo", "--noheader", "--partition=low", "--format=%D %t") != f"{count} idle":
        if time.monotonic() > end:
            stop(folder)
            sys.exit(f"error: the nodes do not become idle: see {folder}/slurmctld.log")
        time.sleep(0.5)


def stop(folder: Path) -> None:
    """End all jobs, then all daemons of this folder."""
    output_of("scancel", f"--user={getpass.getuser()}")
    end = time.monotonic() + PATIENCE
    while output_of("squeue", "--noheader") and time.monotonic() < end:
        time.sleep(0.5)
    for path in [*sorted(folder.glob("slurmd-*.pid")), folder / "slurmctld.pid", folder / "munged.pid"]:
        with contextlib.suppress(OSError, ValueError):
            finish(int(path.read_text()))
    (folder / "slurm.conf").unlink(missing_ok=True)


def finish(pid: int) -> None:
    """End a process and wait for it."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGTERM)
        end = time.monotonic() + PATIENCE / 4
        while time.monotonic() < end:
            os.kill(pid, 0)
            time.sleep(0.1)
        os.kill(pid, signal.SIGKILL)


def run(*command: str) -> None:
    """Run a program that becomes a daemon. If it fails, exit."""
    done = subprocess.run(command, capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"error: {' '.join(command)}: {' '.join((done.stderr or done.stdout).split())}")


def output_of(*command: str) -> str:
    """Return the output of a program, or an empty string if it fails."""
    return subprocess.run(command, capture_output=True, text=True).stdout.strip()


def free_ports(count: int) -> list[int]:
    """Return free ports."""
    with contextlib.ExitStack() as stack:
        listeners = [stack.enter_context(socket.socket()) for _ in range(count)]
        for listener in listeners:
            listener.bind(("127.0.0.1", 0))
        return [listener.getsockname()[1] for listener in listeners]


if __name__ == "__main__":
    main()
