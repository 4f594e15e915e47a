# ops/cpu: the drivers are compiled once; kernel_*.cpp once per instruction set, each in a namespace of its own.
# Sets FOVEA_CPU_OBJECTS, which become part of the library fovea::ops.
file(GLOB kernel_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/ops/cpu/kernel_*.cpp)
file(GLOB driver_sources CONFIGURE_DEPENDS ${PROJECT_SOURCE_DIR}/ops/cpu/*.cpp)
list(REMOVE_ITEM driver_sources ${kernel_sources})
set(tile_source ${PROJECT_SOURCE_DIR}/ops/cpu/kernel_tiles.cpp)
list(REMOVE_ITEM kernel_sources ${tile_source})

# fovea_objects(name SOURCES): an object library that is built as the rest is.
macro(fovea_objects name)
  add_library(${name} OBJECT ${ARGN})
  target_include_directories(${name} PRIVATE ${PROJECT_SOURCE_DIR})
  # Not by linking fovea_flags: these options must come first, so that -march may follow.
  target_compile_options(${name} PRIVATE $<TARGET_PROPERTY:fovea_flags,INTERFACE_COMPILE_OPTIONS>)
  list(APPEND FOVEA_CPU_OBJECTS $<TARGET_OBJECTS:${name}>)
endmacro()
# fovea_kernels(name FLAGS...): the kernels of one level.
macro(fovea_kernels name)
  fovea_objects(fovea_kernels_${name} ${kernel_sources})
  target_compile_definitions(fovea_kernels_${name} PRIVATE FOVEA_KERNELS=${name})
  target_compile_options(fovea_kernels_${name} PRIVATE ${ARGN})
endmacro()

fovea_objects(fovea_cpu_drivers ${driver_sources})
fovea_kernels(fallback)
if(CMAKE_SYSTEM_PROCESSOR MATCHES "x86_64|AMD64" AND CMAKE_CXX_COMPILER_ID MATCHES "GNU|Clang")
  fovea_kernels(v3 -march=x86-64-v3)
  fovea_kernels(v4 -march=x86-64-v4 -mprefer-vector-width=512)
  fovea_kernels(v4_bf16 -march=x86-64-v4 -mavx512bf16 -mprefer-vector-width=512)
  fovea_objects(fovea_kernels_amx ${tile_source})  # with the other kernels of v4_bf16
  target_compile_definitions(fovea_kernels_amx PRIVATE FOVEA_KERNELS=amx)
  target_compile_options(fovea_kernels_amx PRIVATE -march=x86-64-v4 -mavx512bf16 -mamx-tile -mamx-bf16
    -mprefer-vector-width=512)
  target_compile_definitions(fovea_cpu_drivers PRIVATE FOVEA_X86_KERNELS=1)
endif()
