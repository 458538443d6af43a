# Building on ROS 2 wheels instead of an installed ROS 2: injected with CMAKE_PROJECT_INCLUDE by
# setup.py and `make colcon`, so that CMakeLists.txt stays what it is on a robot.

find_package(ament_cmake REQUIRED)
find_package(rosidl_default_generators REQUIRED)

# The C++ type supports are of no use to Python nodes and cost two thirds of the build.
list(FILTER AMENT_EXTENSIONS_rosidl_generate_idl_interfaces EXCLUDE REGEX "_cpp:")

# Clean-up before CMake generates:
# - Some imported targets of the wheels name an include directory of the machine that built them,
#   which CMake refuses. Nothing of ours needs those directories.
# - With the environment inside the source tree (.venv), the generator's target would export
#   numpy's headers as a path in the source tree, which CMake refuses too.
function(gs_pose_clean_include_directories)
  get_property(imported DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY IMPORTED_TARGETS)
  get_property(own DIRECTORY "${CMAKE_SOURCE_DIR}" PROPERTY BUILDSYSTEM_TARGETS)
  foreach(target IN LISTS imported own)
    get_target_property(dirs ${target} INTERFACE_INCLUDE_DIRECTORIES)
    if(NOT dirs)
      continue()
    endif()
    set(kept "")
    foreach(dir IN LISTS dirs)
      if(dir MATCHES "^\\$<")
        list(APPEND kept "${dir}")
      elseif(NOT EXISTS "${dir}")
        continue()
      elseif(target IN_LIST own)
        list(APPEND kept "$<BUILD_INTERFACE:${dir}>")
      else()
        list(APPEND kept "${dir}")
      endif()
    endforeach()
    if(NOT kept STREQUAL dirs)
      set_target_properties(${target} PROPERTIES INTERFACE_INCLUDE_DIRECTORIES "${kept}")
    endif()
  endforeach()
endfunction()
cmake_language(DEFER CALL gs_pose_clean_include_directories)
