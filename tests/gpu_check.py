#!/usr/bin/env python3
"""Runs tools/gpu_check where a GPU and fovea are played: what a run leaves, the next one does.

Usage: tests/gpu_check.py
"""
import json
import os
import shutil
import sys
import tempfile

sys.dont_write_bytecode = True  # nothing is left beside the tests
from played import ROOT, check, program, run as run_played

FOVEA = """#!/bin/sh
case "$*" in *512x512*) test -e played.late && exec sleep 600 ;; esac
echo '{"ms_median": 1, "peak_mb": 2}'
"""


with tempfile.TemporaryDirectory() as there:
    at = lambda *names: os.path.join(there, *names)
    program(at('bin', 'nvidia-smi'), '#!/bin/sh\necho "a played GPU, 1.0, 9.0"\n')
    program(at('build-gpu', 'fovea'), FOVEA)
    os.makedirs(at('tools'))
    shutil.copy(os.path.join(ROOT, 'tools', 'gpu_check'), at('tools'))

    def run(*options, cwd=None):
        return run_played([sys.executable, at('tools', 'gpu_check'), '--commit', 'played', *options], at('bin'), cwd)

    def timed():
        if not os.path.exists(at('tools', 'gpu_results.jsonl')):
            return []
        with open(at('tools', 'gpu_results.jsonl')) as results:
            return [json.loads(line)['work'] for line in results]

    code, output = run('--parts', 'parity')
    check('parity without an oracle is not left', code == 0 and 'parity left' in output, output)
    code, output = run('--parts', 'parity', '--oracle', 'none.py', '--python', 'false')
    check('parity with an oracle is left out after a run without one', code == 1 and 'FAILED parity' in output, output)

    program(at('played.late'), '')
    code, output = run('--parts', 'bench', '--seconds', '3')
    check('a bench that was cut off is not left', 'bench left' in output and len(timed()) < 6, output)
    os.remove(at('played.late'))
    code, output = run('--parts', 'bench')
    check(f'after two runs these are timed: {timed()}', code == 0 and len(timed()) == len(set(timed())) == 6, output)

    code, output = run('--parts', 'bench')
    check('what is done is done again, or nothing says so', 'bench done before' in output and len(timed()) == 6, output)

    program(at('elsewhere', 'peer.sh'), 'echo \'{"ms_median": 3, "peak_mb": 4}\'\n')
    peer = ['--parts', 'bench', '--peer', 'peer.sh', '--python', 'sh']
    code, output = run(*peer, cwd=at('elsewhere'))
    with open(at('tools', 'gpu_results.jsonl')) as results:
        last = results.readlines()[-1]
    check('a peer of the folder that it was called from is not found', '"eager": 3' in last, last)
    check('after a bench without a peer, one with it does not time all', code == 0 and len(timed()) == 12, output)
    for options in [peer, ['--parts', 'bench']]:
        code, output = run(*options, cwd=at('elsewhere'))
        check('a bench with a peer is done again', 'bench done before' in output and len(timed()) == 12, output)

    def git(*words):
        code, output = run_played(['git', '-c', 'user.name=a', '-c', 'user.email=a@b', *words], at('bin'), there)
        check(f'git {words[0]} fails', code == 0, output)
        return output.strip()

    git('init', '-q'), git('add', 'tools', 'bin'), git('commit', '-q', '-m', 'played')
    with open(at('.git', 'info', 'exclude'), 'a') as exclude:
        exclude.write('build-gpu\nelsewhere\n')
    commit, before = git('rev-parse', '--short', 'HEAD'), len(timed())

    def times(words):
        code, output = run_played([sys.executable, at('tools', 'gpu_check'), '--parts', 'bench'], at('bin'))
        with open(at('tools', 'gpu_results.jsonl')) as results:
            last = json.loads(results.readlines()[-1])['commit']
        check(f'{len(timed()) - before} are timed, the last at {last}', code == 0 and words in output, output)
        return len(timed()) - before, last

    once = [times('bench done'), times('bench done before')]
    check('a commit is not timed once', once == [(6, commit)] * 2, once)
    with open(at('bin', 'nvidia-smi'), 'a') as changed:
        changed.write('# changed\n')
    dirty = [times('bench done'), times('bench done')]
    check('changes since the commit are not timed', dirty == [(12, commit + '-dirty'), (18, commit + '-dirty')], dirty)
print('gpu_check: ok')
