// What all tests share beside the main() that Catch2 brings.
// Under AddressSanitizer: a request that no machine can meet returns null, as it does without, and is an error of ours.
extern "C" const char* __asan_default_options() { return "allocator_may_return_null=1"; }
