# The libraries that Fovea links: found for the build, and again by the installed package for who uses it.
set(FOVEA_DEPENDENCIES Threads)
if(FOVEA_CUDA)
  list(APPEND FOVEA_DEPENDENCIES CUDAToolkit)
endif()
if(FOVEA_IO)
  list(APPEND FOVEA_DEPENDENCIES JPEG nlohmann_json pugixml)
endif()
