#!/usr/bin/env python3
"""Runs tools/gpu_check where a GPU is played: what a run leaves, the next one does.

Usage: tests/gpu_check.py
"""
import os
import shutil
import subprocess
import sys
import tempfile

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def program(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        file.write(text)
    os.chmod(path, 0o755)


def check(what, ok, output):
    if not ok:
        sys.exit(f'gpu_check: {what}\n{output}')


with tempfile.TemporaryDirectory() as there:
    at = lambda *names: os.path.join(there, *names)
    program(at('bin', 'nvidia-smi'), '#!/bin/sh\necho "a played GPU, 1.0, 9.0"\n')
    os.makedirs(at('tools'))
    shutil.copy(os.path.join(ROOT, 'tools', 'gpu_check'), at('tools'))

    def run(*options):
        done = subprocess.run([sys.executable, at('tools', 'gpu_check'), '--commit', 'played', *options], text=True,
                              env={**os.environ, 'PATH': at('bin') + ':' + os.environ['PATH']}, capture_output=True)
        return done.returncode, done.stdout + done.stderr

    code, output = run('--parts', 'parity')
    check('parity without an oracle is not left', code == 0 and 'parity left' in output, output)
    code, output = run('--parts', 'parity', '--oracle', 'none.py', '--python', 'false')
    check('parity with an oracle is left out after a run without one', code == 1 and 'FAILED parity' in output, output)
print('gpu_check: ok')
