// Shapes, element types, tensors and the allocator under them.
#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

#include "core/random.h"
#include "core/scope.h"
#include "core/tensor.h"
#include "tests/files.h"

using namespace fovea;
using namespace fovea::test;

TEST_CASE("shapes are checked arithmetic") {
  const int64_t big = int64_t{1} << 31;
  CHECK_THROWS_AS((Shape{big, big}), Error);
  CHECK_THROWS_AS((Shape{0, big, big}), Error);  // a 0 does not hide an overflow
  CHECK_THROWS_AS((Shape{big, big, 0}), Error);
  CHECK_THROWS_AS((Shape{2, -1}), Error);
  CHECK_THROWS_AS((Shape{1, 1, 1, 1, 1, 1, 1, 1, 1}), Error);
  CHECK(Shape{1, 2, 3, 4, 5, 6, 7, 8}.numel() == 40320);
  CHECK(Shape{}.numel() == 1);
  CHECK(Shape{3, 0}.numel() == 0);
  const Shape s{2, 3, 4};
  CHECK(s.rows() == 6);
  CHECK(s[-1] == 4);
  CHECK(s.at(-3) == 2);
  CHECK_THROWS_AS(s.at(3), Error);
  CHECK_THROWS_AS(s.at(-4), Error);
  CHECK(s.with(1, 9) == Shape{2, 9, 4});
  CHECK(s.without(-1) == Shape{2, 3});
  CHECK(s.plus(5) == Shape{2, 3, 4, 5});
  CHECK_THROWS_AS(s.with(0, -2), Error);
  CHECK(s.str() == "[2, 3, 4]");
}

TEST_CASE("shapes broadcast as numpy's do, and say which axis does not") {
  CHECK(broadcast("add", {2, 1, 4}, {3, 1}) == Shape{2, 3, 4});
  CHECK(broadcast("add", {}, {5}) == Shape{5});
  CHECK(broadcast("add", {0, 3}, {1, 3}) == Shape{0, 3});
  const std::string m = message_of([] { broadcast("add", {2, 3}, {2, 4}); });
  for (const char* part : {"add:", "[2, 3]", "[2, 4]", "axis -1", "3 and 4"}) CHECK(m.find(part) != std::string::npos);
}

TEST_CASE("a tensor that was moved from is undefined, without a shape") {
  Tensor x = Tensor::full({2, 3}, 1, DType::f64).set_requires_grad(), y = std::move(x);
  CHECK(y.shape() == Shape{2, 3});
  CHECK(y.requires_grad());
  for (int i = 0; i < 2; ++i) {
    CHECK(!x);
    CHECK(x.shape() == Shape{});
    CHECK(x.dtype() == DType::f32);
    CHECK(!x.requires_grad());
    x = std::move(y), std::swap(x, y);
  }
  CHECK(y.values<double>() == std::vector<double>(6, 1));
}

TEST_CASE("bf16 rounds to nearest even and keeps NaN and infinity") {
  const auto round = [](float x) { return float(bf16(x)); };
  CHECK(round(1.0f) == 1.0f);
  CHECK(round(1.00390625f) == 1.0f);          // a tie: 1 + 2^-8 goes to the even 1
  CHECK(round(1.01171875f) == 1.015625f);     // a tie: 1 + 3 * 2^-8 goes to the even 1 + 2^-6
  CHECK(round(1.0039063692f) == 1.0078125f);  // just above the tie
  CHECK(round(-3.4e38f) == -std::numeric_limits<float>::infinity());
  CHECK(std::isnan(round(std::nanf(""))));
  uint32_t low = 0x7f800001;  // a NaN whose upper half looks like infinity
  float nan;
  std::memcpy(&nan, &low, 4);
  CHECK(std::isnan(round(nan)));
  CHECK(round(std::numeric_limits<float>::infinity()) == std::numeric_limits<float>::infinity());
}

