#include "base/text.h"

#include <gtest/gtest.h>

#include <string>

namespace ace {
namespace {

std::string json(const char *s) {
  char text[256];
  TextBuffer buffer(text, sizeof text);
  buffer.add_json_string(s);
  return buffer.text();
}

TEST(Text, AStringOfJson) {
  EXPECT_EQ(json("plain"), "\"plain\"");
  EXPECT_EQ(json("a \"b\" \\ \n c\td"), "\"a \\\"b\\\" \\\\ \\n cd\"");
}

TEST(Text, WholeCharactersStay) {
  for (const char *s :
       {"caf\xc3\xa9", "\xe6\x97\xa5\xe6\x9c\xac", "\xf0\x9f\x98\x80", "\xed\x9f\xbf", "\xf4\x8f\xbf\xbf"})
    EXPECT_EQ(json(s), std::string("\"") + s + "\"");
}

TEST(Text, BytesThatAreNoUtf8AreEscaped) {
  EXPECT_EQ(json("caf\xe9!"), "\"caf\\udce9!\"");
  EXPECT_EQ(json("cut \xc3"), "\"cut \\udcc3\"");  // at the end
  EXPECT_EQ(json("cut \xe6\x97"), "\"cut \\udce6\\udc97\"");
  EXPECT_EQ(json("\xc0\x80"), "\"\\udcc0\\udc80\"");  // longer than need be
  EXPECT_EQ(json("\xe0\x80\x80"), "\"\\udce0\\udc80\\udc80\"");
  EXPECT_EQ(json("\xed\xa0\x80"), "\"\\udced\\udca0\\udc80\"");             // half of a pair
  EXPECT_EQ(json("\xf4\x90\x80\x80"), "\"\\udcf4\\udc90\\udc80\\udc80\"");  // beyond the last
}

TEST(Text, NothingIsWrittenBehindTheEnd) {
  char text[8] = "xxxxxxx";
  TextBuffer buffer(text, 4);
  buffer.add_json_string("long");
  EXPECT_FALSE(buffer.fits());
  EXPECT_EQ(std::string(text + 4), "xxx");
}

}  // namespace
}  // namespace ace
