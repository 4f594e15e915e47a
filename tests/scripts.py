#!/usr/bin/env python3
"""Calls tools/quickstart and tools/against as people do: through a link, from other folders, with mistakes. What they
call is played, so that it takes a second.

Usage: tests/scripts.py
"""
import os
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left beside the tests
from played import ROOT, check, program, run as run_played

FOVEA = """#!/bin/bash
set -e
case $1 in
  data) mkdir -p "$4/val" && echo made > "$4/val/annotations.json" ;;
  train) mkdir -p "${@: -1}" && echo trained > "${@: -1}/config.toml" ;;
  eval) echo 'AP = 0.700  AP50 = 0.950' ;;
  bench) echo '{"rows": []}' ;;
  detect) mkdir -p "${@: -1}" && echo drawn > "${@: -1}/1.jpg" ;;
esac
"""


with tempfile.TemporaryDirectory() as there:
    at = lambda *names: os.path.join(os.path.realpath(there), *names)
    program(at('a tree', 'build', 'fovea'), FOVEA)
    program(at('a tree', 'tools', 'setup'), '#!/bin/sh\n')
    program(at('bin', 'cmake'), '#!/bin/sh\n')
    os.makedirs(at('elsewhere', 'mine'))
    for name in ['quickstart', 'against']:
        shutil.copy(os.path.join(ROOT, 'tools', name), at('a tree', 'tools'))
        os.symlink(at('a tree', 'tools', name), at('bin', name))

    def run(*command):
        return run_played([at('bin', command[0]), *command[1:]], at('bin'), at('elsewhere'))

    code, output = run('quickstart', '--out', 'mine')
    check('the quick start does not work in the folder that it was told', code == 0
          and os.path.exists(at('elsewhere', 'mine', 'found', '1.jpg')), output)
    check('its summary names other files', at('elsewhere', 'mine', 'run', 'report.html') in output, output)
    code, output = run('quickstart', '--out', 'mine')
    check('what was done is done again', code == 0 and output.count('done before') == 4, output)
    code, output = run('quickstart')
    check('without --out it does not work in its tree', code == 0
          and os.path.exists(at('a tree', 'runs', 'quickstart', 'summary.txt')), output)

    os.makedirs(at('elsewhere', 'dear', 'shapes'))
    code, output = run('quickstart', '--out', 'dear')
    check("somebody's folder is not refused", code == 2 and 'choose another --out' in output, output)
    check("somebody's folder is removed", os.path.isdir(at('elsewhere', 'dear', 'shapes')), output)
    code, output = run('quickstart', '--out')
    check('--out without a folder is not refused', code == 2 and '--out needs a folder' in output, output)

    code, output = run('against', 'parts', '--torch-python', '/none')
    check('against does not find its tree, or the reason why torch does not run is lost',
          output == 'against: /none: No such file or directory\n' and code == 1, output)
    for mistake in [['model', '--peer', 'pycocotools'], ['model', '--size', '10']]:
        code, output = run('against', *mistake)
        check(f'{mistake} is not refused', code == 2 and 'against: error: ' in output, output)
print('scripts: ok')
