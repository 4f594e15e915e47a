# The tests: one program for each tests/test_*.cpp, the examples of the READMEs, an external project, the house rules.
set(test_seconds 300)
set(which_cases)
if(CMAKE_BUILD_TYPE MATCHES "^(Sanitize|Race)$")
  set(sanitized TRUE)
  set(test_seconds 900)
  set(which_cases "~[long]")  # not those that train for seconds: other cases take the same ways
endif()

if(NOT CMAKE_CROSSCOMPILING)  # a cross compiler has no Catch2 nor rapidcheck for its target
  find_package(Catch2 REQUIRED)
  find_path(RAPIDCHECK_INCLUDE rapidcheck.h REQUIRED)
  find_library(RAPIDCHECK_LIBRARY rapidcheck REQUIRED)

  # One object for the main() of all, which is also where they find their precompiled headers.
  add_library(test_main OBJECT tests/main.cpp)
  target_link_libraries(test_main PUBLIC Catch2::Catch2WithMain fovea::fovea fovea_flags)
  target_compile_options(test_main PUBLIC $<$<CONFIG:Release>:-O1>
    $<$<CONFIG:Sanitize>:-Og>)  # half the time to compile
  target_precompile_headers(test_main PRIVATE tests/catch.h <algorithm> <filesystem>)
  file(GLOB test_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/tests/test_*.cpp)
  foreach(source ${test_sources})
    get_filename_component(name ${source} NAME_WE)
    file(STRINGS ${source} needs_io REGEX "include [<\"](data|tools|nlohmann|tests/program)|FOVEA_BINARY_DIR")
    if(needs_io AND NOT FOVEA_IO)
      continue()
    endif()
    add_executable(${name} ${source})
    target_link_libraries(${name} PRIVATE test_main ${RAPIDCHECK_LIBRARY})
    target_precompile_headers(${name} REUSE_FROM test_main)
    target_compile_definitions(${name} PRIVATE FOVEA_SOURCE_DIR="${PROJECT_SOURCE_DIR}"
      FOVEA_BINARY_DIR="${PROJECT_BINARY_DIR}")
    add_test(NAME ${name} COMMAND ${name} ${which_cases})
    set_tests_properties(${name} PROPERTIES TIMEOUT ${test_seconds})
    if(CMAKE_BUILD_TYPE STREQUAL "Sanitize" AND NOT name MATCHES "cuda")  # they play kernels themselves
      target_compile_options(${name} PRIVATE -fno-sanitize=undefined)     # of the library alone
    endif()
  endforeach()
  # The longest begin first, so that no processor waits for them at the end.
  foreach(test test_program test_lab test_device test_bench test_retinanet test_bf16 test_runs)
    if(TARGET ${test})
      set_tests_properties(${test} PROPERTIES COST 100)
    endif()
  endforeach()
  if(FOVEA_IO)
    target_sources(test_lab_stats PRIVATE ${PROJECT_SOURCE_DIR}/tools/lab/stats.cpp
      ${PROJECT_SOURCE_DIR}/tools/lab/cells.cpp)
    foreach(part stats cells results probe scores svg terms figures)
      target_sources(test_lab PRIVATE ${PROJECT_SOURCE_DIR}/tools/lab/${part}.cpp)
    endforeach()
    foreach(part device parity_case parity_detections parity_kinks)
      target_sources(test_cuda_case PRIVATE ${PROJECT_SOURCE_DIR}/tools/${part}.cpp)
    endforeach()
  endif()
  if(TARGET fovea_kernels_amx)  # its instructions played, so that any processor with avx512_bf16 tests the rest of it
    add_library(played_tiles OBJECT ops/cpu/kernel_tiles.cpp)
    target_compile_definitions(played_tiles PRIVATE FOVEA_KERNELS=played)
    target_compile_options(played_tiles PRIVATE -O2 -march=x86-64-v4 -mavx512bf16)
    target_include_directories(played_tiles PRIVATE ${PROJECT_SOURCE_DIR})
    target_link_libraries(test_conv_kernels PRIVATE played_tiles)
    target_compile_definitions(test_conv_kernels PRIVATE FOVEA_PLAYED_TILES=1)
  endif()
  if(FOVEA_IO)  # whole networks in f64: minutes under a sanitizer
    set_tests_properties(test_parity PROPERTIES COST 1000 LABELS release-only
      SKIP_REGULAR_EXPRESSION "skipped: needs")  # all of its cases, together
  endif()
