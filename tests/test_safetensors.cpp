// safetensors files: round trips, every kind of damage, and writing on a full disk.
#include "nn/safetensors.h"

#include <fcntl.h>
#include <rapidcheck.h>
#include <sched.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include <bit>
#include <cmath>
#include <csignal>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <set>

#include "core/atomic_file.h"
#include "tests/files.h"
#include "tests/tensors.h"

using namespace fovea;
using namespace fovea::test;
namespace fs = std::filesystem;

namespace {

std::string bytes_of(const std::string& path) {
  std::ifstream in(path, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), {}};
}
void put(const std::string& path, const std::string& bytes) { std::ofstream(path, std::ios::binary) << bytes; }
std::string with_header(const std::string& json, const std::string& data) {
  const uint64_t length = json.size();
  return std::string(reinterpret_cast<const char*>(&length), 8) + json + data;
}
template <class Work> std::string refusal(const Work& work) { return message_of(work, Code::model); }
NamedTensors sample() {
  NamedTensors content;
  content.add("u8", Tensor::from<uint8_t>({3}, {1, 2, 255}));
  content.add("layer1.0.weight", Tensor::from<float>({2, 2}, {1, -0.0f, INFINITY, 1e-42f}));
  content.add("ids", Tensor::from<int64_t>({2, 1}, {-5, int64_t{1} << 60}));
  content.add("wide", Tensor::from<double>({}, {0.1}));
  content.add("half", Tensor::full({5}, 1.5, DType::bf16));
  content.add("none", Tensor(Shape{0, 7}));
  content.add("na\"me\\ \n\xc3\xa9", Tensor::from<float>({1}, {3}));
  content.metadata = {{"format", "pt"}, {"text", "a \"quoted\"\ttext\n\xe2\x82\xac"}, {"empty", ""}};
  return content;
}

}  // namespace

TEST_CASE("what is written is read back to the bit, and writing again gives the same bytes") {
  const Folder folder(memory());
  const std::string path = folder / "a.safetensors";
  const NamedTensors content = sample();
  write_safetensors(path, content);
  const NamedTensors back = read_safetensors(path);
  REQUIRE(back.tensors.size() == content.tensors.size());
  for (auto& [name, t] : content.tensors) CHECK(same_bits(back.at(name), t));
  CHECK(back.metadata == content.metadata);
  const std::string skipped = content.tensors[1].first;
  const NamedTensors rest = read_safetensors(path, skipped);
  CHECK(rest.find(skipped) == nullptr);
  REQUIRE(rest.tensors.size() == content.tensors.size() - 1);
  for (auto& [name, t] : rest.tensors) CHECK(same_bits(t, content.at(name)));
  write_safetensors(folder / "b.safetensors", back);
  CHECK(bytes_of(folder / "b.safetensors") == bytes_of(path));
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 2);  // no temporary file stays
  CHECK(back.find("absent") == nullptr);
  CHECK(refusal([&] { back.at("layer2.0.weight"); }).find("layer1.0.weight") != std::string::npos);
}

TEST_CASE("every tensor lies at a multiple of its elements' size, so that other readers may map it") {
  const Folder folder(memory());
  write_safetensors(folder / "a.safetensors", sample());
  const std::string bytes = bytes_of(folder / "a.safetensors");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), 8);
  CHECK(length % 8 == 0);
  const NamedTensors content = sample();
  for (auto& e :
       parse_safetensors_header(std::string_view(bytes).substr(8, length), bytes.size() - 8 - length, "a").entries)
    CHECK(e.begin % static_cast<uint64_t>(size_of(content.at(e.name).dtype())) == 0);
}

