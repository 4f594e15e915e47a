#!/usr/bin/env python3
"""Opens pages of `fovea lab`, a run's report and an explanation in headless Chromium, 360 pixels wide like a phone.

Usage: lab_browser.py PROGRAM FOLDER   makes the pages of the kept results (tools/lab/results), an index, a run and an
                                       explanation in FOLDER, opens each
       lab_browser.py PAGE.html ...    opens pages that are there
Fails on a script's error, on anything that the page asks a network or a file for, on a figure or a word in it that is
cut off, on a word that is broken in two in a table, on a small figure, on a page that scrolls sideways, on a slider
that moves nothing, on what a screen reader has no name for, and on a waste of paper. Without Chromium it is skipped
(77).
"""
import html, json, operator, pathlib, re, shutil, subprocess, sys, tempfile

ROOT = pathlib.Path(__file__).resolve().parent.parent
WIDTH = 360
# Before the page's own scripts. The policy lets nothing in that is not inside the page; what it refuses is an event.
HEAD = """<meta http-equiv=Content-Security-Policy
content="default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; img-src data:">
<script>window.wrong = [];
onerror = what => { wrong.push(String(what)); };
console.error = console.warn = (...what) => { wrong.push(what.join(' ')); };
addEventListener('securitypolicyviolation', event => { wrong.push('asks for ' + event.blockedURI); });</script>"""
# Around the page, which is in a frame of a phone's width. Waits, moves every slider, and reports.
FRAME = """<!doctype html><meta charset=utf-8><style>iframe{width:%dpx;height:4000px;border:0}</style>
<iframe srcdoc="%s"></iframe><script>onload = () => {
  const view = frames[0], page = view.document, drawn = () => [...page.querySelectorAll('svg')].map(s => s.outerHTML);
  const cut = [...page.querySelectorAll('svg text')].filter(text => {
    const word = text.getBoundingClientRect(), all = text.closest('svg').getBoundingClientRect();
    return word.left < all.left || word.right > all.right || word.bottom > all.bottom;
  });
  const broken = [...page.querySelectorAll('td,th')].flatMap(cell => {
    const words = page.createTreeWalker(cell, NodeFilter.SHOW_TEXT), all = [];
    while (words.nextNode()) for (const word of words.currentNode.data.matchAll(/[^\\s-]+/g)) {
      const range = page.createRange();
      range.setStart(words.currentNode, word.index);
      range.setEnd(words.currentNode, word.index + word[0].length);
      if (word[0].length < 14 && range.getClientRects().length > 1) all.push(word[0]);
    }
    return all;
  });
  const unnamed = ['th:not([scope])', 'table:not(:has(th))', 'img:not([alt])', 'svg:not([aria-label])',
    'input:not(label *)', 'body:has(input):not(:has([aria-live]))', 'body:has(script):not(:has(noscript))'
  ].filter(what => page.querySelector(what));
  const figures = [...page.querySelectorAll('svg')].map(svg => svg.getBoundingClientRect());
  const unmoved = [...page.querySelectorAll('input[type=range]')].filter(slider => {
    const before = drawn().join();
    slider.value = slider.value === slider.max ? slider.min : slider.max;
    slider.dispatchEvent(new Event('input'));
    return drawn().join() === before;
  });
  document.body.textContent = 'REPORT' + JSON.stringify({wrong: view.wrong, unmoved: unmoved.map(s => s.id),
    cut: cut.map(t => t.textContent), broken, unnamed, width: page.documentElement.scrollWidth,
    words: page.body.innerText.length, figures: figures.map(f => [f.left, f.right, f.height]),
    sliders: page.querySelectorAll('input[type=range]').length}) + 'END';
};</script>"""


def alike(a, b):
    """The same words, and numbers to the drawn precision: another processor's exp() may round another way."""
    number = re.compile(r"-?\d+(?:\.\d+)?(?:e[-+]?\d+)?")
    pairs = zip(number.findall(a), number.findall(b))
    return number.sub("", a) == number.sub("", b) and all(
        abs(float(x) - float(y)) <= 0.02 + 1e-4 * abs(float(x)) for x, y in pairs)


