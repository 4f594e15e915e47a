# Installs Fovea into a folder of the build, then configures, builds and runs the external project against it.
# Then compiles it as a project of C++17, with flags of its own, that has Fovea's source as a subdirectory.
# cmake -DSOURCE=.. -DBUILD=.. -DGENERATOR=.. -DTYPE=.. -DCOMPILER=.. -P run.cmake
function(run)
  execute_process(COMMAND ${ARGV} RESULT_VARIABLE result)
  if(result)
    list(JOIN ARGV " " command)
    message(FATAL_ERROR "exit code ${result}: ${command}")
  endif()
endfunction()

set(prefix ${BUILD}/external/prefix)
file(REMOVE_RECURSE ${BUILD}/external)
execute_process(COMMAND ${CMAKE_COMMAND} --install ${BUILD} --prefix ${prefix} OUTPUT_QUIET COMMAND_ERROR_IS_FATAL ANY)
set(configure ${CMAKE_COMMAND} -G "${GENERATOR}" -S ${SOURCE}/tests/external -DCMAKE_BUILD_TYPE=${TYPE}
  -DCMAKE_CXX_COMPILER=${COMPILER})
run(${configure} -B ${BUILD}/external/build -DCMAKE_PREFIX_PATH=${prefix})
run(${CMAKE_COMMAND} --build ${BUILD}/external/build)
run(${BUILD}/external/build/snake)
set(ask ${configure} -B ${BUILD}/external/ask -DCMAKE_PREFIX_PATH=${prefix})
run(${ask} -DFOVEA_ASK=no_such_library)
run(${ask} -DFOVEA_ASK=core -DCMAKE_DISABLE_FIND_PACKAGE_Threads=ON)
if(NOT GENERATOR MATCHES "Ninja")
  return()  # make would build all of Fovea before
endif()
run(${configure} -B ${BUILD}/external/tree -DFOVEA_TREE=${SOURCE} -DFOVEA_IO=OFF -DCMAKE_CXX_STANDARD=17
  -DCMAKE_UNITY_BUILD=ON -DCMAKE_CXX_FLAGS_RELEASE=-O1)
run(${CMAKE_COMMAND} --build ${BUILD}/external/tree --target snake)
