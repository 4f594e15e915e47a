#!/usr/bin/env python3
"""Checks the house rules on every tracked file: sizes, first lines, include order, README links and counts, formatting.

Usage: tests/house.py [--lengths]   (--lengths prints the size of each folder instead)
"""
import glob
import os
import re
import shutil
import subprocess
import sys

ROOT = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
TOP = {'.ci', '.clang-format', '.clang-tidy', '.gitignore', 'CMakeLists.txt', 'CMakePresets.json', 'LICENSE',
       'README.md', 'core', 'data', 'models', 'nn', 'ops', 'tests', 'tools'}
MAY_INCLUDE = {'core': {'core'}, 'data': {'core', 'data'}, 'ops': {'core', 'ops'}, 'nn': {'core', 'ops', 'nn'},
               'models': {'core', 'ops', 'nn', 'models'}}
CODE = ('.h', '.cpp', '.cu', '.cuh')
FILE_LINES, FUNCTION_LINES, COLUMNS = 500, 60, 120
problems = []


def problem(path, line, text):
    problems.append(f'{path}:{line}: {text}' if line else f'{path}: {text}')


def tracked():
    """Files that git knows or would add; every file where there is no git (an unpacked archive). None of a build."""
    try:
        out = subprocess.run(['git', 'ls-files', '-z', '--cached', '--others', '--exclude-standard'], cwd=ROOT,
                             check=True, capture_output=True).stdout.decode()
        names = [name for name in out.split('\0') if name]
    except (OSError, subprocess.CalledProcessError):
        names = [os.path.relpath(os.path.join(folder, name), ROOT)
                 for folder, _, files in os.walk(ROOT) for name in files]
        names = [name for name in names if not re.match(r'(\.git|\.gpu|runs|build[^/]*)/', name)]
    builds = {os.path.dirname(name) for name in names if os.path.basename(name) == 'CMakeCache.txt'} - {''}
    names = [name for name in names if not name.startswith(tuple(build + '/' for build in builds))]
    return sorted(name for name in names if os.path.isfile(os.path.join(ROOT, name)))


def read(path):
    try:
        with open(os.path.join(ROOT, path), encoding='utf-8') as file:
            return file.read()
    except UnicodeDecodeError:
        return None


def blank(match):
    return re.sub(r'[^\n]', ' ', match.group(0))


def strip_code(text):
    """The code without comments, strings and preprocessor lines; line breaks stay where they were."""
    quoted = r'//[^\n]*|/\*.*?\*/|R"(\w*)\(.*?\)\1"|"(?:\\.|[^"\\\n])*"|(?<!\w)\'(?:\\.|[^\'\\\n])+\''
    text = re.sub(quoted, blank, text, flags=re.S)
    return re.sub(r'^[ \t]*#(?:[^\n]*\\\n)*[^\n]*', blank, text, flags=re.M)


def kind_of_block(head):
    """What a '{' opens outside of functions, from the code before it."""
    head = re.sub(r'\btemplate\s*<.*?>(?=\s*(?:\w|\[))', ' ', head, flags=re.S)
    head = re.sub(r'^\s*[A-Z][A-Z0-9_]+\([^()]*\)[ \t]*\n', ' ', head, flags=re.M).strip()
    if re.search(r'=$', head):
        return 'table'
    if re.match(r'(?:inline\s+|typedef\s+|export\s+)?(?:namespace|extern|class|struct|union|enum)\b', head):
        return 'scope'
    return 'function' if ')' in head or head.endswith(('else', 'do')) else 'table'


def function_lengths(text):
    """(first line, lines) of each function; a table that initialises a variable counts as one line."""
    code, stack, head, line = strip_code(text), [], '', 1
    for c in code:
        if c == '\n':
            line += 1
        if c == '{':
            inside = next((block for block in stack if block[0] == 'function'), None)
            kind = ('table' if head.rstrip().endswith('=') else 'block') if inside else kind_of_block(head)
            start = line - head.lstrip('\n ').count('\n') if kind == 'function' else line
            stack.append([kind, start, 0])
            head = ''
        elif c == '}' and stack:
            kind, start, spared = stack.pop()
            if kind == 'function':
                yield start, line - start + 1 - spared
            elif stack:
                stack[-1][2] += line - start if kind == 'table' else spared
            head = ''
        elif c == ';':
            head = ''
        else:
            head += c


def check_text(path, text):
    lines = text.split('\n')
    if len(lines) - 1 > FILE_LINES:
        problem(path, 0, f'{len(lines) - 1} lines, at most {FILE_LINES}')
    for number, line in enumerate(lines, 1):
        if len(line) > COLUMNS and not line.startswith('| '):  # a row of a Markdown table cannot be broken
            problem(path, number, f'{len(line)} columns, at most {COLUMNS}')
        if re.search(r'\b(?:TODO|FIX' + r'ME|XX' + r'X|TB' + r'D)\b', line) and path != 'tests/house.py':
            problem(path, number, 'unfinished work is left in the tree')
        if re.search(r'(?<![\w.])/work' + r'/', line):
            problem(path, number, 'an absolute path of one machine')


