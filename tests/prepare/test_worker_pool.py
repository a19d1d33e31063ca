import os
import signal
import subprocess
import sys
import time

import pytest

from pyramidion_fairseq.prepare.errors import PrepareError
from pyramidion_fairseq.prepare.worker_pool import IN_FLIGHT_PER_WORKER, ordered_map
from tests.helpers.preprocessing import LIGHT


def slow_square(number):
    time.sleep(0.02 if number % 3 == 0 else 0)
    return number * number


def die(number):
    os._exit(1)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_ordered_map_keeps_the_order(workers):
    assert list(ordered_map(slow_square, range(40), workers)) == [n * n for n in range(40)]


def test_ordered_map_reads_only_a_little_ahead():
    taken = []

    def items():
        for number in range(1000):
            taken.append(number)
            yield number

    results = ordered_map(slow_square, items(), 2)
    for number in range(10):
        assert next(results) == number * number
        assert len(taken) <= number + 1 + 2 * IN_FLIGHT_PER_WORKER
    results.close()
    assert len(taken) < 20


def test_ordered_map_reports_a_dead_worker():
    with pytest.raises(PrepareError, match="a worker process died"):
        list(ordered_map(die, range(4), 2))


def test_ordered_map_raises_the_error_of_a_worker():
    with pytest.raises(TypeError):
        list(ordered_map(slow_square, [1, None], 2))


def test_worker_ends_when_its_parent_is_killed():
    code = """
import os, time
from pyramidion_fairseq.prepare import worker_pool
for pid in worker_pool.ordered_map(lambda_, range(2), 2): print(pid, flush=True)
time.sleep(60)
""".replace(
        "import worker_pool\n", "import worker_pool\ndef lambda_(_):\n    time.sleep(0.2)\n    return os.getpid()\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", LIGHT + code], stdout=subprocess.PIPE, text=True)
    workers = [int(parent.stdout.readline()) for _ in range(2)]
    assert len(set(workers)) == 2
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(is_alive(pid) for pid in workers):
        time.sleep(0.1)
    assert not [pid for pid in workers if is_alive(pid)]
    parent.stdout.close()


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False
