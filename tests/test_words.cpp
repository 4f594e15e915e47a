// Words of messages and files: what is meant by a mistyped one, plurals, numbers, quotes, hashes.
#include "core/words.h"

#include "tests/catch.h"

using namespace fovea;
using Words = std::vector<std::string>;

TEST_CASE("what is meant is the first of the nearest, and nothing where none is near") {
  CHECK(nearest("flpi", {"flop", "flip"}) == "flip");      // a swap is one edit
  CHECK(nearest("mo", {"momentum", "m1"}) == "momentum");  // so is the beginning of a name ...
  CHECK(nearest("lr", {"lo", "train.lr"}) == "lo");
  CHECK(nearest("rate", {"date.x", "train.rate"}) == "train.rate");  // ... or its end behind a dot
  CHECK(nearest("epoch", {"batch", "epoxy", "epochs"}) == "epochs");
  CHECK(nearest("cat", {"elephant"}).empty());
  CHECK(nearest("abc", {"def"}).empty());  // three edits of three letters
  CHECK(nearest("abc", {"abd"}) == "abd");
  CHECK(nearest("ab", {"cd"}) == "cd");                    // two edits are always near
  CHECK(nearest("abcdefgh", {"abcdxxxx"}) == "abcdxxxx");  // half of a long word
  CHECK(nearest("abcdefgh", {"abcxxxxx"}).empty());
  CHECK(nearest("", {"train.lr", "abc"}).empty());
  CHECK(suggestion("lera", {"lear"}) == " (did you mean 'lear'?)");
  CHECK(suggestion("lera", {}).empty());
}

TEST_CASE("numbers have commas, and things a plural") {
  CHECK(count_text(0) == "0");
  CHECK(count_text(999) == "999");
  CHECK(count_text(1000) == "1,000");
  CHECK(count_text(-123456) == "-123,456");
  CHECK(count_text(-1234567) == "-1,234,567");
  CHECK(counted(2, "box") + counted(0, "class") + counted(-1, "step") == "2 boxes0 classes-1 steps");
  CHECK(shortest(0.1) == "0.1");
  CHECK(shortest(1.0 / 3) == "0.3333333333333333");
  int whole = 0;
  CHECK((read_number("-12", whole) && whole == -12));
  for (const char* none : {"", "12x", " 12", "1.5", "99999999999"}) CHECK_FALSE(read_number(none, whole));
}

TEST_CASE("texts are taken apart and put together, and quoted as their readers want it") {
  CHECK(split(" a, b ,,c", ',') == Words{"a", "b", "", "c"});
  CHECK(split("", ',').empty());
  CHECK(trimmed(" \t a b\r\n") == "a b");
  CHECK(trimmed(" \n").empty());
  CHECK(lowered(".JPEG-\xC3\x89z") == ".jpeg-\xC3\x89z");
  CHECK(joined({"a", "b", "c"}) == "a, b, c");
  CHECK(joined({}, "-").empty());
  CHECK(quoted("a\"b\\c\n\x1f\xC3\xA9") == "\"a\\\"b\\\\c\\u000a\\u001f\xC3\xA9\"");
  CHECK(quoted("\x7f") == "\"\\u007f\"");  // TOML takes none as it is
  CHECK(escaped("<a href=\"x\">'&'</a>") == "&lt;a href=&quot;x&quot;&gt;&#39;&amp;&#39;&lt;/a&gt;");
  for (const char* special : {"a b", "$x", "a;b", "*", "~", "(1)", "a\nb", "\xC3\xA9"})
    CHECK(shell_word(special) == std::string("'") + special + "'");
}

TEST_CASE("the hash of names is FNV-1a: the seeds of weights hang on it") {
  CHECK(hash64("") == 0xcbf29ce484222325u);
  CHECK(hash64("a") == 0xaf63dc4c8601ec8cu);
  CHECK(hash64("foobar") == 0x85944171f73967e8u);
}