TEST_CASE("tensors share, copy and convert") {
  Tensor t = Tensor::from<float>({2, 3}, {0, 1, 2, 3, 4, 5});
  CHECK_THROWS_AS(Tensor::from<float>({2, 3}, {1}), Error);
  CHECK_THROWS_WITH(t.data<double>(), "tensor of f32 read as f64\n  hint: convert it with to(DType::f64)");
  CHECK_THROWS_AS(t.item(), Error);
  CHECK_THROWS_AS(t.at(6), Error);
  CHECK_THROWS_AS(t.at(-1), Error);
  for (const std::string& said : {message_of([] { Tensor().at(0); }), message_of([] { Tensor().item(); })})
    CHECK(said.find(": the tensor is undefined\n  hint: so is grad()") != std::string::npos);  // not "of shape []"
  CHECK_THROWS_AS(Tensor().fill(1), Error);
  CHECK_THROWS_AS(Tensor().values<float>(), Error);
  CHECK(t.at(4) == 4);
  const Tensor view = t.view({3, 2}), row = t.rows(1, 2), copy = t.clone();
  CHECK_THROWS_AS(t.view({4}), Error);
  CHECK_THROWS_AS(t.rows(1, 3), Error);
  CHECK_THROWS_AS(t.rows(2, 1), Error);
  CHECK_THROWS_AS(t.rows(-1, 1), Error);
  CHECK(row.shape() == Shape{1, 3});
  const uint64_t before = t.version();
  t.fill(7);
  CHECK(t.version() > before);
  CHECK(view.version() == t.version());
  CHECK(view.at(0) == 7);
  CHECK(row.at(2) == 7);
  CHECK(copy.at(5) == 5);
  CHECK(t.shares_storage(row));
  CHECK(!t.shares_storage(copy));
  CHECK(copy.to(DType::i64).values<int64_t>() == std::vector<int64_t>{0, 1, 2, 3, 4, 5});
  CHECK(float(copy.to(DType::bf16).values<bf16>()[3]) == 3);
  CHECK(copy.to(DType::f64).to(DType::u8).values<uint8_t>()[5] == 5);
  CHECK_THROWS_AS(t.copy_from(Tensor({6})), Error);
  CHECK_THROWS_AS(Tensor({2}, DType::i64).set_requires_grad(), Error);
  CHECK(Tensor({0, 3}).size() == 0);
  CHECK(Tensor::full({}, 2.5).item() == 2.5);
  CHECK(reinterpret_cast<uintptr_t>(Tensor({5}).raw()) % 64 == 0);
}

TEST_CASE("a tensor is not copied onto a part of itself that it overlaps") {
  Tensor x = Tensor::from<float>({4}, {1, 2, 3, 4});
  CHECK_THROWS_AS(x.rows(1, 4).copy_from(x.rows(0, 3)), Error);
  x.rows(2, 4).copy_from(x.rows(0, 2));
  x.copy_from(x);
  CHECK(x.values<float>() == std::vector<float>{1, 2, 1, 2});
}

TEST_CASE("the allocator keeps count by tag, reuses blocks, and says who holds the memory") {
  trim_cache();
  const MemoryStats start = memory_stats();
  reset_peak();
  {
    Scope outer("backbone"), inner("layer1");
    Tensor a({1000, 1000});
    const MemoryStats now = memory_stats();
    CHECK(now.current - start.current >= 4'000'000);
    CHECK(now.current - start.current <= 4'500'000);
    CHECK(now.tags.at("backbone") == now.current - start.current);
  }
  const MemoryStats freed = memory_stats();
  CHECK(freed.current == start.current);
  CHECK(freed.peak >= start.current + 4'000'000);
  CHECK(freed.cached >= 4'000'000);
  CHECK(freed.tags.at("backbone") == 0);
  { Tensor again({1000, 1000}); }  // served by what was kept
#if defined(__SANITIZE_ADDRESS__)
  { Tensor again({1000, 1000}); }  // blocks stay whole there
#else
  { Tensor less({850, 1000}); }  // by a part of it
#endif
  CHECK(memory_stats().system_allocations == freed.system_allocations);
  CHECK(memory_stats().allocations == freed.allocations + 2);
  trim_cache();
  CHECK(memory_stats().cached == 0);
  CHECK(allocate(0) != nullptr);
  const std::string m = message_of([] { allocate(size_t{1} << 60); }, Code::memory);
  CHECK(m.find("out of memory") != std::string::npos);
  CHECK(m.find("hint") != std::string::npos);
  CHECK_THROWS_AS(allocate(~size_t{0}), Error);  // which rounds up to 0
}

