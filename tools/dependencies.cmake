# The libraries that Fovea links: found here for the build, and again by the installed package for who uses it.
find_package(Threads REQUIRED)
if(FOVEA_BLAS STREQUAL "openblas" AND NOT TARGET fovea::openblas)
  find_path(FOVEA_CBLAS_INCLUDE cblas.h PATH_SUFFIXES openblas openblas-pthread REQUIRED)
  find_library(FOVEA_OPENBLAS openblas REQUIRED)
  add_library(fovea::openblas INTERFACE IMPORTED)
  set_target_properties(fovea::openblas PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${FOVEA_CBLAS_INCLUDE}"
    INTERFACE_LINK_LIBRARIES "${FOVEA_OPENBLAS}")
endif()
if(FOVEA_IO)
  find_package(JPEG REQUIRED)
  find_package(nlohmann_json REQUIRED)
  find_package(pugixml REQUIRED)
endif()
