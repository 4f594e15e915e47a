// Single terms through the real ops in f64, and the same formulas in JavaScript for the sliders.
#include "tools/lab/terms.h"

#include <cmath>

#include "core/autograd.h"
#include "core/words.h"
#include "tools/lab/probe.h"
#include "tools/lab/svg.h"

namespace fovea::lab {
namespace {

std::string js_array(const std::vector<double>& v) {
  std::vector<std::string> words;
  for (double x : v) words.push_back(shortest(x));
  return "[" + joined(words, ",") + "]";
}

}  // namespace

TermCurve terms_at(const ClassLossOptions& loss, const std::vector<double>& logits) {
  const int64_t n = int64_t(logits.size());
  const Tensor x = Tensor::from({n, 1, 1}, logits).set_requires_grad();
  const Tensor each = class_loss_of(loss, x, Tensor::zeros({n, 1}, DType::i64));
  backward(each, Tensor::full({n}, 1, DType::f64));
  const Tensor slope = x.grad();
  return {{each.data<double>(), each.data<double>() + n}, {slope.data<double>(), slope.data<double>() + n}};
}

Balance balance(double gamma, double alpha) {
  const double up = std::log(9.0);
  const TermCurve c = terms_at({.alpha = -1, .gamma = gamma}, {up, -up});
  return {1e5 * c.loss[0] * (alpha < 0 ? 1 : 1 - alpha), 100 * c.loss[1] * (alpha < 0 ? 1 : alpha)};
}

// Below the title of what needs scripts, for a reader who has none.
static const char* const kWithoutScripts =
    "<noscript><p>Without scripts this part stays empty; all else is whole.</p></noscript>";

std::string loss_script() {
  std::string rows;
  for (double gamma : {0.0, 0.5, 1.0, 2.0, 5.0})
    for (double alpha : {0.25, 0.75})
      for (double p : {0.001, 0.1, 0.5, 0.9, 0.999}) {
        const TermCurve c = terms_at({.alpha = alpha, .gamma = gamma}, {std::log(p / (1 - p))});
        rows += (rows.empty() ? "" : ",") + js_array({p, gamma, alpha, c.loss[0], c.slope[0]});
      }
  return std::string("<h2>Move the sliders</h2>") + kWithoutScripts + R"js(
<p><label>gamma <input id=gamma type=range min=0 max=5 step=.1 value=2> <b id=gamma-is></b></label>
<label>alpha <input id=alpha type=range min=.01 max=.99 step=.01 value=.25> <b id=alpha-is></b></label></p>
<svg viewBox="0 0 480 250" class=f role=img aria-label="loss by p_t"><path class=a d="M50 10V210H466"/>
<path id=ce fill=none stroke="var(--c1)" stroke-width=2 stroke-dasharray="7 4"/><path id=fl fill=none
stroke="var(--c0)" stroke-width=2.5 /><text class=s x=258 y=240
text-anchor=middle>p_t, probability of the true class</text>
<text class=s transform="translate(30 110) rotate(-90)" text-anchor=middle>loss</text>
<text class=s x=44 y=18 text-anchor=end>5</text><text class=s x=44 y=214 text-anchor=end>0</text>
<text class=s x=50 y=226>0</text><text class=s x=466 y=226 text-anchor=end>1</text>
<text class=s x=462 y=24 text-anchor=end>dashed: cross entropy; solid: focal loss of a positive</text></svg>
<p id=says aria-live=polite></p><p id=agree class=soft></p>
<script id=formulas>
const FL=(p,gamma,alpha)=>-alpha*Math.pow(1-p,gamma)*Math.log(p);
const dFL=(p,gamma,alpha)=>alpha*Math.pow(1-p,gamma)*(gamma*p*Math.log(p)+p-1);
const engine=[)js" +
         rows + R"js(];
const deviation=()=>Math.max(...engine.flatMap(([p,g,a,l,s])=>[Math.abs(FL(p,g,a)/l-1),Math.abs(dFL(p,g,a)/s-1)]));
</script>
<script>
const of=id=>document.getElementById(id);
const path=f=>{let d="";for(let i=1;i<=200;i++){const p=i/200;d+=(i>1?"L":"M")+(50+416*p).toFixed(1)+" "+
(210-40*Math.min(5,Math.max(0,f(p)))).toFixed(1)}return d};
const draw=()=>{const g=+of("gamma").value,a=+of("alpha").value;
of("gamma-is").textContent=g;of("alpha-is").textContent=a;
of("ce").setAttribute("d",path(p=>FL(p,0,1)));of("fl").setAttribute("d",path(p=>FL(p,g,a)));
const easy=1e5*FL(.9,g,1-a),hard=100*FL(.1,g,a);
of("says").textContent="100,000 easy negatives (p_t 0.9) cost "+easy.toPrecision(4)+", 100 hard positives (p_t 0.1) "+
hard.toPrecision(4)+": "+(easy/hard).toPrecision(3)+" : 1."};
of("gamma").oninput=of("alpha").oninput=draw;draw();
of("agree").textContent="These formulas and the engine's values differ by at most "+deviation().toExponential(1)+
" of the value at "+engine.length+" points.";
</script>
)js";
}

