// The kernels of a detector's tail, played on the processor in several orders of lanes, against sorting and greedy
// suppression by their definitions.
#include <algorithm>
#include <cmath>

#include "core/random.h"
#include "ops/cuda/soften.h"
#include "ops/cuda/suppress.h"
#include "tests/catch.h"

using namespace fovea;
using namespace fovea::cuda;

namespace {

const LaneOrder kOrders[] = {{-1, -1}, {1, 0}, {5, 3}};

// As the launches do it, with small shares so that lists are joined more than once.
template <class Source>
std::vector<uint64_t> pass(const Source& source, int64_t rows, int64_t share, int64_t& blocks, LaneOrder order) {
  blocks = (source.n + share * kBest - 1) / (share * kBest);
  std::vector<uint64_t> out(size_t(rows * blocks * kBest), 77);
  play_tiles(rows * blocks, KeepBest<Source>{source, out.data(), blocks, share * kBest}, order);
  return out;
}

}  // namespace

TEST_CASE("keys: in the order of scores, then of places, and back") {
  Dice dice(1);
  for (int round = 0; round < 2000; ++round) {
    const float a = dice.chance(0.2) ? 0 : float(dice.uniform(-1, 1)),
                b = dice.chance(0.3) ? a : float(dice.uniform(-1, 1));
    const int64_t i = dice.integer(0, 4'000'000'000), j = dice.integer(0, 4'000'000'000);
    CHECK(score_of(key_of(a, i)) == a);
    CHECK(place_of(key_of(a, i)) == i);
    CHECK(key_of(a, i) > key_of(NAN, j));
    CHECK(key_of(NAN, j) > 0);
    CHECK((key_of(a, i) > key_of(b, j)) == (a > b || (a == b && i < j)));
  }
}

TEST_CASE("the best scores are those of a sort, whatever ties") {
  Dice dice(2);
  const int64_t rows = 2;
  for (const int64_t n : {1, 2, 700, 1024, 1025, 9000})
    for (const LaneOrder order : kOrders) {
      const bool logits = dice.chance(0.5);
      const float limit = dice.chance(0.5) ? 0.3f : -1;
      std::vector<double> values(size_t(rows * n));
      for (double& v : values) v = dice.chance(0.02) ? NAN : double(dice.integer(logits ? -50 : 0, 50)) / 50;
      int64_t blocks = 0;
      auto keys = pass(Scores<double>{values.data(), n, limit, logits}, rows, 2, blocks, order);
      while (blocks > 1) {
        const auto lists = keys;
        keys = pass(Lists{lists.data(), blocks * kBest}, rows, 2, blocks, order);
      }
      for (int64_t r = 0; r < rows; ++r) {
        std::vector<std::pair<float, int64_t>> all;  // -score, place
        for (int64_t i = 0; i < n; ++i) {
          const double v = values[size_t(r * n + i)];
          const float score = float(logits ? math::sigmoid(v) : v);
          if (score > limit) all.emplace_back(-score, i);
        }
        std::sort(all.begin(), all.end());
        all.resize(std::min(all.size(), size_t(kBest)));
        bool same = true;
        for (size_t i = 0; i < size_t(kBest); ++i) {
          const uint64_t key = keys[size_t(r) * kBest + i];
          if (i >= all.size()) same = same && key == 0;
          else same = same && score_of(key) == -all[i].first && place_of(key) == all[i].second;
        }
        INFO(n << " scores, logits " << logits << ", above " << limit);
        CHECK(same);
      }
    }
}

TEST_CASE("a list of the best of all scores is the head of what is sorted, played in several orders") {
  Dice dice(5);
  for (const int64_t n : {1, 3, 1024, 1500, 5000})
    for (const LaneOrder order : kOrders) {
      std::vector<uint32_t> bits(static_cast<size_t>(n));
      for (uint32_t& b : bits) b = uint32_t(dice.integer(0, dice.chance(0.5) ? 0xffffffff : 3)) << dice.integer(0, 31);
      int64_t blocks = 0;
      auto keys = pass(AllScores{bits.data(), n}, 1, 2, blocks, order);
      while (blocks > 1) {
        const auto lists = keys;
        keys = pass(Lists{lists.data(), blocks * kBest}, 1, 2, blocks, order);
      }
      const Tensor all = sorted(Device::cpu, bits.data(), n);
      const auto* ranked = static_cast<const Ranked*>(all.raw());
      bool same = std::is_sorted(ranked, ranked + n, [](auto& a, auto& b) { return a.before(b); });
      for (int64_t i = 0; i < std::min<int64_t>(n, kBest); ++i)
        same = same && place_of(keys[size_t(i)]) == ranked[i].place;
      INFO(n << " scores");
      CHECK(same);
    }
}

TEST_CASE("ranks: all levels by score, then level, then place") {
  Dice dice(3);
  for (const int levels : {1, 3, 5}) {
    std::vector<uint64_t> keys(size_t(levels) * kBest, 0);
    for (int l = 0; l < levels; ++l) {
      uint64_t* list = keys.data() + l * kBest;
      const int64_t found = l == 1 ? 0 : dice.integer(1, kBest);
      for (int64_t i = 0; i < found; ++i) list[i] = key_of(float(dice.integer(0, 40)) / 40, i);
      std::sort(list, list + found, std::greater<>());
    }
    std::vector<int64_t> order(keys.size(), -1), expected(keys.size());
    for (size_t i = 0; i < keys.size(); ++i) expected[i] = int64_t(i);
    std::stable_sort(expected.begin(), expected.end(),
                     [&](int64_t a, int64_t b) { return keys[size_t(a)] >> 32 > keys[size_t(b)] >> 32; });
    const Rank rank{keys.data(), order.data(), levels};
    detail::backwards<Rank>(&rank, int64_t(keys.size()));
    CHECK(order == expected);
  }
}

