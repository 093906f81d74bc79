// What every test includes, compiled once for each of the programs.
#include <gmock/gmock.h>
#include <gtest/gtest.h>