std::string curve_script(const std::vector<double>& positive, const std::vector<double>& negative) {
  std::string rows;
  for (double gamma : {0.0, 0.5, 1.0, 2.0})
    rows += (rows.empty() ? "" : ",") +
            js_array({gamma, loss_curve(positive, gamma).hardest(0.2), loss_curve(negative, gamma).hardest(0.01)});
  return std::string("<h2>Move the slider</h2>") + kWithoutScripts + R"js(
<p><label>gamma <input id=gamma type=range min=0 max=5 step=.1 value=2> <b id=gamma-is></b></label></p>
<svg viewBox="0 0 480 250" class=f role=img aria-label="cumulative loss"><path class=a d="M50 10V210H466"/>
<path id=up fill=none stroke="var(--c0)" stroke-width=2.5 /><path id=down fill=none stroke="var(--c1)" stroke-width=2.5
stroke-dasharray="7 4"/><text class=s x=258 y=240 text-anchor=middle>part of the samples, easiest first</text>
<text class=s transform="translate(30 110) rotate(-90)" text-anchor=middle>part of their loss</text>
<text class=s x=50 y=226>0</text><text class=s x=466 y=226 text-anchor=end>1</text>
<text class=s x=44 y=18 text-anchor=end>1</text><text class=s x=44 y=214 text-anchor=end>0</text>
<text class=s x=58 y=24>solid: positives; dashed: negatives</text></svg>
<p id=says aria-live=polite></p><p id=agree class=soft></p>
<script id=formulas>
const positive=)js" +
         js_array(positive) + ",negative=" + js_array(negative) + R"js(;
const curve=(h,g)=>{let x=[0],y=[0],n=0,l=0;for(let b=h.length-1;b>=0;b--){if(!h[b])continue;
const t=-12+(b+.5)*.1,s=Math.max(-t,0)+Math.log1p(Math.exp(-Math.abs(t)));n+=h[b];l+=h[b]*Math.exp(-g*(s+t))*s;
x.push(n);y.push(l)}return[x.map(v=>v/n),y.map(v=>v/l)]};
const hardest=(h,g,part)=>{const[x,y]=curve(h,g);for(let i=1;i<x.length;i++)if(x[i]>=1-part)
return 1-(y[i-1]+(y[i]-y[i-1])*(1-part-x[i-1])/(x[i]-x[i-1]));return 0};
const engine=[)js" +
         rows + R"js(];
const deviation=()=>Math.max(...engine.flatMap(([g,p,n])=>[Math.abs(hardest(positive,g,.2)-p),
Math.abs(hardest(negative,g,.01)-n)]));
</script>
<script>
const of=id=>document.getElementById(id);
const path=([x,y])=>x.map((v,i)=>(i?"L":"M")+(50+416*v).toFixed(1)+" "+(210-200*y[i]).toFixed(1)).join("");
const draw=()=>{const g=+of("gamma").value;of("gamma-is").textContent=g;
of("up").setAttribute("d",path(curve(positive,g)));of("down").setAttribute("d",path(curve(negative,g)));
of("says").textContent="The hardest 20 % of the positives carry "+(100*hardest(positive,g,.2)).toFixed(0)+
" % of their loss, the hardest 1 % of the negatives "+(100*hardest(negative,g,.01)).toFixed(0)+" % of theirs."};
of("gamma").oninput=draw;draw();
of("agree").textContent="This script and the program differ by at most "+deviation().toExponential(1)+".";
</script>
)js";
}

}  // namespace fovea::lab