endif()

add_executable(portable tests/portable.cpp)
target_link_libraries(portable PRIVATE fovea::ops fovea_flags)
add_test(NAME portable COMMAND portable)
set_tests_properties(portable PROPERTIES TIMEOUT ${test_seconds})

# The ```cpp block of each folder's README is a whole program: it is compiled as it stands, and run.
file(GLOB readmes CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/*/README.md ${PROJECT_SOURCE_DIR}/*/*/README.md)
foreach(readme ${readmes})
  if(NOT FOVEA_IO AND readme MATCHES "/(data|tools)/README.md$")
    continue()
  endif()
  set_property(DIRECTORY APPEND PROPERTY CMAKE_CONFIGURE_DEPENDS ${readme})
  file(READ ${readme} text)
  string(FIND "${text}" "\n```cpp\n" begin)
  if(begin EQUAL -1)
    continue()
  endif()
  math(EXPR begin "${begin} + 8")
  string(SUBSTRING "${text}" ${begin} -1 text)
  string(FIND "${text}" "\n```\n" end)
  string(SUBSTRING "${text}" 0 ${end} text)
  file(RELATIVE_PATH name ${PROJECT_SOURCE_DIR} ${readme})
  string(REPLACE "/README.md" "" name ${name})
  string(REPLACE "/" "_" name ${name})
  set(source ${PROJECT_BINARY_DIR}/readme/${name}.cpp)
  file(CONFIGURE OUTPUT ${source} CONTENT "${text}\n" @ONLY)
  add_executable(readme_${name} ${source})
  target_link_libraries(readme_${name} PRIVATE fovea::fovea fovea_flags)
  add_test(NAME readme_${name} COMMAND readme_${name} WORKING_DIRECTORY ${PROJECT_BINARY_DIR}/readme)
  set_tests_properties(readme_${name} PROPERTIES TIMEOUT ${test_seconds})
endforeach()

find_program(NODE node)
if(NODE AND FOVEA_IO)
  add_test(NAME lab_page COMMAND ${NODE} ${PROJECT_SOURCE_DIR}/tests/lab_page.js $<TARGET_FILE:fovea>
    ${PROJECT_BINARY_DIR}/lab_page)
elseif(FOVEA_IO)
  message(STATUS "lab_page: no node, left out")
endif()

find_program(PYTHON3 python3)
if(PYTHON3)
  add_test(NAME house COMMAND ${PYTHON3} ${PROJECT_SOURCE_DIR}/tests/house.py)
  foreach(script gpu_check scripts)
    add_test(NAME ${script} COMMAND ${PYTHON3} ${PROJECT_SOURCE_DIR}/tests/${script}.py)
    set_tests_properties(${script} PROPERTIES TIMEOUT ${test_seconds})
  endforeach()
  if(FOVEA_IO)
    add_test(NAME lab_browser COMMAND ${PYTHON3} ${PROJECT_SOURCE_DIR}/tests/lab_browser.py $<TARGET_FILE:fovea>
      ${PROJECT_BINARY_DIR}/lab_browser)
    set_tests_properties(lab_browser PROPERTIES SKIP_RETURN_CODE 77 TIMEOUT ${test_seconds})
  endif()
endif()

if(NOT sanitized AND NOT CMAKE_CROSSCOMPILING)
  add_test(NAME external_project COMMAND ${CMAKE_COMMAND} -DSOURCE=${PROJECT_SOURCE_DIR} -DBUILD=${PROJECT_BINARY_DIR}
    "-DGENERATOR=${CMAKE_GENERATOR}" -DTYPE=${CMAKE_BUILD_TYPE} -DCOMPILER=${CMAKE_CXX_COMPILER}
    -P ${PROJECT_SOURCE_DIR}/tests/external/run.cmake)
  set_tests_properties(external_project PROPERTIES TIMEOUT ${test_seconds})
endif()