TEST_CASE("F16, I32 and BOOL are converted") {
  const Folder folder(memory());
  const std::string path = folder / "a.safetensors";
  const uint16_t half[] = {0x3c00, 0xc000, 0x0001, 0x83ff, 0x7c00, 0x7bff, 0x3555, 0x8000, 0xfc00, 0x7c01};
  const int32_t whole[] = {-7, 2147483647};
  const std::string json = R"({"h":{"dtype":"F16","shape":[10],"data_offsets":[0,20]},
    "i":{"data_offsets":[20,28],"shape":[2],"dtype":"I32"},"b":{"dtype":"BOOL","shape":[2],"data_offsets":[28,30]},
    "none":{"dtype":"F16","shape":[0,3],"data_offsets":[30,30]}})";
  put(path, with_header(json, std::string(reinterpret_cast<const char*>(half), 20) +
                                  std::string(reinterpret_cast<const char*>(whole), 8) + std::string("\1\0", 2)));
  const NamedTensors read = read_safetensors(path);
  const auto h = read.at("h").values<float>();
  const float want[] = {1, -2, 0x1p-24f, -1023 * 0x1p-24f, INFINITY, 65504, 0.333251953125f, -0.0f, -INFINITY};
  CHECK(std::isnan(h[9]));
  for (int i = 0; i < 9; ++i) CHECK(std::bit_cast<uint32_t>(h[i]) == std::bit_cast<uint32_t>(want[i]));
  CHECK(read.at("i").values<int64_t>() == std::vector<int64_t>{-7, 2147483647});
  CHECK(read.at("b").values<uint8_t>() == std::vector<uint8_t>{1, 0});
  CHECK(read.at("none").shape() == Shape{0, 3});
}

// Writes damaged files and checks that the refusal is one line that names the file and has these words.
struct Damaged {
  void says(const std::string& bytes, const std::string& words) const {
    put(path, bytes);
    const std::string message = refusal([&] { read_safetensors(path); });
    INFO(message);
    CHECK(message.find(path) == 0);
    CHECK(message.find(words) != message.npos);
    CHECK(message.find('\n') == message.npos);
  }
  void header(const std::string& json, const std::string& words) const {
    says(with_header(json, std::string(8, 'x')), words);
  }
  Folder folder{memory()};
  std::string path = folder / "bad.safetensors";
};
const std::string good = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";

TEST_CASE("a file whose sizes cannot be is refused") {
  const Damaged file;
  put(file.path, with_header(good + "  \n\t ", std::string(8, 'x')));
  CHECK(read_safetensors(file.path).at("a").shape() == Shape{2});
  file.says("", "0 bytes");
  file.says("1234567", "7 bytes");
  file.says(std::string("\0\0\0\0\0\0\0\x80", 8) + good, "9223372036854775808");
  file.says(std::string("\xff\xff\xff\xff\xff\xff\xff\xff", 8) + good, "18446744073709551615");
  file.says(with_header(good, std::string(7, 'x')), "cut off");
  file.says(with_header(good, std::string(9, 'x')), "1 bytes follow");
  CHECK(refusal([&] { read_safetensors(file.folder.path.string()); }).find("folder") != std::string::npos);
  CHECK(refusal([&] { read_safetensors(file.folder / "absent"); }).find("cannot be opened") != std::string::npos);
}