def check_first_line(path, text):
    lines = text.split('\n') + ['', '']
    first = lines[1] if lines[0].startswith('#!') else lines[0]
    starts = {'.md': '# ', '.py': '"""', '.cmake': '# ', '': '# '}
    extension = os.path.splitext(path)[1]
    if path.endswith('CMakeLists.txt') or path in ('.clang-format', '.clang-tidy'):
        extension = ''
    start = '// ' if extension in CODE else starts.get(extension)
    if start is None or path in ('LICENSE', '.gitignore'):
        return
    if not first.startswith(start) or len(first) < 12:
        if extension != '.md' or not first.startswith('# '):
            problem(path, 1, 'the first line must be a comment that says what the file is and why')


def check_code(path, text):
    folder = path.split('/')[0]
    for number, line in enumerate(text.split('\n'), 1):
        match = re.match(r'\s*#\s*include\s+"([^"]+)"', line)
        if match and folder in MAY_INCLUDE:
            target = match.group(1).split('/')[0]
            if target not in MAY_INCLUDE[folder]:
                problem(path, number, f'{folder}/ must not include {match.group(1)}')
    for start, lines in function_lengths(text):
        if lines > FUNCTION_LINES:
            problem(path, start, f'a function of {lines} lines, at most {FUNCTION_LINES}')


def check_readme(path, text):
    for number, line in enumerate(text.split('\n'), 1):
        for target in re.findall(r'\]\(([^)\s]+)\)', line):
            target = target.split('#')[0]
            if target and not re.match(r'[a-z]+:', target):
                if not os.path.exists(os.path.join(ROOT, os.path.dirname(path), target)):
                    problem(path, number, f'the link to {target} leads nowhere')
    examples = text.count('\n```cpp\n')
    if path.count('/') >= 1 and path.split('/')[0] in MAY_INCLUDE and examples != 1:
        problem(path, 0, f'{examples} ```cpp examples; a chapter has exactly one, and it is compiled')


def check_reading_order(path, text):
    """Rows of a table | file | lines | ...: the files that a row names have about so many lines together."""
    counts = False
    for number, line in enumerate(text.split('\n'), 1):
        cells = [cell.strip() for cell in line.split('|')]
        counts = line.startswith('|') and (counts or cells[1:3] == ['file', 'lines'])
        if not counts or not cells[2].replace(',', '').isdigit():
            continue
        names = [a or b for a, b in re.findall(r'`([^`]+)`|\]\(([^)]+)\)', cells[1])]
        found = {name: glob.glob(os.path.join(ROOT, os.path.dirname(path), name)) for name in names}
        for name in (name for name in names if not found[name]):
            problem(path, number, f'there is no {name}')
        said = int(cells[2].replace(',', ''))
        lines = sum(read(file).count('\n') for files in found.values() for file in files)
        if abs(said - lines) > max(10, 0.1 * lines):
            problem(path, number, f'{said} lines, but the files have {lines}')


def check_format(paths):
    tool = shutil.which('clang-format-14') or shutil.which('clang-format')
    version = subprocess.run([tool, '--version'], capture_output=True, text=True).stdout if tool else ''
    if ' version 14.' not in version:
        print('formatting not checked: clang-format 14 is not installed')
        return
    out = subprocess.run([tool, '--dry-run', '-Werror', *paths], cwd=ROOT, capture_output=True, text=True).stderr
    for path, line in re.findall(r'^(.*?):(\d+):\d+: error', out, flags=re.M):
        problem(path, int(line), 'not formatted: run clang-format -i on it')


def main():
    texts = {path: text for path in tracked() if (text := read(path)) is not None}
    if '--lengths' in sys.argv:
        sizes = {}
        for path, text in texts.items():
            sizes[path.split('/')[0]] = sizes.get(path.split('/')[0], 0) + text.count('\n')
        for name, lines in sorted(sizes.items()):
            print(f'{lines:6} {name}')
        print(f'{sum(sizes.values()):6} in all')
        return 0
    for path, text in texts.items():
        if path.split('/')[0] not in TOP:
            problem(path, 0, 'no other top-level entry: ' + ' '.join(sorted(TOP)))
        if path != 'LICENSE' and not path.endswith(('.json', '.jsonl', '.csv', '.svg')):  # those are made by programs
            check_text(path, text)
            check_first_line(path, text)
        if path.endswith(CODE):
            check_code(path, text)
        if path.endswith('.md'):
            check_readme(path, text)
            check_reading_order(path, text)
    check_format([path for path in texts if path.endswith(CODE)])
    print('\n'.join(problems))
    print(f'{len(texts)} files, {sum(text.count(chr(10)) for text in texts.values())} lines, {len(problems)} problems')
    return 1 if problems else 0


sys.exit(main())
