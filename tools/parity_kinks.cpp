// Finds the ReLUs on the tape, and chooses the sides of the activations that rounding decides.
#include "tools/parity_kinks.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/autograd.h"
#include "ops/conv.h"
#include "ops/pointwise.h"

namespace fovea {
namespace {

constexpr double kDeviations = 7;  // of the rounding at a channel: nearer to 0 than that, an activation's side is open

// One map that went through a ReLU, on the processor.
struct Site {
  Tensor y, before;  // the map, and what the ReLU saw; without their tape, which holds the hooks that hold this
  std::vector<int64_t> near;  // indices that rounding decides
  std::vector<bool> active;   // their own side
  std::vector<bool> off;      // after the choice: their gradient is 0
  Tensor dy;                  // while backward runs; where the network is
};

// The sites whose active units share a bias.
struct Group {
  std::vector<Site> sites;
  Tensor bias_gradient;  // the reference's
  size_t arrived = 0;
  std::shared_ptr<Kinks> kinks;
};

// The same maps on the tape, for hooks.
struct Handles {
  Tensor y, before;
};

using Maps = std::map<const Record*, Tensor>;  // what the modules returned, by its record on the tape

// What the ReLU that made `y` saw; undefined where `y` comes from another op.
Tensor before_relu(const Tensor& y, const Maps& maps, bool plain_heads) {
  const Node& node = *y.record()->node;
  const std::string name = node.name();
  const auto input = [&](size_t i) { return maps.at(node.inputs[i].record.get()); };
  NoGrad off;
  if (name == "relu") return input(0);
  if (name == "add_relu") return add(input(0).detach(), input(1).detach());
  const bool tower = node.path.starts_with("head.") && node.path.find(".conv.") != std::string::npos;
  if (name != "conv2d" || !tower || !plain_heads) return {};
  const size_t n = node.inputs.size();  // a map for every level, weight, bias, residual
  return conv2d(input(static_cast<size_t>(y.record()->slot)).detach(), input(n - 3).detach(), input(n - 2).detach(),
                {.pad = 1});
}

// The bias right before a ReLU: of its convolution, or of the norm that made its (first) input.
const Record* bias_of(const Node& node) {
  if (std::string(node.name()) == "conv2d") return node.inputs[node.inputs.size() - 2].record.get();
  const auto& record = node.inputs[0].record;
  if (!record || !record->node) return nullptr;
  const Node& maker = *record->node;
  const std::string name = maker.name();
  if (name == "conv2d") return maker.inputs[maker.inputs.size() - 2].record.get();
  return name == "batch_norm" || name == "group_norm" ? maker.inputs[2].record.get() : nullptr;
}

// Of each channel, the root of the mean square of x - other: how far rounding moves a value there.
std::vector<double> rounding(const Tensor& x, const Tensor& other) {
  const int64_t channels = x.dim(-1), rows = x.size() / channels;
  std::vector<double> sum(static_cast<size_t>(channels));
  for (int64_t i = 0; i < x.size(); ++i) {
    const double d = x.at(i) - other.at(i);
    sum[static_cast<size_t>(i % channels)] += d * d;
  }
  for (double& v : sum) v = std::sqrt(v / static_cast<double>(rows));
  return sum;
}

// What was changed of `here`, which may be a copy of `there`. Not a change for backward(): the ops after it have run.
void put_back(const Tensor& here, Tensor there) {
  if (here.shares_storage(there)) return;
  const uint64_t version = there.version();
  there.copy_from(here);
  there.storage()->version = version;
}

template <class T> void find_near(Site& site, const Tensor& other) {
  const Tensor& x = site.before;
  const std::vector<double> moved = rounding(x, other);
  for (int64_t i = 0; i < x.size(); ++i) {
    if (std::abs(x.at(i)) > kDeviations * moved[static_cast<size_t>(i) % moved.size()]) continue;
    site.near.push_back(i);
    T& y = site.y.data<T>()[i];
    site.active.push_back(y > 0);
    if (!(y > 0)) y = T(1e-30);  // active, so that its gradient arrives; the ops after it have run
  }
  site.off.resize(site.near.size());
}

struct Unit {
  size_t site, position;  // in Site::near
  double dy;
};

// Which of the units are off, so that their dy sum to `wanted`. A change of side must explain more than `noise`.
void choose(std::vector<Unit> units, Group& group, double wanted, double noise) {
  constexpr size_t kMost = 14;  // the strongest decide, the others keep their side
  if (units.size() > kMost) {
    std::sort(units.begin(), units.end(), [](auto& a, auto& b) { return std::abs(a.dy) > std::abs(b.dy); });
    for (size_t u = kMost; u < units.size(); ++u)
      if (group.sites[units[u].site].off[units[u].position]) wanted -= units[u].dy;
    units.resize(kMost);
  }
  unsigned own = 0, best = 0;
  for (size_t u = 0; u < units.size(); ++u)
    if (group.sites[units[u].site].off[units[u].position]) own |= 1u << u;
  double best_cost = INFINITY;
  for (unsigned set = 0; set < 1u << units.size(); ++set) {
    double sum = 0;
    for (size_t u = 0; u < units.size(); ++u)
      if (set >> u & 1) sum += units[u].dy;
    const double cost = std::abs(sum - wanted) + noise * __builtin_popcount(set ^ own);
    if (cost < best_cost) best_cost = cost, best = set;
  }
  for (size_t u = 0; u < units.size(); ++u) group.sites[units[u].site].off[units[u].position] = best >> u & 1;
  group.kinks->moved += __builtin_popcount(best ^ own);
}

// What the sums of channels without open units are off by: the rounding of the gradients themselves.
double noise_of(std::vector<double> residuals, double scale) {
  if (residuals.empty()) return 1e-5 * scale;
  const size_t most = residuals.size() * 9 / 10;
  std::nth_element(residuals.begin(), residuals.begin() + static_cast<std::ptrdiff_t>(most), residuals.end());
  return std::max(2 * residuals[most], 1e-6 * scale) + 1e-30;
}

// All dy of the group are there.
void decide(Group& group) {
  const size_t channels = static_cast<size_t>(group.bias_gradient.size());
  std::vector<double> sum(channels), residuals;
  std::map<size_t, std::vector<Unit>> by_channel;
  double scale = 0;
  for (size_t s = 0; s < group.sites.size(); ++s) {
    Site& site = group.sites[s];
    const Tensor dy = site.dy.to(Device::cpu);
    for (int64_t i = 0; i < dy.size(); ++i)
      if (site.y.at(i) > 0) sum[static_cast<size_t>(i) % channels] += dy.at(i);
    for (size_t k = 0; k < site.near.size(); ++k) {
      site.off[k] = !site.active[k];
      by_channel[static_cast<size_t>(site.near[k]) % channels].push_back({s, k, dy.at(site.near[k])});
    }
  }
  for (size_t c = 0; c < channels; ++c) {
    const double reference = group.bias_gradient.at(static_cast<int64_t>(c));
    scale = std::max(scale, std::abs(reference)), sum[c] -= reference;
    if (!by_channel.count(c)) residuals.push_back(std::abs(sum[c]));
  }
  const double noise = noise_of(residuals, scale);
  for (auto& [c, units] : by_channel) choose(units, group, sum[c], noise);
}

void clear_off(const Site& site, const Tensor& gradient) {
  const Tensor here = gradient.to(Device::cpu);
  dispatch_float(here.dtype(), [&]<class T>() {
    for (size_t k = 0; k < site.near.size(); ++k)
      if (site.off[k]) here.data<T>()[site.near[k]] = 0;
  });
  put_back(here, gradient);
}

// Collects dy at each site. One node (or one site): chosen when the last dy arrives, in place. Several nodes (a norm on
// each level of a pyramid): their ReLUs all run before the first norm does, which is where the choice is made and
// applied.
void attach(const std::shared_ptr<Group>& group, std::vector<Handles>& handles, bool one_node) {
  for (size_t s = 0; s < group->sites.size(); ++s) {
    handles[s].y.add_hook([group, s, one_node](Tensor& dy) {
      group->sites[s].dy = dy = dy.clone();
      if (++group->arrived < group->sites.size()) return;
      decide(*group);
      if (one_node)
        for (Site& site : group->sites) clear_off(site, site.dy);
    });
    if (!one_node)
      handles[s].before.add_hook([group, s](Tensor& dx) {
        dx = dx.clone();
        clear_off(group->sites[s], dx);
      });
  }
}

// P7's input relu(P6): the reference's own P6 is in the file.
void follow_p6(Site& site, Tensor handle, const Tensor& p6, const std::shared_ptr<Kinks>& kinks) {
  const int64_t c = p6.dim(1), area = p6.dim(2) * p6.dim(3);  // [N,C,H,W]
  for (size_t k = 0; k < site.near.size(); ++k) {
    const int64_t i = site.near[k], pixel = i / c, there = (pixel / area * c + i % c) * area + pixel % area;
    site.off[k] = !(p6.at(there) > 0);
    kinks->moved += site.off[k] == site.active[k];
  }
  handle.add_hook([site](Tensor& dy) { dy = dy.clone(), clear_off(site, dy); });
}

// The maps that the modules returned, and the parameters, which the tape knows by the same handles.
Maps maps_of(const std::vector<Tensor>& outputs, const RetinaNet& model) {
  Maps maps;
  for (const auto& p : model.parameters()) maps[p.value.record().get()] = p.value;
  for (const Tensor& t : outputs)
    if (t.record()) maps.emplace(t.record().get(), t);
  return maps;
}

}  // namespace

std::vector<Tensor> inputs_of_relus(const std::vector<Tensor>& outputs, const RetinaNet& model) {
  const Maps maps = maps_of(outputs, model);
  std::vector<Tensor> before;
  for (const Tensor& y : outputs)
    before.push_back(y.record() && y.record()->node ? before_relu(y, maps, model.options.head_norm == "none")
                                                    : Tensor());
  return before;
}

std::shared_ptr<Kinks> take_sides(const ParityStep& step, const ParityStep& other, const ParityCase& c) {
  struct Found {
    std::shared_ptr<Group> group = std::make_shared<Group>();
    std::vector<Handles> handles;
    std::set<const Node*> nodes;
  };
  auto kinks = std::make_shared<Kinks>();
  std::map<const Record*, std::string> names;
  std::map<const Record*, Found> groups;  // by bias
  for (const auto& p : step.model.parameters()) names[p.value.record().get()] = p.name;
  std::set<const Record*> seen;
  for (size_t i = 0; i < step.outputs.size(); ++i) {  // both steps called the same modules in the same order
    const Tensor& y = step.outputs[i];
    const Tensor& before = step.before[i];
    if (!before || !seen.insert(y.record().get()).second) continue;
    const auto name = names.find(bias_of(*y.record()->node));
    if (name == names.end()) continue;
    Site site{y.to(Device::cpu), before.to(Device::cpu), {}, {}, {}, {}};
    dispatch_float(site.y.dtype(), [&]<class T>() { find_near<T>(site, other.before.at(i).to(Device::cpu)); });
    put_back(site.y, y);
    kinks->near += static_cast<int64_t>(site.near.size());
    if (name->second.find("extra_blocks.p6") != std::string::npos) {
      follow_p6(site, y, c.file.at("expect/features/3"), kinks);
      continue;
    }
    Found& found = groups[name->first];
    found.group->kinks = kinks, found.group->bias_gradient = c.file.at("expect/grad/" + name->second);
    found.group->sites.push_back(std::move(site)), found.handles.push_back({y, before});
    found.nodes.insert(y.record()->node.get());
  }
  for (auto& [bias, found] : groups) attach(found.group, found.handles, found.nodes.size() == 1);
  return kinks;
}

}  // namespace fovea
