// Text that is put together in a buffer: no allocation, and nothing is written behind its end.
#pragma once
#include <stdarg.h>
#include <stdio.h>

#include <cstddef>

namespace ace {

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

  // A string of JSON; control characters other than ends of lines are left out.
  void add_json_string(const char *s) {
    add("\"");
    for (; *s != '\0'; ++s) {
      if (*s == '\n') {
        add("\\n");
      } else if (static_cast<unsigned char>(*s) >= 0x20) {
        add(*s == '"' || *s == '\\' ? "\\%c" : "%c", *s);
      }
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
