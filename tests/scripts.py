#!/usr/bin/env python3
"""Calls tools/quickstart, tools/against and tools/test as people do: through a link, from other folders, with mistakes.
What they call is played, so that it takes a second.

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
  train)
    if [ "$2" = --resume ]; then echo resumed >> "$3/config.toml"; exit; fi
    mkdir -p "${@: -1}/checkpoints" && echo trained > "${@: -1}/config.toml"
    echo weights > "${@: -1}/checkpoints/step-1.safetensors"
    exit "${PLAYED_TRAIN:-0}" ;;
  eval) echo "${PLAYED_SCORE:-AP = 0.700  AP50 = 0.950}" ;;
  bench) echo '{"rows": []}' ;;
  explain) echo page > "${@: -1}" ;;
  detect) mkdir -p "${@: -1}" && echo drawn > "${@: -1}/1.jpg" ;;
esac
"""


with tempfile.TemporaryDirectory() as there:
    at = lambda *names: os.path.join(os.path.realpath(there), *names)
    program(at('a tree', 'build', 'fovea'), FOVEA)
    program(at('a tree', 'tools', 'setup'), '#!/bin/sh\necho set up >&2\n')
    program(at('bin', 'cmake'), '#!/bin/sh\n')
    program(at('bin', 'ctest'), '#!/bin/sh\nprintf "<%s>" "$@"\n')
    os.makedirs(at('elsewhere', 'mine'))
    for name in ['quickstart', 'against', 'test']:
        shutil.copy(os.path.join(ROOT, 'tools', name), at('a tree', 'tools'))
        os.symlink(at('a tree', 'tools', name), at('bin', name))

    def run(*command, **variables):
        return run_played([at('bin', command[0]), *command[1:]], at('bin'), at('elsewhere'), **variables)

    code, output = run('quickstart', '--out', 'mine')
    check('the quick start does not work in the folder that it was told', code == 0
          and os.path.exists(at('elsewhere', 'mine', 'found', '1.jpg')), output)
    check('its summary names other files', at('elsewhere', 'mine', 'run', 'report.html') in output
          and at('elsewhere', 'mine', 'why.html') in output, output)
    code, output = run('quickstart', '--out', 'mine')
    check('what was done is done again', code == 0 and output.count('done before') == 4, output)
    code, output = run('quickstart')
    check('without --out it does not work in its tree', code == 0
          and os.path.exists(at('a tree', 'runs', 'quickstart', 'summary.txt')), output)

    for score in ['AP = 0.599  AP50 = 0.950', 'AP = 0.700  AP50 = 0.899', 'AP = 1e-05  AP50 = 1e-05',
                  'AP = n/a  AP50 = n/a', 'AP = nan  AP50 = nan', 'AP = 70 %  AP50 = 95 %', 'AP = 0.700']:
        code, output = run('quickstart', '--fresh', '--out', 'mine', PLAYED_SCORE=score)
        check(f'{score} is good enough', code == 1 and 'expected AP >= 0.60' in output, output)

    for out in ['cut', 'r[1]']:
        code, output = run('quickstart', '--out', out, PLAYED_TRAIN='3')
        check('a training that fails is taken for one that is done', code == 3, output)
        code, output = run('quickstart', '--out', out)
        with open(at('elsewhere', out, 'run', 'config.toml')) as config:
            trained = config.read()
        check(f'the training in {out} does not go on', code == 0 and trained == 'trained\nresumed\n', output)

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

    for mistake in [['--nonsense'], ['conv'], ['-R', 'conv', '-x'], ['-R'], ['--preset'], ['--preset', 'fast']]:
        code, output = run('test', *mistake)
        check(f'{mistake} is not refused at once', code == 2 and output.startswith('tools/test: ')
              and output.count('\n') == 1, output)
    for options, passed in [([], ''), (['-R', 'conv|pool', '-V', '-j1'], '<-R><conv|pool><-V><-j1>'),
                            (['-E', 'a b', '--preset', 'asan', '--rerun-failed'], '<-E><a b><--rerun-failed>')]:
        code, output = run('test', *options)
        preset = 'asan' if 'asan' in options else 'release'
        check(f'{options} are not passed on', code == 0 and output.startswith(f'<--preset><{preset}><--no-tests=error>')
              and output.endswith(f'{passed}set up\n'), output)
print('scripts: ok')
