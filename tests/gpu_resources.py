#!/usr/bin/env python3
"""Compiles the hot kernels for each GPU named and fails where one has a stack frame or spills registers.

Usage: tests/gpu_resources.py sm_80 sm_90
"""
import glob
import os
import re
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
bad = 0
if not sys.argv[1:] or sys.argv[1].startswith('-'):
    sys.exit(__doc__)  # with no GPU named nothing would be checked, and nothing wrong
for arch in sys.argv[1:]:
    for source in sorted(glob.glob(os.path.join(ROOT, 'ops/cuda/*.cpp'))):
        if not re.search(r'for_tiles|cuda/best.h|cuda/suppress.h', open(source).read()):
            continue
        command = ['nvcc', '-std=c++20', '-O3', f'-arch={arch}', f'-I{ROOT}', '-x', 'cu', '-cubin', '-Xptxas', '-v']
        report = subprocess.run([*command, source, '-o', os.devnull], check=True, stderr=subprocess.PIPE,
                                text=True).stderr
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
