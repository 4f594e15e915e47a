// Runs the script of a page of `fovea lab loss` as a browser would, and holds its formulas against the engine's values
// that the page carries. Usage: node lab_page.js PROGRAM FOLDER
const fs = require('fs'), path = require('path'), {execFileSync} = require('child_process');
const [program, folder] = process.argv.slice(2);
execFileSync(program, ['lab', 'loss', '--out', folder], {stdio: 'ignore'});
const page = fs.readFileSync(path.join(folder, 'loss/report.html'), 'utf8');
const scripts = [...page.matchAll(/<script[^>]*>(.*?)<\/script>/gs)].map(match => match[1]);
const elements = {gamma: {value: 2}, alpha: {value: 0.25}};
const element = id => elements[id] ??= {setAttribute(name, value) { this[name] = value; }};
const document = {getElementById: element};
const {deviation, engine} = new Function('document', scripts.join('\n') + ';return {deviation, engine}')(document);
const must = (ok, what) => { if (!ok) { console.error('failed: ' + what); process.exitCode = 1; } };
must(scripts.length === 2 && engine.length === 50, 'two scripts and fifty values');
must(deviation() < 1e-9, 'formulas and engine differ by ' + deviation());
const says = element('says').textContent;
must(says.endsWith('79.02, 100 hard positives (p_t 0.1) 46.63: 1.69 : 1.'), 'gamma 2, alpha 0.25: ' + says);
elements.gamma.value = 0, elements.alpha.value = 0.5, elements.gamma.oninput();
must(element('says').textContent.endsWith(': 45.8 : 1.'), 'cross entropy: ' + element('says').textContent);
must(/^M[\d.]+ [\d.]+L[\d. L]+$/.test(element('fl').d), 'the curve is a path of numbers');
