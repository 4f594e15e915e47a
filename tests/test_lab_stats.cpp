// The laboratory's statistics against tables, hand counts and simulation, and its file of finished cells.
#include <cmath>
#include <fstream>

#include "core/random.h"
#include "tests/files.h"
#include "tests/spoken.h"
#include "tools/lab/cells.h"
#include "tools/lab/stats.h"

using namespace fovea;
using namespace fovea::lab;

TEST_CASE("student's t: tables and closed forms") {
  // Published two-sided 95 % quantiles, and one-sided ones.
  for (auto [freedom, t] : {std::pair{1, 12.706}, {2, 4.303}, {4, 2.776}, {9, 2.262}, {30, 2.042}, {1000, 1.962}})
    CHECK(t_quantile(0.975, freedom) == Approx(t).epsilon(3e-4));
  CHECK(t_quantile(0.95, 9) == Approx(1.833).epsilon(3e-4));
  for (double t : {-30.0, -2.5, -0.3, 0.0, 0.7, 1.0, 4.0, 100.0}) {
    CHECK(t_probability(t, 1) == Approx(0.5 + std::atan(t) / M_PI).epsilon(1e-12));  // Cauchy
    CHECK(t_probability(t, 2) == Approx(0.5 + t / (2 * std::sqrt(2 + t * t))).epsilon(1e-10));
    for (double freedom : {3.0, 10.0}) {
      CHECK(t_probability(t, freedom) + t_probability(-t, freedom) == Approx(1));
      if (std::abs(t) < 20) CHECK(t_quantile(t_probability(t, freedom), freedom) == Approx(t).margin(1e-6));
    }
  }
}

TEST_CASE("paired tests by hand") {
  const std::vector<double> d = {1, 2, 3};  // mean 2, deviation 1: t = 2 sqrt(3)
  const Interval i = interval(d);
  CHECK(i.mean == Approx(2));
  CHECK(i.deviation == Approx(1));
  CHECK(i.low == Approx(2 - 4.30265 / std::sqrt(3.0)).epsilon(1e-5));
  const double t = 2 * std::sqrt(3.0);
  CHECK(t_test_above(d) == Approx(0.5 - t / (2 * std::sqrt(2 + t * t))));
  CHECK(t_test_above(d, 2) == Approx(0.5));
  CHECK(sign_flip_above(d) == Approx(1.0 / 8));           // only the observed signs reach a sum of 6
  CHECK(sign_flip_above({1, 2, -3}) == Approx(5.0 / 8));  // sums 6 0 2 -4 4 -2 0 -6: five reach 0
  CHECK(sign_flip_above({-1, -1}) == Approx(1));
  // Around 0.1 with deviation 1: both sides of the margin 3 are t = 2.9 sqrt(3) and 3.1 sqrt(3) away.
  const double near = 2.9 * std::sqrt(3.0);
  CHECK(equivalence({-0.9, 0.1, 1.1}, 3) == Approx(0.5 - near / (2 * std::sqrt(2 + near * near))));
  std::vector<double> many(25, 1.0);
  CHECK(sign_flip_above(many) == Approx(sign_flip_least(25)));  // by random patterns
  CHECK(sign_flip_least(25) == Approx(1.0 / 100001));
  for (const int n : {3, 20}) CHECK(sign_flip_least(n) == Approx(sign_flip_above(std::vector<double>(size_t(n), 1.0))));
  const double e = 1e-7;  // t = sqrt(3) / e, where the tail of 3 degrees of freedom is 2 sqrt(3) / (pi t^3)
  CHECK(t_test_above({1 - e, 1 + e, 1 - e, 1 + e}) == Approx(2 * e * e * e / (3 * M_PI)).epsilon(1e-5));
}

TEST_CASE("verdicts: decided by the interval alone, both ways") {
  CHECK(judge({1, 1.1, 0.9, 1.05}, 0) == Verdict::reproduced);
  CHECK(judge({-1, -1.1, -0.9, -1.05}, 0) == Verdict::not_reproduced);
  CHECK(judge({1, -1.1, 0.9, -1.05}, 0) == Verdict::not_decided);
  CHECK(judge({1, 2, 3}, 0) == Verdict::not_decided);  // 2 -+ 2.48
  CHECK(judge({0.01, -0.01, 0, 0.01}, 0.1) == Verdict::reproduced);
  CHECK(judge({1, 1.1, 0.9, 1.05}, 0.1) == Verdict::not_reproduced);
  CHECK(judge({1, -1.1, 0.9, -1.05}, 0.1) == Verdict::not_decided);
  CHECK(judge({0.5}, 0) == Verdict::not_decided);
  CHECK(judge({0.5, 0.5}, 0) == Verdict::reproduced);  // no spread at all
  CHECK(judge({0, 0}, 0) == Verdict::not_decided);
  CHECK(name_of(Verdict::not_decided, 3) == "not decided at 3 seeds");
  CHECK(name_of(Verdict::not_decided, 1) == "not decided at 1 seed");
}

