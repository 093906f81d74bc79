// Text that is put together in a buffer: no allocation, and nothing is written behind its end.
#pragma once
#include <stdarg.h>
#include <stdio.h>

#include <cstddef>

namespace ace {

// Of the character at `s`, in bytes; 0 where that is none.
inline unsigned utf8_length(const char *s) {
  const auto byte = [s](unsigned i) { return static_cast<unsigned char>(s[i]); };
  const unsigned first = byte(0);
  if (first < 0x80) return 1;
  const unsigned length = first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
  for (unsigned i = 1; i < length; ++i) {
    if ((byte(i) & 0xc0) != 0x80) return 0;
  }
  // Longer than need be, half of a pair, beyond the last.
  if (first == 0xe0 || first == 0xf0) return byte(1) < (first == 0xe0 ? 0xa0 : 0x90) ? 0 : length;
  if (first == 0xed || first == 0xf4) return byte(1) < (first == 0xed ? 0xa0 : 0x90) ? length : 0;
  return length;
}

class TextBuffer {
 public:
  TextBuffer(char *text, size_t size) : text_(text), size_(size) {}

  __attribute__((format(printf, 2, 3))) void add(const char *format, ...) {
    if (!fits()) return;
    va_list values;
    va_start(values, format);
    const int n = vsnprintf(text_ + length_, size_ - length_, format, values);
    va_end(values);
    length_ += n < 0 ? size_ : static_cast<size_t>(n);
  }

  // A string of JSON; control characters other than ends of lines are left out. Bytes that are no UTF-8 come as
  // Python's surrogateescape has them, so that a file's name is still told.
  void add_json_string(const char *s) {
    add("\"");
    while (*s != '\0') {
      const unsigned length = utf8_length(s);
      if (length == 0) {
        add("\\udc%02x", static_cast<unsigned char>(*s));
      } else if (length > 1) {
        add("%.*s", static_cast<int>(length), s);
      } else if (*s == '\n') {
        add("\\n");
      } else if (static_cast<unsigned char>(*s) >= 0x20) {
        add(*s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
      }
      s += length == 0 ? 1 : length;
    }
    add("\"");
  }

  // False once something did not: the text then ends in the middle, with a final zero.
  bool fits() const { return length_ < size_; }
  // What was written, without the final zero.
  size_t length() const { return fits() ? length_ : size_ - 1; }
  const char *text() const { return text_; }

 private:
  char *text_;
  size_t size_, length_ = 0;
};

}  // namespace ace
