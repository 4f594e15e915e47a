#!/usr/bin/env python3
"""Runs every ```sh block of the READMEs as it stands, in order, from the root of the tree, after a build.

The top README comes first, so what its commands made (data, a trained run) is there for the chapters'. Commands may
write only into runs/ and build/; what is new there is removed at the end.
Lines that call what CI runs itself are left out: see LEFT_OUT.
"""
import os
import re
import shutil
import subprocess
import sys
import time

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
LEFT_OUT = re.compile(r'^(tools/test|\.ci/run|git clone|cd )\b')  # tools/quickstart is run, and only here
BLOCK_SECONDS = 1500


def files():
    out = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT, check=True,
                         capture_output=True).stdout.decode()
    return [name for name in out.split('\0') if name and os.path.isfile(os.path.join(ROOT, name))]


def scratch():
    """What lies in the folders that git ignores."""
    return {os.path.join(folder, name) for folder in (os.path.join(ROOT, 'build'), os.path.join(ROOT, 'runs'))
            if os.path.isdir(folder) for name in os.listdir(folder)}


def blocks(readme):
    with open(os.path.join(ROOT, readme), encoding='utf-8') as file:
        text = file.read()
    for match in re.finditer(r'^```sh\n(.*?)^```$', text, flags=re.M | re.S):
        lines = [line for line in match.group(1).split('\n') if not LEFT_OUT.match(line)]
        if any(line.strip() and not line.startswith('#') for line in lines):
            yield text[:match.start()].count('\n') + 2, '\n'.join(lines)


def main():
    names, before = files(), scratch()
    readmes = sorted((name for name in names if os.path.basename(name) == 'README.md'), key=lambda n: (n.count('/'), n))
    passed = failed = 0
    for readme in readmes:
        for line, script in blocks(readme):
            start = time.time()
            print(f'--- {readme}:{line}\n{script.strip()}', flush=True)
            try:
                run = subprocess.run(['bash', '-euo', 'pipefail', '-c', script], cwd=ROOT, text=True, errors='replace',
                                     stdout=subprocess.PIPE, stderr=subprocess.STDOUT, stdin=subprocess.DEVNULL,
                                     timeout=BLOCK_SECONDS)
                code, output = run.returncode, run.stdout
            except subprocess.TimeoutExpired as error:
                code, output = 'none: too slow', (error.stdout or b'').decode(errors='replace')
            print('\n'.join(output.strip().split('\n')[-25 if code == 0 else -60:]))
            print(f'--- exit {code} after {time.time() - start:.0f} s\n', flush=True)
            passed, failed = passed + (code == 0), failed + (code != 0)
    for path in scratch() - before:  # so that the next run starts from the same
        shutil.rmtree(path) if os.path.isdir(path) else os.remove(path)
    left = sorted(set(files()) - set(names))
    if left:
        print('left behind, outside of what git ignores:', *left)
        failed += 1
    print(f'{passed} passed, {failed} failed')
    return 1 if failed else 0


sys.exit(main())
