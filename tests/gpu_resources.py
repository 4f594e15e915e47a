#!/usr/bin/env python3
"""Compiles the hot kernels for each GPU named and fails where one has a stack frame or spills registers.

Usage: tests/gpu_resources.py sm_80 sm_90
"""
import glob
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
bad = 0
if not sys.argv[1:] or sys.argv[1].startswith('-'):
    sys.exit(__doc__)  # with no GPU named nothing would be checked, and nothing wrong


def report_of(job):
    """What ptxas says of a source for a GPU."""
    arch, source = job
    command = ['nvcc', '-std=c++20', '-O3', f'-arch={arch}', f'-I{ROOT}', '-x', 'cu', '-cubin', '-Xptxas', '-v']
    return subprocess.run([*command, source, '-o', os.devnull], check=True, stderr=subprocess.PIPE, text=True).stderr


sources = [source for source in sorted(glob.glob(os.path.join(ROOT, 'ops/cuda/*.cpp')))
           if re.search(r'for_tiles|cuda/best.h|cuda/suppress.h', open(source).read())]
jobs = [(arch, source) for source in sources for arch in sys.argv[1:]]
with ThreadPoolExecutor(len(os.sched_getaffinity(0))) as pool:
    reports = list(pool.map(report_of, jobs))
for (arch, source), report in zip(jobs, reports):
    kernels = re.findall(r"entry function '(\S*tiles_kernel\S*)'.*\n.*\n +(\d+) bytes stack frame, "
                         r'(\d+) bytes spill stores, (\d+) bytes spill loads\n.*Used (\d+) reg', report)
    if not kernels:
        sys.exit(f'{source}: no kernel found in the report of ptxas:\n{report}')
    for name, stack, stores, loads, _ in kernels:
        if int(stack) or int(stores) or int(loads):
            bad += 1
            print(f'{arch}: {stack} bytes of stack, {stores} stored and {loads} loaded by spills: {name}')
    print(f'{arch} {os.path.relpath(source, ROOT)}: {len(kernels)} kernels, at most '
          f'{max(int(k[4]) for k in kernels)} registers')
sys.exit(bad > 0)