TEST_CASE("simulation: intervals cover 95 %, tests err as often as they say") {
  for (int n : {3, 5, 10}) {
    int covered = 0, above = 0, flipped = 0, equivalent = 0;
    const int trials = 4000;
    Dice dice(17, uint64_t(n));
    for (int trial = 0; trial < trials; ++trial) {
      std::vector<double> zero, edge;
      for (int i = 0; i < n; ++i) zero.push_back(dice.normal(0, 2)), edge.push_back(dice.normal(1, 0.5));
      const Interval i = interval(zero);
      covered += i.low <= 0 && i.high >= 0;
      above += t_test_above(zero) < 0.05;
      flipped += sign_flip_above(zero) <= 0.125;
      equivalent += equivalence(edge, 1) < 0.05;  // the truth is at the margin: wrong in at most 5 %
    }
    INFO(n);
    const double four = 4 * std::sqrt(0.05 * 0.95 / trials);  // standard deviations of such a share
    CHECK(std::abs(covered / double(trials) - 0.95) < four);
    CHECK(std::abs(above / double(trials) - 0.05) < four);
    CHECK(std::abs(flipped / double(trials) - 0.125) < 4 * std::sqrt(0.125 * 0.875 / trials));
    CHECK(equivalent / double(trials) < 0.05 + four);
  }
}

TEST_CASE("cells: written and read back, what a kill cut off is trained again") {
  const test::Folder folder;
  const std::string path = folder / "cells.csv", odd = "full a,\"b\" loss.gamma=0.5 model.anchors.scales=1,2";
  const Metrics one{{"ap", {0.1 + 0.2}}, {"list", {1, -2.5e-7, 3e300, 123456}}, {"none", {}}};
  {
    CellFile cells(path);
    CHECK(cells.size() == 0);
    cells.add(odd, 1, one);
    cells.add("quick shapes", 18446744073709551615u, {{"ap", {0}}});
    cells.add("last", 3, {{"list", {1.0 / 3, 1}}});
    CHECK(cells.find("last", 3)->at("list") == std::vector<double>{0.333333, 1});  // as it is read from the file
  }
  const std::string whole = test::slurp(path);
  for (size_t cut = 0; cut <= whole.size(); ++cut) {
    std::ofstream(path, std::ios::binary) << whole.substr(0, cut);
    CellFile cells(path);
    const size_t first = whole.find('\n') + 1;
    size_t lines = 0;  // that are whole: only the last line's end is spare
    for (size_t end = whole.find('\n'); end != std::string::npos && end <= cut; end = whole.find('\n', end + 1))
      ++lines;
    CHECK(cells.size() == lines);
    if (cut >= first) CHECK(*cells.find(odd, 1) == one);
    if (cut % 7 != 0) continue;
    cells.add("next", 2, {{"ap", {0.25}}});  // after a cut line: on a line of its own
    CellFile again(path);
    REQUIRE(again.find("next", 2));
    CHECK(again.find("next", 2)->at("ap")[0] == 0.25);
    CHECK(again.size() == cells.size());
  }
}

TEST_CASE("cells are found again in a file whose line ends became those of Windows, and in any language") {
  const Metrics one{{"ap", {0.5}}, {"list", {1.5, 1234567.5}}};
  const std::string line = cell_line("a", 1, one), next = cell_line("b", 2, one);
  const test::Folder folder;
  const auto crlf = [](const std::string& s) { return s.substr(0, s.size() - 1) + "\r\n"; };
  CellFile cells(folder.write("cells.csv", crlf(line) + crlf(next)));
  CHECK(cells.size() == 2);
  CHECK((cells.find("a", 1) && cells.find("b", 2)));
  const test::Spoken german;
  CHECK(cell_line("a", 1, one) == line);
}