def kept_pages(program, folder):
    """The pages of all experiments whose cells are kept; the kept figures must be the ones that these cells give."""
    kept, folder = ROOT / "tools/lab/results", pathlib.Path(folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    shutil.copy(kept / "cells.csv", folder)
    before = (folder / "cells.csv").read_bytes()
    for name in sorted(p.name for p in kept.iterdir() if p.is_dir()):
        subprocess.run([program, "lab", name, "--out", folder], check=True, capture_output=True, timeout=60)
        made, have = ({p.name for p in (there / name).iterdir()} - {"report.html"} for there in (folder, kept))
        for file in sorted(made ^ have):
            yield f"{name}/{file}: " + ("is made, but not kept" if file in made else "is kept, but not made any more")
        for file in sorted(made & have):
            same = operator.eq if file.endswith(".csv") else alike  # numbers of cells are copied, not computed
            if not same((folder / name / file).read_text(), (kept / name / file).read_text()):
                yield f"{name}/{file}: is not what `fovea lab {name}` makes of the kept cells"
    if (folder / "cells.csv").read_bytes() != before:
        yield "kept results lack cells: some were trained again"


def index(program, folder):
    """What `lab all` makes of kept cells, and of played ones for the experiments of which none are kept."""
    scales = {1: "1", 2: "1,1.414213562", 3: "1,1.259921,1.587401", 4: "1,1.189207,1.414214,1.681793"}
    sides = {1: "1", 3: "0.5,1,2"}
    settings = [f"model.anchors.scales={scales[s]} model.anchors.ratios={sides[r]}"
                for s, r in ((1, 1), (2, 1), (3, 1), (1, 3), (2, 3), (4, 3))]
    settings += [f"model.width={w} data.short_side={s} data.max_side={s}" for w in (8, 16, 32) for s in (64, 96, 128)]
    settings += [f"loss.kind={kind}" for kind in ("focal_star loss.gamma=2 loss.beta=1",
                                                  "focal_star loss.gamma=4 loss.beta=0", "hinge")]
    out = pathlib.Path(folder) / "all"
    out.mkdir()
    shutil.copy(ROOT / "tools/lab/results/cells.csv", out)
    with (out / "cells.csv").open("a") as cells:
        cells.writelines(f'"full shapes {s}",{seed},ap=0.4,ms=2,end\n' for s in settings for seed in (1, 2, 3))
    subprocess.run([program, "lab", "all", "--seeds", "3", "--out", out], check=True, capture_output=True, timeout=60)
    return out / "index.html"


def train(program, folder):
    """A short run and what it misses, of data whose name has no place where a line could break."""
    data = pathlib.Path(folder) / ("long" * 20)
    (pathlib.Path(folder) / "why").mkdir()
    for command in (["data", "make", "shapes", data, "--train", "4", "--val", "2", "--size", "64"],
                    ["train", "--data", data, "--preset", "toy", "--steps", "1", "--set", "data.short_side=64",
                     "--out", pathlib.Path(folder) / "run"],
                    ["explain", "--weights", pathlib.Path(folder) / "run", "--data", data, "--split", "val",
                     "--out", pathlib.Path(folder) / "why/report.html"]):
        subprocess.run([program] + command, check=True, capture_output=True, timeout=60)


def start(browser, scratch, *what):
    return subprocess.run([browser, "--headless", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                           f"--user-data-dir={scratch}/profile", "--virtual-time-budget=4000", *what],
                          capture_output=True, text=True, timeout=120).stdout


def sheets(browser, page):
    """Of paper, to print it on."""
    with tempfile.TemporaryDirectory() as scratch:
        paper = pathlib.Path(scratch) / "page.pdf"
        start(browser, scratch, f"--print-to-pdf={paper}", page.resolve())
        return len(re.findall(rb"/Type /Page\b", paper.read_bytes()))


def look(browser, page):
    text = page.read_text().replace("<meta charset=utf-8>", "<meta charset=utf-8>" + HEAD, 1)
    text = text.replace("<details>", "<details open>")
    with tempfile.TemporaryDirectory() as scratch:
        outer = pathlib.Path(scratch) / "phone.html"
        outer.write_text(FRAME % (WIDTH, html.escape(text)))
        dom = start(browser, scratch, "--dump-dom", outer)
    found = re.search("<body>REPORT(.*)END", dom, re.S)
    if not found:
        return ["did not load"], {}
    seen = json.loads(html.unescape(found[1]))
    wrong = list(seen["wrong"]) + [f"slider {name} moves nothing" for name in seen["unmoved"]]
    wrong += [f"'{word}' is cut off" for word in seen["cut"]]
    wrong += [f"'{word}' in a table is broken in two" for word in seen["broken"]]
    wrong += [f"has {what}, which a screen reader cannot name" for what in seen["unnamed"]]
    if seen["width"] > WIDTH:
        wrong.append(f"scrolls sideways: {seen['width']} pixels wide")
    wrong += [f"a figure of {right - left:.0f} x {height:.0f} pixels from {left:.0f}"
              for left, right, height in seen["figures"] if left < 0 or right > WIDTH or right - left < 250 or
              height < 120]
    if seen["words"] < 200:
        wrong.append(f"only {seen['words']} characters of text")
    return wrong, seen


def main():
    browser = next((path for path in map(shutil.which, ("chromium", "chromium-browser", "google-chrome")) if path), "")
    problems = []
    if sys.argv[1].endswith(".html"):
        pages = [pathlib.Path(name) for name in sys.argv[1:]]
    else:
        problems = list(kept_pages(*sys.argv[1:]))
        train(*sys.argv[1:])
        pages = sorted(pathlib.Path(sys.argv[2]).glob("*/report.html")) + [index(*sys.argv[1:])]
    if not browser and not problems:
        print("skipped: no Chromium here; the kept figures are those of the kept cells")
        return 77
    for page in pages if browser else []:
        wrong, seen = look(browser, page)
        if page.parent.name == "why" and (count := sheets(browser, page)) > 6:
            wrong.append(f"an explanation of two pictures takes {count} sheets of paper")
        problems += [f"{page}: {what}" for what in wrong]
        if not wrong:
            print(f"{page}: {len(seen['figures'])} figures, {seen['sliders']} sliders")
    for problem in problems:
        print("wrong:", problem)
    return 1 if problems or not pages else 0


if __name__ == "__main__":
    sys.exit(main())
