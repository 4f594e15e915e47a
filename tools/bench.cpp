// fovea bench: the machine's limits, the report that its parts share, and its comparison with a kept one.
#include "tools/bench.h"

#include <cmath>
#include <cstdlib>
#include <cstring>
#include <iostream>
#include <map>

#include "core/gemm.h"
#include "core/isa.h"
#include "core/threads.h"
#include "data/image.h"
#include "ops/cpu/kernels.h"
#include "tools/run_dir.h"

namespace fovea {
namespace {

// A kept report of this bench, with a list of rows.
Json read_kept(const std::string& path, const std::string& bench) {
  const std::vector<uint8_t> bytes = read_bytes(path);
  Json kept = parse_json({bytes.begin(), bytes.end()});
  const char* hint = "\n  hint: keep what --json prints: fovea bench ";
  check(Code::data, kept["bench"].is(Json::Kind::text), "--compare ", path, ": is no report of fovea bench", hint,
        bench, " --json > ", path);
  check(Code::data, kept["bench"] == bench, "--compare ", path, ": is of fovea bench ", kept["bench"].string,
        ", not of fovea bench ", bench);
  if (!kept.has("rows")) kept["rows"] = Json::list({kept});
  check(Code::data, kept["rows"].is(Json::Kind::list), "--compare ", path, ": 'rows' is no list");
  for (const Json& row : kept["rows"].items) {
    const bool good = row["name"].is(Json::Kind::text) && row["ms_median"].number() > 0;
    check(Code::data, good, "--compare ", path, ": a row lacks its name or a positive ms_median: ", json_text(row));
  }
  return kept;
}

std::string cell(const Json& value) {
  if (value.is(Json::Kind::text)) return value.string;
  if (value.is_whole()) return count_text(value.integer());
  if (!value.is_number()) return "-";
  const double v = value.number(), size = std::abs(v);
  if (size > 0 && size < 1e-3) return scientific(v);  // an error
  return number(v, size >= 100 ? 0 : size >= 10 ? 1 : size >= 0.1 || size == 0 ? 2 : 4);
}

std::string heading(std::string key) {  // "gb_per_s" is GB/s
  static const std::map<std::string, std::string> known = {{"gb_per_s", "GB/s"},
                                                           {"gflops", "GFLOP/s"},
                                                           {"mb", "MB"},
                                                           {"peak_mb", "peak MB"},
                                                           {"copy_gb_per_s", "copy GB/s"},
                                                           {"peak_gflops", "peak GFLOP/s"},
                                                           {"images_per_s", "images/s"},
                                                           {"pictures_per_s", "pictures/s"},
                                                           {"detections_per_s", "detections/s"}};
  if (const auto it = known.find(key); it != known.end()) return it->second;
  std::replace(key.begin(), key.end(), '_', ' ');
  return key;
}

}  // namespace

double Times::median() const {
  std::vector<double> sorted = ms;
  std::sort(sorted.begin(), sorted.end());
  const size_t n = sorted.size();
  return (sorted[(n - 1) / 2] + sorted[n / 2]) / 2;
}

Json timed_row(const std::string& name, const Times& times) {
  return {{"name", name}, {"ms_min", times.least()}, {"ms_median", times.median()}};
}

Tensor noise(const Shape& shape, uint64_t seed) {
  Tensor t(shape);
  const Philox random{seed, 0};
  parallel_for(t.size(), 4096, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end; ++i)
      t.data<float>()[i] = static_cast<float>(random.normal(static_cast<uint64_t>(i)));
  });
  return t;
}

Machine measure_machine() {
  const auto& k = cpu::kernels();
  constexpr int64_t kBytes = int64_t{48} << 20, kChunk = int64_t{1} << 20, kRows = 24, kDepth = 256;
  const Tensor part = noise({kChunk / 4}, 1), a = noise({kRows, kDepth}, 2);
  const Tensor b = noise({kDepth, k.panel}, 3);  // a packed panel: any numbers are one
  const Tensor from({kBytes / 4}), to({kBytes / 4});
  for (int64_t at = 0; at < kBytes; at += kChunk) std::memcpy(from.data<float>() + at / 4, part.raw(), size_t{kChunk});
  BenchFlags flags;
  flags.rounds = 20, flags.warmup = 1;  // of milliseconds each: one of them meets a quiet moment
  const Times copy = measure(flags, [&] {
    parallel_for(kBytes, kChunk, [&](int64_t begin, int64_t end) {
      std::memcpy(to.data<float>() + begin / 4, from.data<float>() + begin / 4, static_cast<size_t>(end - begin));
    });
  });
  constexpr int64_t kParts = 64, kCalls = 8;
  const Times product = measure(flags, [&] {
    parallel_for(kParts, 1, [&](int64_t, int64_t) {
      Workspace c(static_cast<size_t>(kRows * k.panel) * 4);
      const cpu::Run all{0, 0, kDepth};
      for (int64_t i = 0; i < kCalls; ++i)
        k.f32.product({.m = kRows,
                       .n = k.panel,
                       .runs = &all,
                       .a = a.data<float>(),
                       .lda = kDepth,
                       .b = b.data<float>(),
                       .depth = kDepth,
                       .c = c.as<float>(),
                       .ldc = k.panel});
    });
  });
  const double flops = 2.0 * double(kRows * k.panel * kDepth) * double(kParts * kCalls);
  return {2 * double(kBytes) * 1e-6 / copy.least(), flops * 1e-6 / product.least()};
}

