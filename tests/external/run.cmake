# Installs Fovea into a folder of the build, then configures, builds and runs the external project against it.
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
run(${CMAKE_COMMAND} -G "${GENERATOR}" -S ${SOURCE}/tests/external -B ${BUILD}/external/build
  -DCMAKE_PREFIX_PATH=${prefix} -DCMAKE_BUILD_TYPE=${TYPE} -DCMAKE_CXX_COMPILER=${COMPILER})
run(${CMAKE_COMMAND} --build ${BUILD}/external/build)
run(${BUILD}/external/build/snake)
