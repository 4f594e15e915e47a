"""For the tests of scripts: programs that are played, and calls of scripts that find those first."""
import os
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))


def program(path, text):
    os.makedirs(os.path.dirname(path), exist_ok=True)
    with open(path, 'w') as file:
        file.write(text)
    os.chmod(path, 0o755)


def run(command, programs, cwd=None, **variables):
    """The exit code of a command for which the folder `programs` comes first in PATH, and what it said. `variables` are
    of its environment."""
    done = subprocess.run(command, text=True, capture_output=True, cwd=cwd,
                          env={**os.environ, 'PATH': programs + ':' + os.environ['PATH'], **variables})
    return done.returncode, done.stdout + done.stderr


def check(what, ok, output):
    if not ok:
        sys.exit(f'{os.path.basename(sys.argv[0])}: {what}\n{output}')