double roofline(const Machine& machine, double bytes, double flops, double ms) {
  return 1e-6 * std::max(bytes / machine.copy_gb_per_s, flops / machine.peak_gflops) / ms;
}

void add_bench_flags(Command& command, BenchFlags& flags, const std::string& threads_if_0) {
  command.option("--threads", flags.threads, "threads; 0: " + threads_if_0).show_default().range(0, 256);
  command.option("--rounds", flags.rounds, "measured rounds; their median counts").show_default().range(1, 1e6);
  command.option("--warmup", flags.warmup, "rounds before them").show_default().range(0, 1e6);
  command.option("--compare", flags.compare, "what --json printed before: adds its times and their ratio to each row")
      .type("FILE");
  command.flag("--json", flags.json, "one line of JSON");
}

Report::Report(const std::string& bench, const BenchFlags& flags) : flags_(flags) {
  if (flags.threads > 0) set_num_threads(flags.threads);
  const Json here = environment_json();
  head = {{"bench", bench},
          {"processor", here["processor"]},
          {"threads", num_threads()},
          {"isa", name_of(isa())},
          {"blas", blas_name()}};
  if (double load = 0; getloadavg(&load, 1) == 1)
    head["load"] = load;  // above 0 at the start: others compute here, too
  if (!flags.compare.empty()) kept_ = read_kept(flags.compare, bench);
}

void Report::use(const Machine& machine) {
  head["copy_gb_per_s"] = machine.copy_gb_per_s, head["peak_gflops"] = machine.peak_gflops;
}

void Report::add(Json row) { rows_.push_back(std::move(row)); }

// ratio = kept / now: 2 is twice as fast as before.
void Report::compare() {
  std::vector<std::string> differ;
  for (auto& [key, value] : head.members)
    if (!value.is(Json::Kind::real) && kept_.has(key) && kept_[key] != value)
      differ.push_back(text(key, " ", json_text(kept_[key]), " (now ", json_text(value), ")"));
  if (!differ.empty()) warn(flags_.compare + " was measured with " + joined(differ));
  std::vector<Json> left = kept_["rows"].items, fresh;
  for (Json& row : rows_) {
    const auto same = std::find_if(left.begin(), left.end(), [&](const Json& k) { return k["name"] == row["name"]; });
    if (same == left.end()) {
      fresh.push_back(row["name"]);
      continue;
    }
    const double before = (*same)["ms_median"].number();
    row["kept_ms"] = before, row["ratio"] = before / row["ms_median"].number();
    left.erase(same);
  }
  head["only_kept"] = Json::list(), head["only_now"] = fresh;
  for (const Json& row : left) head["only_kept"].add(row["name"]);
}

void Report::print() {
  if (!flags_.compare.empty()) compare();
  const bool one = head["bench"] == "model";  // a single row: its fields beside those of the head
  if (flags_.json) {
    Json all = head;
    if (one) all.update(rows_.front());
    else all["rows"] = rows_;
    std::cout << json_text(all) << "\n";
    return;
  }
  std::string facts;
  for (auto& [key, value] : head.members)
    if (!value.is(Json::Kind::list) && key != "bench" && key != "blas")
      facts += (facts.empty() ? "" : ", ") + heading(key) + " " + cell(value);
  std::vector<std::string> keys, heads;
  for (const Json& row : rows_)
    for (auto& [key, value] : row.members)
      if (!value.is(Json::Kind::list) && std::find(keys.begin(), keys.end(), key) == keys.end())
        keys.push_back(key), heads.push_back(heading(key));
  Table table(heads);
  for (const Json& row : rows_) {
    std::vector<std::string> cells;
    for (const std::string& key : keys) cells.push_back(row.has(key) ? cell(row[key]) : "-");
    table.row(cells);
  }
  std::cout << facts << "\n\n" << table.str();
  for (const char* key : {"only_kept", "only_now"})
    for (const Json& name : std::as_const(head)[key].items) std::cout << heading(key) << ": " << name.string << "\n";
}

void add_bench(Command& program) {
  Command bench = program.command("bench", "Measures speed and memory.",
                                  "fovea bench model --arch resnet50 --size 512x512 --mode infer --threads 2\n"
                                  "fovea bench ops --op relu\n"
                                  "fovea bench conv --explain\n"
                                  "fovea bench ladder\n"
                                  "fovea bench data --json > kept.json; fovea bench data --compare kept.json\n"
                                  "fovea bench parts\n"
                                  "fovea bench eval --images 5000");
  bench.needs_command();
  add_bench_model(bench), add_bench_ops(bench), add_bench_conv(bench), add_bench_ladder(bench), add_bench_data(bench),
      add_bench_parts(bench), add_bench_eval(bench);
}

}  // namespace fovea