TEST_CASE("every kind of damaged header is refused") {
  const Damaged file;
  file.says(with_header("", ""), "begin with '{'");
  file.header(" " + good, "begin with '{'");
  file.header(good + "}", "after its end");
  file.header(good.substr(0, 30), "its header");
  file.header(
      R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]},"a":{"dtype":"U8","shape":[0],"data_offsets":[8,8]}})",
      "twice");
  file.header(R"({"a":{"dtype":"F32","dtype":"F32","shape":[2],"data_offsets":[0,8]}})", "twice");
  file.header(R"({"a":{"dtype":"F32","shape":[2]}})", "lacks");
  file.header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8],"x":1}})", "unknown field");
  file.header(R"({"a":{"dtype":"F31","shape":[2],"data_offsets":[0,8]}})", "F31");
  file.header(R"({"a":{"dtype":"F32","shape":[3],"data_offsets":[0,8]}})", "needs 12 bytes");
  file.header(R"({"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}})", "whole number");
  file.header(R"({"a":{"dtype":"F32","shape":[2.0],"data_offsets":[0,8]}})", "no ']'");
  file.header(R"({"a":{"dtype":"F32","shape":[02],"data_offsets":[0,8]}})", "whole number");
  file.header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}})", "data_offsets");
  file.header(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0]}})", "data_offsets");
  file.header(R"({"a":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,2],"data_offsets":[0,8]}})", "more than 8");
  file.header(R"({"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}})", "more elements");
  file.header(R"({"a":{"dtype":"F32","shape":[4611686018427387906],"data_offsets":[0,8]}})", "more elements");
  file.header(R"({"a":{"dtype":"U8","shape":[0,9223372036854775807],"data_offsets":[0,0]}})", "");
  file.header(R"({"a":{"dtype":"U8","shape":[99999999999999999999],"data_offsets":[0,8]}})", "too large");
  file.header(
      R"({"a":{"dtype":"U8","shape":[5],"data_offsets":[0,5]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
      "overlaps");
  file.header(
      R"({"a":{"dtype":"U8","shape":[3],"data_offsets":[0,3]},"b":{"dtype":"U8","shape":[4],"data_offsets":[4,8]}})",
      "hole");
  file.header(R"({"a":{"dtype":"U8","shape":[7],"data_offsets":[1,8]}})", "hole");
  file.header("{\"a\xff\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", "UTF-8");
  file.header("{\"a\xc0\x80\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", "UTF-8");
  file.header("{\"a\xed\xa0\x80\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", "UTF-8");
  file.header("{\"a\n\":{\"dtype\":\"U8\",\"shape\":[8],\"data_offsets\":[0,8]}}", "control character");
  file.header(R"({"a\ud800":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", "surrogate");
  file.header(R"({"a\q":{"dtype":"U8","shape":[8],"data_offsets":[0,8]}})", "escape");
  file.header(R"({"__metadata__":{"a":1}})", "its header has no '\"'");
  file.header(R"({"__metadata__":{"a":"1","a":"2"}})", "twice");
  file.header("{" + std::string(100'000, '['), "its header");
  file.header(R"({"a":[]})", "its header");
}

TEST_CASE("a header over 100 MB is refused before it is read") {
  const Folder folder(memory());
  const std::string path = folder / "large.safetensors";
  const uint64_t length = 100'000'001;
  put(path, std::string(reinterpret_cast<const char*>(&length), 8));
  fs::resize_file(path, 200'000'000);  // sparse
  CHECK(refusal([&] { read_safetensors(path); }).find("over the limit") != std::string::npos);
}

TEST_CASE("names with escapes are read as JSON means them") {
  const std::string json = R"({"\u00e9\ud83d\ude00\t\/":{"dtype":"U8","shape":[],"data_offsets":[0,1]}})";
  CHECK(parse_safetensors_header(json, 1, "x").entries[0].name == "\xc3\xa9\xf0\x9f\x98\x80\t/");
}

TEST_CASE("a file cut at any byte is refused; one with any bit of its first bytes flipped is read or refused") {
  const Folder folder(memory());
  const std::string path = folder / "cut.safetensors";
  write_safetensors(path, sample());
  const std::string original = bytes_of(path);
  for (size_t n = 0; n < original.size(); ++n) {
    put(path, original.substr(0, n));
    CHECK(refusal([&] { read_safetensors(path); }).find(path) == 0);
  }
  for (size_t bit = 0; bit < original.size() * 8; ++bit) {
    std::string bytes = original;
    bytes[bit / 8] = static_cast<char>(bytes[bit / 8] ^ 1 << bit % 8);
    put(path, bytes);
    const std::string message = refusal([&] { read_safetensors(path); });
    if (!message.empty()) CHECK(message.find(path) == 0);
  }
}

TEST_CASE("flipped, lost and added bytes never crash: an Error, or a file that is still valid") {
  const Folder folder(memory());
  const std::string path = folder / "fuzz.safetensors";
  write_safetensors(path, sample());
  const std::string original = bytes_of(path);
  uint64_t length = 0;
  std::memcpy(&length, original.data(), 8);
  const bool ok = rc::check("damage", [&] {
    std::string bytes = original;
    const auto edits = *rc::gen::inRange(1, 4);
    for (int i = 0; i < edits; ++i) {
      const size_t at = *rc::gen::inRange<size_t>(0, i % 2 ? bytes.size() : std::min<size_t>(bytes.size(), 8 + length));
      switch (*rc::gen::inRange(0, 4)) {
        case 0: bytes[at] = *rc::gen::arbitrary<char>(); break;
        case 1: bytes[at] = *rc::gen::elementOf(std::string("{}[]:,\"\\0123456789 \x80u")); break;
        case 2: bytes.resize(at + 1); break;
        default: bytes.insert(at, *rc::gen::container<std::string>(rc::gen::arbitrary<char>()));
      }
    }
    put(path, bytes);
    try {
      const NamedTensors read = read_safetensors(path);
      size_t total = 0;
      for (auto& [name, t] : read.tensors) total += t.bytes();
      RC_ASSERT(total <= bytes.size() * 2);  // F16 and I32 grow
    } catch (const Error& e) { RC_ASSERT(e.code == Code::model); }
  });
  CHECK(ok);
  CHECK(rc::check("noise", [&](const std::string& bytes) {
    put(path, bytes);
    RC_ASSERT(refusal([&] { read_safetensors(path); }).find(path) == 0);
  }));
}

TEST_CASE("round trips of arbitrary names and shapes") {
  const Folder folder(memory());
  const std::string path = folder / "any.safetensors";
  CHECK(rc::check([&] {
    const auto names =
        *rc::gen::container<std::set<std::string>>(rc::gen::container<std::string>(rc::gen::inRange<char>(1, 127)));
    NamedTensors content;
    for (auto& name : names) {
      const auto dims =
          *rc::gen::container<std::vector<int64_t>>(*rc::gen::inRange(0, 4), rc::gen::inRange<int64_t>(0, 5));
      const DType type = *rc::gen::element(DType::f32, DType::f64, DType::bf16, DType::i64, DType::u8);
      content.add(name, Tensor::full(Shape(dims), *rc::gen::inRange(0, 200), type));
    }
    write_safetensors(path, content);
    const NamedTensors back = read_safetensors(path);
    RC_ASSERT(back.tensors.size() == names.size());
    for (auto& [name, t] : content.tensors) RC_ASSERT(same_bits(back.at(name), t));
  }));
}

TEST_CASE("what cannot be read is not written") {
  const Folder folder(memory());
  const std::string path = folder / "a.safetensors";
  NamedTensors twice, invalid, undefined;
  for (int i = 0; i < 2; ++i) twice.add("a", Tensor::full({}, 1));
  invalid.add("\xff", Tensor::full({}, 1));
  undefined.add("a", Tensor());
  for (auto* content : {&twice, &invalid, &undefined}) CHECK_THROWS_AS(write_safetensors(path, *content), Error);
  CHECK(fs::is_empty(folder.path));
}

// Runs in a child process, which reports by its exit code: writing a large file over `path` must fail as documented.
static int write_too_much(const std::string& path) {
  NamedTensors large;
  large.add("a", Tensor::zeros({100'000}));
  try {
    write_safetensors(path, large);
  } catch (const Error& e) {
    const std::string message = e.what();
    const auto says = [&](const char* words) { return message.find(words) != message.npos; };
    return e.code == Code::failure && message.find(path) == 0 && says("unchanged") &&
                   says("free some space, then try again")
               ? 0
               : 2;
  }
  return 1;
}
static int in_child(const std::function<int()>& run) {
  const pid_t child = fork();
  if (child == 0) _exit(run());
  int status = -1;
  waitpid(child, &status, 0);
  return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

TEST_CASE("a full disk: an error that says so, the old file whole, no temporary left") {
  const Folder folder(memory());
  const std::string path = folder / "a.safetensors";
  write_safetensors(path, sample());
  const std::string before = bytes_of(path);
  CHECK(in_child([&] {  // a limit on the size of files
          signal(SIGXFSZ, SIG_IGN);
          const rlimit limit{4096, 4096};
          setrlimit(RLIMIT_FSIZE, &limit);
          return write_too_much(path);
        }) == 0);
  CHECK(bytes_of(path) == before);
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 1);
  const int tiny = in_child([&] {  // a tmpfs of 64 kB, where this process may mount one
    const bool mounted = unshare(CLONE_NEWNS) == 0 && mount("none", "/", nullptr, MS_REC | MS_PRIVATE, nullptr) == 0 &&
                         mount("none", folder.path.c_str(), "tmpfs", 0, "size=64k") == 0;
    if (!mounted) return 77;
    write_safetensors(path, sample());
    const int result = write_too_much(path);
    const bool whole = bytes_of(path) == before && std::distance(fs::directory_iterator(folder.path), {}) == 1;
    return whole ? result : 3;
  });
  if (tiny == 77) WARN("no permission to mount a tmpfs: the test on a really full disk was left out");
  else CHECK(tiny == 0);
  CHECK_THROWS_WITH(AtomicFile(folder / "no/such/folder"), contains("does the folder exist"));
}

TEST_CASE("a pipe is written and a link is followed: neither is replaced by a file") {
  const Folder folder(memory());
  const std::string pipe = folder / "pipe", link = folder / "link", real = folder / "real";
  REQUIRE(mkfifo(pipe.c_str(), 0600) == 0);
  const int reader = open(pipe.c_str(), O_RDONLY | O_NONBLOCK);
  REQUIRE(reader >= 0);
  write_file_atomically(pipe, "seven\n");
  char got[8] = {};
  CHECK(read(reader, got, sizeof got) == 6);
  CHECK(std::string(got) == "seven\n");
  close(reader);
  CHECK(fs::is_fifo(pipe));
  write_file_atomically(real, "old");
  fs::create_symlink("real", link);
  write_file_atomically(link, "new");
  CHECK(fs::is_symlink(link));
  CHECK(bytes_of(real) == "new");
  CHECK(std::distance(fs::directory_iterator(folder.path), {}) == 3);
}

TEST_CASE("a link to no file yet gets one, and links in a ring are refused") {
  const Folder folder;
  fs::create_directory(folder / "run");
  fs::create_symlink("run/link", folder / "first");
  fs::create_symlink("made", folder / "run/link");
  write_file_atomically(folder / "first", "new");
  CHECK(fs::is_symlink(folder / "first"));
  CHECK(fs::is_symlink(folder / "run/link"));
  CHECK(bytes_of(folder / "run/made") == "new");
  fs::create_symlink("ring", folder / "ring");
  CHECK_THROWS_WITH(write_file_atomically(folder / "ring", "new"), contains("ring: cannot be written"));
  CHECK(fs::is_symlink(folder / "ring"));
}

TEST_CASE("standard output in a file is written after what was printed, not replaced") {
  const Folder folder;
  const std::string path = folder / "out";
  for (const char* name : {"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"}) {
    CHECK(in_child([&] {
            const int file = open(path.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
            if (dup2(file, 1) != 1 || write(1, "one\n", 4) != 4) return 1;
            write_file_atomically(name, "two\n");
            struct stat before, after;
            return fstat(1, &before) == 0 && stat(path.c_str(), &after) == 0 && before.st_ino == after.st_ino ? 0 : 2;
          }) == 0);
    CHECK(bytes_of(path) == "one\ntwo\n");
  }
}
