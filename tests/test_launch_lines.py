"""Tests that the programs of docs/scaling.md and docs/long-documents.md accept every command line.

Launchers are checked by their own parsers, job scripts run with programs that only print how they were called, and
commands of ours and of fairseq are checked by theirs. The effects of the lines are tested by
tests/examples/test_several_nodes.py, tests/prepare/test_shards.py, tests/apps/ray, tests/parallel, and, with the
launchers themselves, by ``make soak`` (tests/soak/test_several_nodes.py, tests/soak/test_ray.py).
"""

import importlib
import os
import re
import shlex
import subprocess

import pytest
from torch.distributed.run import get_args_parser

from tests.helpers.commands import parse
from tests.helpers.paths import EXAMPLES, ROOT

LINES = [
    shlex.split(line, comments=True)
    for page in ("scaling", "long-documents")
    for block in re.findall(r"```bash\n(.*?)```", (ROOT / f"docs/{page}.md").read_text("utf-8"), re.S)
    for line in block.replace("\\\n", " ").splitlines()
]
#: A program that prints how it was called; fairseq-generate also makes the folder given as its last word.
SAYS = '#!/bin/sh\necho "$(basename "$0") $*"\nfor last; do :; done\n%s\n'
#: Options of sbatch that tests/soak/test_several_nodes.py tests with Slurm.
KNOWN_TO_SLURM = {"--nodes", "--gpus-per-node", "--ntasks-per-node", "--array"}


def test_launch_lines_of_every_program_are_found():
    programs = [next(word for word in words if "=" not in word) for words in LINES]
    assert len(LINES) >= 20 and {"sbatch", "torchrun", "python", "pyramidion-prepare", "bash"} <= set(programs)


@pytest.mark.parametrize("words", LINES, ids=" ".join)
def test_launch_line_is_accepted_by_its_programs(words, monkeypatch, tmp_path):
    monkeypatch.chdir(ROOT)
    for folder in (EXAMPLES, EXAMPLES / "ray", ROOT / "scripts", ROOT / "benchmarks"):
        monkeypatch.syspath_prepend(str(folder))
    while "=" in words[0]:
        monkeypatch.setenv(*words[0].split("=", 1))
        words = words[1:]
    if words[0] == "export":
        assert words[1:] == [f"SLURM_CONF={LINES[LINES.index(words) - 1][3]}/slurm.conf"]
        return
    if words[0] == "sbatch":
        words = inside_of_a_job(words, monkeypatch, tmp_path)
    take(words, monkeypatch)


def take(words, monkeypatch):
    """Parse a line as the program that it starts does."""
    if words[0] == "torchrun":
        options = get_args_parser().parse_args(words[1:])
        assert options.no_python
        take([options.training_script, *options.training_script_args], monkeypatch)
    elif words[0] == "bash":
        where, stage = re.fullmatch(r"examples/(\w+)/(\w+)\.sh", words[1]).groups()
        monkeypatch.setenv("DRY_RUN", "1")
        importlib.import_module("recipe").main([stage, where, *words[2:]])
    elif words[0] == "python":
        module = importlib.import_module(os.path.basename(words[1]).removesuffix(".py"))
        getattr(module, "BENCHMARK", module).build_parser().parse_args(words[2:])
    else:
        assert parse(words), words


def inside_of_a_job(words, monkeypatch, tmp_path):
    """Run a job script with stand-ins for its programs; return the words of the command of its first task."""
    place = next(number for number, word in enumerate(words) if word.endswith(".sbatch"))
    given = dict(zip(words[1:place:2], words[2:place:2]))
    assert given.keys() <= KNOWN_TO_SLURM and 2 * len(given) == place - 1
    for name in ("srun", "pyramidion-summarize", "fairseq-generate"):
        (tmp_path / name).write_text(SAYS % ('mkdir -p "$last"' if name == "fairseq-generate" else ""), "utf-8")
        (tmp_path / name).chmod(0o755)
    nodes, tasks = int(given.get("--nodes", 2)), int(given.get("--ntasks-per-node", 8))
    job = {"SLURM_JOB_ID": 7, "SLURM_NNODES": nodes, "SLURM_NTASKS": nodes * tasks}
    job |= {"SLURM_ARRAY_TASK_ID": 1, "SLURM_ARRAY_TASK_COUNT": 8}
    environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}", **{k: str(v) for k, v in job.items()}}
    words = [tmp_path / word if word == "out" else word for word in words]
    done = subprocess.run(
        ["bash", *words[place:]], env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    called = shlex.split(done.stdout)
    if called[0] != "srun":
        return called
    monkeypatch.setenv("LAUNCH", "slurm")
    monkeypatch.setenv("NODES", str(nodes))
    monkeypatch.setenv("GPUS", str(tasks))
    return called[called.index("bash") :]


def test_slurm_script_passes_the_cpus_per_task_to_srun(tmp_path):
    """Check it because srun since Slurm 22.05 ignores those of the job and would give a process one CPU."""
    (tmp_path / "srun").write_text('#!/bin/sh\necho "$SRUN_CPUS_PER_TASK"\n', "utf-8")
    (tmp_path / "srun").chmod(0o755)
    job = {"SLURM_JOB_ID": "7", "SLURM_NNODES": "2", "SLURM_NTASKS": "16", "SLURM_CPUS_PER_TASK": "8"}
    script = ["bash", "examples/slurm/train.sbatch", "table3", "deeppyramidion"]
    environment = {**os.environ, **job, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
    done = subprocess.run(script, env=environment, cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "8\n"
