// The one main() of all tests, for either version of Catch2.
#if __has_include(<catch2/catch_session.hpp>)
#include <catch2/catch_session.hpp>
int main(int argc, char** argv) { return Catch::Session().run(argc, argv); }
#else
#define CATCH_CONFIG_MAIN
#include <catch2/catch.hpp>
#endif

// Under AddressSanitizer: a request that no machine can meet returns null, as it does without, and is an error of ours.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