TEST_CASE("suppression by bits is the greedy one") {
  Dice dice(4);
  for (int round = 0; round < 60; ++round) {
    const int64_t count = round < 4 ? round : dice.integer(1, 700), words = (count + 63) / 64;
    const int64_t most = round % 5 == 0 ? dice.integer(0, 5) : count;
    const float limit = round % 7 == 0 ? 2 : round % 7 == 1 ? -1e-9f : float(dice.integer(1, 9)) / 10;
    std::vector<Found> all(static_cast<size_t>(count));
    std::vector<int64_t> order(all.size());
    const int side = int(dice.integer(4, 40));  // whole numbers: some IoUs are the limit
    for (size_t i = 0; i < all.size(); ++i) {
      const auto x = float(dice.integer(0, side)), y = float(dice.integer(0, side));
      all[i] = {
          {x, y, x + float(dice.integer(0, 10)), y + float(dice.integer(0, 10))}, float(i), float(dice.integer(-1, 2))};
      order[i] = int64_t(i);
    }
    for (size_t i = order.size(); i > 1; --i) std::swap(order[i - 1], order[size_t(dice.integer(0, int64_t(i) - 1))]);
    std::vector<float> expected;  // scores, which are names here
    int64_t uncut = 0;            // how many it were if all were wanted
    std::vector<Found> kept;
    for (const int64_t i : order) {
      const Found& f = all[size_t(i)];
      const bool free = std::none_of(kept.begin(), kept.end(),
                                     [&](const Found& k) { return k.label == f.label && iou(k.box, f.box) > limit; });
      if (f.label < 0 || !free) continue;
      kept.push_back(f), ++uncut;
      if (uncut <= most) expected.push_back(f.score);
    }
    std::vector<uint64_t> mask(size_t(count * words));
    const Overlaps<Found> overlaps{all.data(), order.data(), mask.data(), count, words, limit};
    detail::backwards<Overlaps<Found>>(&overlaps, count * words);
    for (const LaneOrder lanes : kOrders) {
      std::vector<int64_t> ranks(static_cast<size_t>(most));
      std::vector<Found> out(ranks.size());
      Greedy<Found> greedy{all.data(),   order.data(), mask.data(), count,  words,
                           ranks.data(), out.data(),   most,        nullptr};
      play_tiles(1, greedy, lanes);
      std::vector<float> got;
      for (const Found& f : out)
        if (f.label >= 0) got.push_back(f.score);
      INFO(count << " boxes, at most " << most << ", IoU " << limit);
      CHECK(got == expected);
      std::vector<Found> counted = out;  // the same, behind what was kept before
      int64_t found = std::min<int64_t>(most, 3);
      greedy.out = counted.data(), greedy.found = &found;
      play_tiles(1, greedy, lanes);
      CHECK(found == std::min<int64_t>(most, std::min<int64_t>(most, 3) + uncut));
      for (int64_t i = std::min<int64_t>(most, 3); i < found; ++i)
        CHECK(counted[size_t(i)].score == out[size_t(i - 3)].score);
    }
  }
}

TEST_CASE("soft suppression by one block an image is its definition, whatever the order of lanes") {
  Dice dice(6);
  for (int round = 0; round < 40; ++round) {
    const int64_t count = round < 4 ? round : dice.integer(1, 1200), most = dice.integer(0, 60), images = 2;
    const SoftNmsOptions o{dice.chance(0.5) ? SoftNmsMethod::linear : SoftNmsMethod::gaussian, 0.3,
                           dice.uniform(0.05, 1), dice.chance(0.5) ? 1e-4 : 0.4};
    std::vector<Found> all(size_t(count * images)), expected;
    for (Found& f : all) {  // whole numbers: ties, and boxes that are the same
      const auto x = float(dice.integer(0, 12)), y = float(dice.integer(0, 12));
      f.box = {x, y, x + float(dice.integer(0, 8)), y + float(dice.integer(0, 8))};
      f.score = float(dice.integer(0, 20)) / 20, f.label = float(dice.integer(-1, 2));
    }
    std::vector<int64_t> counts;
    for (int64_t image = 0; image < images; ++image) {
      std::vector<Found> left(all.begin() + image * count, all.begin() + (image + 1) * count);
      int64_t found = 0;
      for (; found < most; ++found) {
        Found* best = nullptr;
        for (Found& f : left)
          if (f.label >= 0 && f.score >= float(o.min_score) && (!best || f.score > best->score)) best = &f;
        if (!best) break;
        expected.push_back(*best), best->label = -1;
        for (Found& f : left) {
          const double overlap = iou(expected.back().box, f.box);
          if (f.label != expected.back().label) continue;
          if (o.method == SoftNmsMethod::gaussian) f.score *= float(std::exp(-overlap * overlap / o.sigma));
          else if (float(overlap) > 0.3f) f.score *= 1 - float(overlap);
        }
      }
      counts.push_back(found);
    }
    for (const LaneOrder order : kOrders) {
      std::vector<Found> left = all, out(size_t(most * images), Found{{}, 7, 7}), got;
      std::vector<int64_t> found(size_t(images), 0);
      play_tiles(images, Soften<Found>{left.data(), count, o, out.data(), most, found.data()}, order);
      INFO(count << " boxes, at most " << most);
      CHECK(found == counts);
      for (size_t i = 0; i < out.size(); ++i) {
        CHECK(out[i].none() == (int64_t(i) % most >= counts[i / size_t(most)]));
        if (!out[i].none()) got.push_back(out[i]);
      }
      REQUIRE(got.size() == expected.size());
      CHECK((got.empty() || std::memcmp(got.data(), expected.data(), got.size() * sizeof(Found)) == 0));
    }
  }
}