#if !defined(__SANITIZE_ADDRESS__)
TEST_CASE("what is asked for again and again takes no more pages than once, however many segments it needs") {
  trim_cache();
  const Tensor weights({75, 1 << 20});  // 300 MB of the first 512 MB; none is written, so none is real
  size_t once = 0;
  for (int step = 0; step < 4; ++step) {
    std::vector<Tensor> maps;
    for (int i = 0; i < 40; ++i) maps.emplace_back(Shape{4 + i % 3, 1 << 20});
    if (step == 0) once = memory_stats().cached + memory_stats().current;
    maps.erase(maps.begin() + 20, maps.end());  // freed in another order
    maps.clear();
    CHECK(memory_stats().cached + memory_stats().current < once + (size_t{24} << 20));  // a map
  }
}
#endif

TEST_CASE("blocks of any size and order never overlap, and all of them come back") {
  struct Held {
    uint8_t* p;
    size_t size;
    uint8_t mark;
  };
  Dice dice(4);
  std::vector<Held> held;
  const size_t start = memory_stats().current;
  const auto drop = [&](size_t i) {
    const Held h = held[i];
    const bool whole = std::all_of(h.p, h.p + h.size, [&](uint8_t v) { return v == h.mark; });
    held[i] = held.back(), held.pop_back(), release(h.p);
    return whole;
  };
  bool whole = true;
  for (int i = 0; i < 3000; ++i) {
    if (!held.empty() && dice.chance(held.size() > 60 ? 0.6 : 0.4)) {
      whole = whole && drop(size_t(dice.integer(0, int64_t(held.size()) - 1)));
      continue;
    }
    const auto size = size_t(dice.chance(0.3) ? dice.integer(1, 70'000) : dice.integer(60'000, 900'000));
    const auto thread = int(dice.integer(-1, 1));
    auto* p = static_cast<uint8_t*>(thread < 0 ? allocate(size) : allocate_apart(size, thread));
    whole = whole && reinterpret_cast<uintptr_t>(p) % 64 == 0;
    std::fill(p, p + size, uint8_t(i));
    held.push_back({p, size, uint8_t(i)});
  }
  while (!held.empty()) whole = whole && drop(held.size() - 1);
  CHECK(whole);
  CHECK(memory_stats().current == start);
}

TEST_CASE("what a thread had for itself, no other use gets") {
  for (const size_t size : {size_t{100}, size_t{50'000}, size_t{1} << 20}) {
    const MemoryStats start = memory_stats();
    void* own = allocate_apart(size, 1);
    CHECK(memory_stats().current >= start.current + size);
    release(own);
    CHECK(memory_stats().current == start.current);
#if !defined(__SANITIZE_ADDRESS__)  // there it is the system's
    const std::vector<void*> others = {allocate(size), allocate_apart(size, 0), allocate_apart(size, 2)};
    CHECK(std::count(others.begin(), others.end(), own) == 0);
    void* again = allocate_apart(size, 1);
    CHECK(again == own);
    release(again);
    for (void* p : others) release(p);
#endif
  }
  Workspace a = Workspace::of_thread(4000, 1);
  void* p = a.as<char>();
  Workspace b = std::move(a);
  CHECK(b.as<char>() == p);
}

TEST_CASE("errors carry the module path, before the hint") {
  Scope a("head"), b("conv");
  const std::string m = message_of([] { fail(Code::failure, "x: wrong\n  hint: none"); });
  CHECK(m == "x: wrong\n  at head.conv\n  hint: none");
  Scope nameless("");
  CHECK(Scope::path() == "head.conv");
}
