#!/usr/bin/env bash
''':'
# Shell and Python in one file: `bash scripts/0_gpu_info.sh` and `python scripts/0_gpu_info.sh` print the same.
# For the shell the line above is the empty command; for Python this is a string.
here="$(cd "$(dirname "$0")" && pwd)"
for needed in torch sys; do
    for python in "${VIRTUAL_ENV:-/nonexistent}/bin/python" "$here/../.venv/bin/python" python python3; do
        if "$python" -c "import sys, importlib.util as u; sys.exit(not u.find_spec('$needed'))" >/dev/null 2>&1; then
            exec "$python" "$0" "$@"
        fi
    done
done
echo "0_gpu_info.sh: no Python found; nvidia-smi says:" >&2
exec nvidia-smi
'''

import os
import platform
import shutil
import subprocess


def gigabytes(size):
    return "%.1f GB" % (size / 2**30)


def machine():
    yield "system", "%s %s" % (platform.system(), platform.machine())
    yield "python", platform.python_version()
    count = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    yield "CPU cores", str(count)
    try:
        yield "memory", gigabytes(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):
        pass


def accelerators():
    try:
        import torch
    except ImportError:
        yield "torch", "not installed: pip install -e ."
        return
    yield "torch", torch.__version__
    yield "threads", str(torch.get_num_threads())
    if torch.cuda.is_available():
        yield "CUDA", str(torch.version.cuda)
        for number in range(torch.cuda.device_count()):
            about = torch.cuda.get_device_properties(number)
            yield "GPU %d" % number, "%s, %s, compute %d.%d" % (
                about.name,
                gigabytes(about.total_memory),
                about.major,
                about.minor,
            )
        yield "bfloat16", "yes" if torch.cuda.is_bf16_supported() else "no"
    elif getattr(torch.backends, "mps", None) is not None and torch.backends.mps.is_available():
        yield "GPU", "Apple (mps)"
    else:
        yield "GPU", "none that torch can use; everything runs on the CPU"


def driver():
    if shutil.which("nvidia-smi") is None:
        return
    query = "--query-gpu=driver_version,memory.used,memory.total,utilization.gpu"
    asked = subprocess.run(["nvidia-smi", query, "--format=csv,noheader"], capture_output=True, text=True, timeout=30)
    for number, line in enumerate(asked.stdout.splitlines()):
        yield "driver, used, total, load of GPU %d" % number, line.strip()


if __name__ == "__main__":
    for part in (machine, accelerators, driver):
        for name, value in part():
            print("%-12s %s" % (name, value))
